"""The client: patches or pieces of a CT to a model server, and its answers held to the contract."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import grpc
import numpy as np
from grpc import aio
from tensorflow_serving.apis import prediction_service_pb2_grpc

from ggn_tf.serving.client.client_protocol import PAUSES_S, Conversation, Talk, Told
from ggn_tf.serving.contract.messages import Prediction
from ggn_tf.serving.contract.names import MODEL_NAME

_GRPC_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A server that is just starting is found at our own pace, not at gRPC's of a second and more.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
)


class _Client(ABC):
    """What both clients are made of; nothing is sent before the first question."""

    def __init__(
        self,
        target: str,
        model_name: str = MODEL_NAME,
        timeout_s: float = 60.0,
        pauses_s: Iterable[float] = PAUSES_S,
        version: int | None = None,
    ) -> None:
        """See `PredictionClient`."""
        self.target = target
        self.model_name = model_name
        self._conversation = Conversation(target, model_name, version, timeout_s, pauses_s)
        self._channel = self._open_channel(target)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    @staticmethod
    @abstractmethod
    def _open_channel(target: str) -> Any: ...


class PredictionClient(_Client, AbstractContextManager["PredictionClient"]):
    """Asks a model server, TensorFlow Serving or `ggn-tf serve`, over an unencrypted channel.

    The first question checks that the server's model has the signature of the contract. A server that is unavailable
    is asked again, at growing intervals, within the timeout.

    Args:
        target: HOST:PORT.
        model_name: What the server calls the model.
        timeout_s: For one question, retries included.
        pauses_s: Before an unavailable server is asked for the second time, the third, and so on.
        version: The only version to ask; None for the newest.
    """

    @staticmethod
    def _open_channel(target: str) -> grpc.Channel:
        return grpc.insecure_channel(target, options=_GRPC_OPTIONS)

    def patch_shape(self) -> tuple[int, ...]:
        """The shape of a patch that the served model takes, for example (32, 32, 32, 1).

        Raises:
            ServingError: The server cannot be asked, or its model is not one of ours.
        """
        return self._carry(self._conversation.patch_shape())

    def predict(self, hu: np.ndarray) -> Prediction:
        """Ask about patches, in as many requests as it takes; all answers are of one version.

        Args:
            hu: [N, S, S, S, 1], Hounsfield units on the patch grid, axes z, y, x.

        Raises:
            ServingError: The patches or the model are not as the contract says, or the server refuses or is gone.
        """
        return self._carry(self._conversation.predict(hu))

    def predict_roi(self, hu: np.ndarray, spacing_mm_zyx: np.ndarray, center_index_zyx: np.ndarray) -> Prediction:
        """Ask about pieces of a CT as the scanner wrote it; the served graph cuts the patches.

        Args:
            hu: [N, D, H, W], Hounsfield units, axes z, y, x.
            spacing_mm_zyx: [N, 3], of the regions' voxels.
            center_index_zyx: [N, 3], the nodules' centres in voxels of the regions, 0 at the first voxel's centre.

        Raises:
            ServingError: The regions or the model are not as the contract says, or the server refuses or is gone.
        """
        return self._carry(self._conversation.predict_roi(hu, spacing_mm_zyx, center_index_zyx))

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _carry(self, talk: Talk[Told]) -> Told:
        retries, answer = self._conversation.retries(), None
        while True:
            try:
                call = talk.send(answer)
            except StopIteration as end:
                return end.value
            answer = None
            while answer is None:
                try:
                    answer = getattr(self._stub, call.method)(call.request, timeout=retries.left_s)
                except grpc.RpcError as error:
                    time.sleep(retries.pause_s(error))


class AsyncPredictionClient(_Client, AbstractAsyncContextManager["AsyncPredictionClient"]):
    """`PredictionClient` for asyncio: the same arguments and questions, to be awaited; used in one event loop alone."""

    @staticmethod
    def _open_channel(target: str) -> aio.Channel:
        return aio.insecure_channel(target, options=_GRPC_OPTIONS)

    async def patch_shape(self) -> tuple[int, ...]:
        """See `PredictionClient.patch_shape`."""
        return await self._carry(self._conversation.patch_shape())

    async def predict(self, hu: np.ndarray) -> Prediction:
        """See `PredictionClient.predict`."""
        return await self._carry(self._conversation.predict(hu))

    async def predict_roi(self, hu: np.ndarray, spacing_mm_zyx: np.ndarray, center_index_zyx: np.ndarray) -> Prediction:
        """See `PredictionClient.predict_roi`."""
        return await self._carry(self._conversation.predict_roi(hu, spacing_mm_zyx, center_index_zyx))

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def _carry(self, talk: Talk[Told]) -> Told:
        retries, answer = self._conversation.retries(), None
        while True:
            try:
                call = talk.send(answer)
            except StopIteration as end:
                return end.value
            answer = None
            while answer is None:
                try:
                    answer = await getattr(self._stub, call.method)(call.request, timeout=retries.left_s)
                except grpc.RpcError as error:
                    await asyncio.sleep(retries.pause_s(error))
