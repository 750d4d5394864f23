"""The client: patches to a model server, and its answers held to the contract."""

import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self, TypeVar

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, prediction_service_pb2_grpc

from ggn_tf.errors import ServingError
from ggn_tf.serving.contract import (
    INPUT_HU,
    LARGEST_BATCH,
    MODEL_NAME,
    OUTPUT_CLASS_NAMES,
    OUTPUT_MASK,
    OUTPUT_PROBABILITIES,
    OUTPUT_WARNING,
    SIGNATURE,
    shape_text,
)
from ggn_tf.serving.messages import Prediction, join, make_request, read_response

Answer = TypeVar("Answer")

PAUSES_S = (0.2, 0.4, 0.8, 1.6)
_FIELD = "signature_def"
_DTYPES = {
    INPUT_HU: types_pb2.DT_FLOAT,
    OUTPUT_PROBABILITIES: types_pb2.DT_FLOAT,
    OUTPUT_MASK: types_pb2.DT_FLOAT,
    OUTPUT_CLASS_NAMES: types_pb2.DT_STRING,
    OUTPUT_WARNING: types_pb2.DT_STRING,
}
_GRPC_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A server that is just starting is found at our own pace, not at gRPC's of a second and more.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
)
_REMEDIES = {
    grpc.StatusCode.UNAVAILABLE: "Start a server with ggn-tf serve MODELS/NAME, or check host and port.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "Allow more time, or look at what else the server is doing.",
    grpc.StatusCode.NOT_FOUND: "Name the model as the server does (its --model_name).",
    grpc.StatusCode.UNIMPLEMENTED: "Name the gRPC port of a model server (8500 by default), not its REST port.",
}


class PredictionClient:
    """Asks a model server, TensorFlow Serving or `ggn-tf serve`, over an unencrypted channel.

    The first question checks that the server's model has the signature of the contract. A server that is unavailable
    is asked again, at growing intervals, within the timeout.

    Args:
        target: HOST:PORT.
        model_name: What the server calls the model.
        timeout_s: For one call of `predict`, retries included.
        pauses_s: Before an unavailable server is asked for the second time, the third, and so on.
    """

    def __init__(
        self,
        target: str,
        model_name: str = MODEL_NAME,
        timeout_s: float = 60.0,
        pauses_s: Iterable[float] = PAUSES_S,
    ) -> None:
        """Nothing is sent before the first question."""
        self.target = target
        self.model_name = model_name
        self._timeout_s = timeout_s
        self._pauses_s = pauses_s
        self._channel = grpc.insecure_channel(target, options=_GRPC_OPTIONS)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._patch_shape: tuple[int, ...] | None = None

    def patch_shape(self) -> tuple[int, ...]:
        """The shape of a patch that the served model takes, for example (32, 32, 32, 1).

        Raises:
            ServingError: The server cannot be asked, or its model is not one of ours.
        """
        return self._checked_patch_shape(time.monotonic() + self._timeout_s)

    def predict(self, hu: np.ndarray) -> Prediction:
        """Ask about patches, in as many requests as it takes; all answers are of one version.

        Args:
            hu: [N, S, S, S, 1], Hounsfield units on the patch grid, axes z, y, x.

        Raises:
            ServingError: The patches or the model are not as the contract says, or the server refuses or is gone.
        """
        ends = time.monotonic() + self._timeout_s
        patch_shape = self._checked_patch_shape(ends)
        if hu.ndim != 5 or hu.shape[1:] != patch_shape or len(hu) == 0:
            raise ServingError(
                "The patches do not have the shape that the model takes.",
                case=self._case,
                found=shape_text(hu.shape),
                expected=f"{shape_text((None, *patch_shape))} with N at least 1",
                remedy="Cut patches with ggn_tf.cases.patches.cut_patch.",
            )
        chunks = [hu[start : start + LARGEST_BATCH] for start in range(0, len(hu), LARGEST_BATCH)]
        parts = [self._ask(chunk, ends) for chunk in chunks]
        while len({part.model_version for part in parts}) > 1:
            # The model was swapped between two chunks: ask all of the newer one.
            parts = [self._ask(chunk, ends) for chunk in chunks]
        return join(parts)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    @property
    def _case(self) -> str:
        return f"model {self.model_name} on {self.target}"

    def _ask(self, hu: np.ndarray, ends: float) -> Prediction:
        request = make_request(hu, self.model_name)
        return read_response(self._call(lambda left_s: self._stub.Predict(request, timeout=left_s), ends), hu.shape)

    def _checked_patch_shape(self, ends: float) -> tuple[int, ...]:
        if self._patch_shape is None:
            request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[_FIELD])
            request.model_spec.name = self.model_name
            response = self._call(lambda left_s: self._stub.GetModelMetadata(request, timeout=left_s), ends)
            signatures = get_model_metadata_pb2.SignatureDefMap()
            response.metadata[_FIELD].Unpack(signatures)
            self._patch_shape = self._patch_shape_of(signatures.signature_def[SIGNATURE])
        return self._patch_shape

    def _patch_shape_of(self, signature: meta_graph_pb2.SignatureDef) -> tuple[int, ...]:
        tensors = {**signature.inputs, **signature.outputs}
        found = {name: tensor.dtype for name, tensor in tensors.items()}
        shape = tuple(dim.size for dim in tensors[INPUT_HU].tensor_shape.dim) if INPUT_HU in tensors else ()
        if found != _DTYPES or len(shape) != 5:
            raise ServingError(
                "The served model is not one of ours.",
                case=self._case,
                found=f"{SIGNATURE}: {_told(found)}",
                expected=_told(_DTYPES),
                remedy="Serve a model that ggn-tf export wrote, or name it as the server does.",
            )
        return shape[1:]

    def _call(self, call: Callable[[float], Answer], ends: float) -> Answer:
        """Call until an answer comes, other than UNAVAILABLE, or the attempts or the time are used up."""
        pauses_s = iter(self._pauses_s)
        while True:
            try:
                return call(max(0.001, ends - time.monotonic()))
            except grpc.RpcError as error:
                pause_s = next(pauses_s, None) if error.code() == grpc.StatusCode.UNAVAILABLE else None
                if pause_s is None or time.monotonic() + pause_s >= ends:
                    raise self._refused(error) from error
            time.sleep(pause_s)

    def _refused(self, error: grpc.RpcError) -> ServingError:
        code = error.code()
        return ServingError(
            "No model server answers." if code == grpc.StatusCode.UNAVAILABLE else "The model server refuses.",
            case=self._case,
            found=f"{code.name}: {error.details()}",
            expected=f"an answer within {self._timeout_s:g} s",
            remedy=_REMEDIES.get(code, "Check that client and server have the same version of ggn-tf."),
        )


def _told(dtypes: dict[str, int]) -> str:
    names = (f"{name} {types_pb2.DataType.Name(dtype)}" for name, dtype in sorted(dtypes.items()))
    return ", ".join(names) or "no such signature"
