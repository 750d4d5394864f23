"""What a client and a model server say to each other, whoever carries the messages.

A conversation is a generator: it yields a `Call` and is sent the answer. `ggn_tf.serving.client.client` carries them,
blocking or with asyncio.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2, predict_pb2

from ggn_tf.errors import ServingError
from ggn_tf.serving.contract.messages import Prediction, join, make_request, make_roi_request, read_response
from ggn_tf.serving.contract.names import (
    DTYPES,
    INPUTS,
    LARGEST_BATCH,
    MODEL_NAME,
    OUTPUT_MASK,
    OUTPUTS,
    SIGNATURE,
    SIGNATURE_ROI,
    shape_text,
)

PAUSES_S = (0.2, 0.4, 0.8, 1.6)
LARGEST_MESSAGE_BYTES = 4 * 2**20 - 2**16
"""gRPC's default limit, less room for names: whatever stands between client and server may have kept to it."""

Told = TypeVar("Told")
_FIELD = "signature_def"
_REMEDIES = {
    grpc.StatusCode.UNAVAILABLE: "Start a server with ggn-tf serve MODELS/NAME, or check host and port.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "Allow more time, or look at what else the server is doing.",
    grpc.StatusCode.NOT_FOUND: "Name the model as the server does (its --model_name), and a version that it serves.",
    grpc.StatusCode.UNIMPLEMENTED: "Name the gRPC port of a model server (8500 by default), not its REST port.",
}

