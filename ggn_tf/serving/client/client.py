"""Clients that send patches or regions of a CT to a model server, blocking or with asyncio."""

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

from ggn_tf.serving.client.client_protocol import (
    PAUSES_S,
    ClientSession,
    Exchange,
    Result,
    ServedName,
    channel_options,
    open_channel,
)
from ggn_tf.serving.contract.messages import MODEL_AXES, Prediction
from ggn_tf.serving.contract.tls import ClientTls, full_address
from ggn_tf.serving.contract.wire import MODEL_NAME

_RECONNECT = (
    # Find a starting server at the pace of our retries: gRPC's own backoff begins with a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
)


_Options = tuple[tuple[str, int | str], ...]


class _Client(ABC):
    """What both clients share; nothing is sent before the first call."""

    def __init__(
        self,
        target: str,
        model_name: str = MODEL_NAME,
        timeout_s: float = 60.0,
        pauses_s: Iterable[float] = PAUSES_S,
        version: int | None = None,
        proxy: str | None = None,
        tls: ClientTls | None = None,
    ) -> None:
        self.target = full_address(target)
        self._session = ClientSession(ServedName(self.target, model_name, version), timeout_s, pauses_s)
        credentials = None if tls is None else tls.credentials()
        self._channel = self._open_channel(self.target, (*channel_options(proxy), *_RECONNECT), credentials)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    @staticmethod
    @abstractmethod
    def _open_channel(target: str, options: _Options, credentials: grpc.ChannelCredentials | None) -> Any: ...


class PredictionClient(_Client, AbstractContextManager["PredictionClient"]):
    """A client of a model server, TensorFlow Serving or `ggn-tf serve`.

    The first call checks that the server's model has the signature of the contract. An unavailable server is tried
    again after growing pauses, within the timeout.

    Args:
        target: HOST:PORT; an IPv6 address in brackets.
        model_name: Name of the model on the server.
        timeout_s: Time for one call, retries included, seconds.
        pauses_s: Pauses before the first, second, ... retry, seconds.
        version: The only version to use; None for the newest.
        proxy: HTTP proxy to connect through; None for none, whatever the environment names.
        tls: Files for an encrypted connection; None for one that is not encrypted.
    """

    @staticmethod
    def _open_channel(target: str, options: _Options, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
        return open_channel(target, options, credentials)

    def patch_shape(self) -> tuple[int, ...]:
        """The shape of a patch that the served model takes, for example (32, 32, 32, 1).

        Raises:
            ServingError: The server cannot be reached, or its model is not an export of ggn-tf.
        """
        return self._run(self._session.patch_shape())

    def output_names(self) -> tuple[str, ...]:
        """The outputs of the served model for patches; raises as `patch_shape`."""
        return self._run(self._session.output_names())

    def predict(self, hu: np.ndarray) -> Prediction:
        """Predict patches, in as many requests as needed, all by one version.

        Args:
            hu: [N, 32, 32, 32, 1], Hounsfield units on the patch grid, axes S, P, L.

        Raises:
            ServingError: The patches or the model do not follow the contract, or the server refuses or is gone.
        """
        return self._run(self._session.predict(hu))

    def predict_roi(
        self,
        hu: np.ndarray,
        spacing_mm: np.ndarray,
        center_index: np.ndarray,
        axes: str = MODEL_AXES,
        *,
        recenter: bool = False,
    ) -> Prediction:
        """Predict the nodules in regions of a CT as the scanner wrote it; the served graph cuts the patches.

        Args:
            hu: [N, D, H, W], Hounsfield units.
            spacing_mm: [N, 3], spacing of the regions' voxels, in the order of the axes of `hu`.
            center_index: [N, 3], the nodules' centres in voxels of the regions, 0 at the first voxel's centre.
            axes: The directions in which the axes of `hu` run, first axis first, for example `IPL`; see
                `order_regions`.
            recenter: Whether the graph moves each centre to the centroid of the nodule that it finds, at most three
                times, and predicts the patch around that. The prediction then contains the last centres.

        Raises:
            ServingError: The regions or the model do not follow the contract, or the server refuses or is gone.
        """
        return self._run(self._session.predict_roi(hu, spacing_mm, center_index, axes, recenter))

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, exchange: Exchange[Result]) -> Result:
        retries, response = self._session.retries(), None
        while True:
            try:
                rpc = exchange.send(response)
            except StopIteration as end:
                return end.value
            response = None
            while response is None:
                try:
                    response = getattr(self._stub, rpc.method)(rpc.request, timeout=retries.left_s)
                except grpc.RpcError as error:
                    time.sleep(retries.pause_s(error))


class AsyncPredictionClient(_Client, AbstractAsyncContextManager["AsyncPredictionClient"]):
    """`PredictionClient` for asyncio: the same arguments, the same methods to be awaited, within one event loop."""

    @staticmethod
    def _open_channel(target: str, options: _Options, credentials: grpc.ChannelCredentials | None) -> aio.Channel:
        if credentials is None:
            return aio.insecure_channel(target, options=options)
        return aio.secure_channel(target, credentials, options=options)

    async def patch_shape(self) -> tuple[int, ...]:
        """The same as `PredictionClient.patch_shape`."""
        return await self._run(self._session.patch_shape())

    async def predict(self, hu: np.ndarray) -> Prediction:
        """The same as `PredictionClient.predict`."""
        return await self._run(self._session.predict(hu))

    async def predict_roi(
        self,
        hu: np.ndarray,
        spacing_mm: np.ndarray,
        center_index: np.ndarray,
        axes: str = MODEL_AXES,
        *,
        recenter: bool = False,
    ) -> Prediction:
        """The same as `PredictionClient.predict_roi`."""
        return await self._run(self._session.predict_roi(hu, spacing_mm, center_index, axes, recenter))

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, exchange: Exchange[Result]) -> Result:
        retries, response = self._session.retries(), None
        while True:
            try:
                rpc = exchange.send(response)
            except StopIteration as end:
                return end.value
            response = None
            while response is None:
                try:
                    response = await getattr(self._stub, rpc.method)(rpc.request, timeout=retries.left_s)
                except grpc.RpcError as error:
                    await asyncio.sleep(retries.pause_s(error))