_EXPECTED = {
    grpc.StatusCode.NOT_FOUND: "a model, and a version of it, that the server has",
    grpc.StatusCode.UNIMPLEMENTED: "TensorFlow Serving's protocol",
    grpc.StatusCode.INVALID_ARGUMENT: "a request that the model takes",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "a message within the server's limit",
}


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        method: Of the PredictionService.
        request: Its message.
    """

    method: str
    request: Any


Talk = Generator[Call, Any, Told]


@dataclass
class Conversation:
    """The client's side, with what it has learned of the server's model.

    Args:
        target: HOST:PORT, for messages to a person.
        model_name: What the server calls the model.
        version: The only version to ask; None for the newest.
        timeout_s: For one question, retries included.
        pauses_s: Before an unavailable server is asked for the second time, the third, and so on. Nothing but
            UNAVAILABLE is asked again: a message that is too large (RESOURCE_EXHAUSTED) or wrong stays so.
    """

    target: str
    model_name: str = MODEL_NAME
    version: int | None = None
    timeout_s: float = 60.0
    pauses_s: Iterable[float] = PAUSES_S
    _signatures: dict[str, meta_graph_pb2.SignatureDef] = field(default_factory=dict)

    @property
    def case(self) -> str:
        """Whom we talk to, for a person."""
        version = "" if self.version is None else f" version {self.version}"
        return f"model {self.model_name}{version} on {self.target}"

    def patch_shape(self) -> Talk[tuple[int, ...]]:
        """Learn the shape of a patch, for example (32, 32, 32, 1)."""
        signature = yield from self._checked(SIGNATURE)
        return tuple(dim.size for dim in signature.outputs[OUTPUT_MASK].tensor_shape.dim)[1:]

    def predict(self, hu: np.ndarray) -> Talk[Prediction]:
        """Ask about patches [N, S, S, S, 1]."""
        patch_shape = yield from self.patch_shape()
        if hu.ndim != 5 or hu.shape[1:] != patch_shape or len(hu) == 0:
            raise ServingError(
                "The patches do not have the shape that the model takes.",
                case=self.case,
                found=shape_text(hu.shape),
                expected=f"{shape_text((None, *patch_shape))} with N at least 1",
                remedy="Cut patches with ggn_tf.cases.patches.cut_patch.",
            )
        return (yield from self._ask(lambda rows: make_request(hu[rows], self.model_name), hu, patch_shape))

    def predict_roi(self, hu: np.ndarray, spacing_mm_zyx: np.ndarray, center_index_zyx: np.ndarray) -> Talk[Prediction]:
        """Ask about regions [N, D, H, W], of spacing [N, 3] and centre [N, 3]."""
        yield from self._checked(SIGNATURE_ROI)
        patch_shape = yield from self.patch_shape()
        triples = (len(hu), 3)
        if hu.ndim != 4 or 0 in hu.shape or spacing_mm_zyx.shape != triples or center_index_zyx.shape != triples:
            raise ServingError(
                "The regions do not have the shapes that the model takes.",
                case=self.case,
                found=", ".join(shape_text(array.shape) for array in (hu, spacing_mm_zyx, center_index_zyx)),
                expected="regions [N,D,H,W] with N at least 1, spacing [N,3], centres [N,3]",
                remedy="Give as many spacings and centres as regions, in the order z, y, x.",
            )

        def request(rows: slice) -> predict_pb2.PredictRequest:
            return make_roi_request(hu[rows], spacing_mm_zyx[rows], center_index_zyx[rows], self.model_name)

        return (yield from self._ask(request, hu, patch_shape))

    def retries(self) -> "Retries":
        """For one question; the clock starts now."""
        return Retries(self, iter(self.pauses_s), time.monotonic() + self.timeout_s)

    def _ask(
        self, request: Callable[[slice], predict_pb2.PredictRequest], hu: np.ndarray, patch_shape: tuple[int, ...]
    ) -> Talk[Prediction]:
        """Ask in as many requests as it takes, until all answers are of one version."""
        size = max(1, min(LARGEST_BATCH, LARGEST_MESSAGE_BYTES // (4 * int(np.prod(hu.shape[1:])))))
        chunks = [slice(start, min(start + size, len(hu))) for start in range(0, len(hu), size)]
        while True:
            parts = []
            for rows in chunks:
                asked = request(rows)
                self._pin(asked.model_spec)
                response = yield Call("Predict", asked)
                parts.append(read_response(response, (rows.stop - rows.start, *patch_shape)))
            # Where the model was swapped between two chunks, ask all of the newer one.
            if len({part.model_version for part in parts}) == 1:
                return join(parts)

    def _checked(self, name: str) -> Talk[meta_graph_pb2.SignatureDef]:
        """The signature of that name, once it is known to be the contract's."""
        if not self._signatures:
            request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[_FIELD])
            request.model_spec.name = self.model_name
            self._pin(request.model_spec)
            response = yield Call("GetModelMetadata", request)
            told = get_model_metadata_pb2.SignatureDefMap()
            response.metadata[_FIELD].Unpack(told)
            self._signatures = dict(told.signature_def)
        signature = self._signatures.get(name, meta_graph_pb2.SignatureDef())
        tensors = {**signature.inputs, **signature.outputs}
        found = {alias: tensor.dtype for alias, tensor in tensors.items()}
        expected = {alias: tf.as_dtype(DTYPES[alias]).as_datatype_enum for alias in (*INPUTS[name], *OUTPUTS)}
        if found != expected or len(signature.outputs[OUTPUT_MASK].tensor_shape.dim) != 5:
            self._signatures = {}
            raise ServingError(
                "The served model is not one of ours.",
                case=self.case,
                found=f"{name}: {_told(found)}",
                expected=_told(expected),
                remedy="Serve a model that this version of ggn-tf has exported, or name it as the server does.",
            )
        return signature

    def _pin(self, spec: model_pb2.ModelSpec) -> None:
        if self.version is not None:
            spec.version.value = self.version


@dataclass
class Retries:
    """How often a question was asked, and how much time is left."""

    conversation: Conversation
    pauses_s: Iterator[float]
    ends: float

    @property
    def left_s(self) -> float:
        """For gRPC's own deadline."""
        return max(0.001, self.ends - time.monotonic())

    def pause_s(self, error: grpc.RpcError) -> float:
        """How long to wait before asking again.

        Raises:
            ServingError: It is no use, or the attempts or the time are used up.
        """
        pause_s = next(self.pauses_s, None) if error.code() == grpc.StatusCode.UNAVAILABLE else None
        if pause_s is None or time.monotonic() + pause_s >= self.ends:
            raise self._refused(error) from error
        return pause_s

    def _refused(self, error: grpc.RpcError) -> ServingError:
        code = error.code()
        return ServingError(
            "No model server answers." if code == grpc.StatusCode.UNAVAILABLE else "The model server refuses.",
            case=self.conversation.case,
            found=f"{code.name}: {error.details()}",
            expected=_EXPECTED.get(code, f"an answer within {self.conversation.timeout_s:g} s"),
            remedy=_REMEDIES.get(code, "Check that client and server have the same version of ggn-tf."),
        )


def _told(dtypes: dict[str, int]) -> str:
    names = (f"{name} {types_pb2.DataType.Name(dtype)}" for name, dtype in sorted(dtypes.items()))
    return ", ".join(names) or "no such signature"
