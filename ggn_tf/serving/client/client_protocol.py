"""The client's side of the protocol, independent of how requests are sent.

An exchange is a generator: it yields an `Rpc` and receives the response. `ggn_tf.serving.client.client` runs exchanges,
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
from ggn_tf.serving.client.server_errors import ServedName, server_error
from ggn_tf.serving.contract.messages import Prediction, join, make_request, make_roi_request, read_response
from ggn_tf.serving.contract.names import (
    DTYPES,
    INPUTS,
    LARGEST_BATCH,
    OUTPUT_MASK,
    OUTPUTS,
    SIGNATURE,
    SIGNATURE_ROI,
    shape_text,
)
from ggn_tf.serving.contract.region_axes import Regions, order_regions

PAUSES_S = (0.2, 0.4, 0.8, 1.6)
LARGEST_MESSAGE_BYTES = 4 * 2**20 - 2**16
"""gRPC's default limit, less room for names: a proxy between client and server may have kept the default."""

_FIELD = "signature_def"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Rpc:
    """One request to the server.

    Attributes:
        method: Method of the PredictionService.
        request: Its message.
    """

    method: str
    request: Any


Exchange = Generator[Rpc, Any, Result]


@dataclass
class ClientSession:
    """What a client knows of the model that it uses.

    Args:
        model: The model on the server.
        timeout_s: Time for one exchange, retries included, seconds.
        pauses_s: Pauses before each retry, seconds. Only UNAVAILABLE is retried: any other status, for example of a
            message that is too large (RESOURCE_EXHAUSTED), is permanent.
    """

    model: ServedName
    timeout_s: float
    pauses_s: Iterable[float]
    _signatures: dict[str, meta_graph_pb2.SignatureDef] = field(default_factory=dict)

    def patch_shape(self) -> Exchange[tuple[int, ...]]:
        """The shape of a patch, for example (32, 32, 32, 1)."""
        signature = yield from self._signature(SIGNATURE)
        return tuple(dim.size for dim in signature.outputs[OUTPUT_MASK].tensor_shape.dim)[1:]

    def predict(self, hu: np.ndarray) -> Exchange[Prediction]:
        """Predict patches [N, S, S, S, 1]."""
        patch_shape = yield from self.patch_shape()
        if hu.ndim != 5 or hu.shape[1:] != patch_shape or len(hu) == 0:
            raise ServingError(
                "The patches do not have the shape that the model takes.",
                case=self.model,
                found=shape_text(hu.shape),
                expected=f"{shape_text((None, *patch_shape))} with N at least 1",
                remedy="Cut patches with ggn_tf.cases.patches.cut_patch.",
            )
        return (yield from self._predict(lambda rows: make_request(hu[rows], self.model.model_name), hu, patch_shape))

    def predict_roi(
        self, hu: np.ndarray, spacing_mm: np.ndarray, center_index: np.ndarray, axes: str
    ) -> Exchange[Prediction]:
        """Predict regions [N, D, H, W] with spacing [N, 3] and centre [N, 3], in the order of `axes`."""
        yield from self._signature(SIGNATURE_ROI)
        patch_shape = yield from self.patch_shape()
        triples = (len(hu), 3)
        if hu.ndim != 4 or 0 in hu.shape or spacing_mm.shape != triples or center_index.shape != triples:
            raise ServingError(
                "The regions do not have the shapes that the model takes.",
                case=self.model,
                found=", ".join(shape_text(array.shape) for array in (hu, spacing_mm, center_index)),
                expected="regions [N,D,H,W] with N at least 1, spacing [N,3], centres [N,3]",
                remedy="Give one spacing and one centre per region, in the order of the region's axes.",
            )

        regions = order_regions(hu, spacing_mm, center_index, axes)

        def request(rows: slice) -> predict_pb2.PredictRequest:
            return make_roi_request(Regions(*(array[rows] for array in regions)), self.model.model_name)

        return (yield from self._predict(request, hu, patch_shape))

    def retries(self) -> "Retries":
        """The retries of one exchange, which starts now."""
        return Retries(self, iter(self.pauses_s), time.monotonic() + self.timeout_s)

    def _predict(
        self, request: Callable[[slice], predict_pb2.PredictRequest], hu: np.ndarray, patch_shape: tuple[int, ...]
    ) -> Exchange[Prediction]:
        """Predict in as many requests as needed, until one version has predicted all."""
        size = max(1, min(LARGEST_BATCH, LARGEST_MESSAGE_BYTES // (4 * int(np.prod(hu.shape[1:])))))
        chunks = [slice(start, min(start + size, len(hu))) for start in range(0, len(hu), size)]
        while True:
            parts = []
            for rows in chunks:
                message = request(rows)
                self._pin(message.model_spec)
                response = yield Rpc("Predict", message)
                parts.append(read_response(response, (rows.stop - rows.start, *patch_shape)))
            # If the version was swapped between two chunks, repeat all with the newer one.
            if len({part.model_version for part in parts}) == 1:
                return join(parts)

    def _signature(self, name: str) -> Exchange[meta_graph_pb2.SignatureDef]:
        """The signature of that name, checked against the contract."""
        if not self._signatures:
            request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[_FIELD])
            request.model_spec.name = self.model.model_name
            self._pin(request.model_spec)
            response = yield Rpc("GetModelMetadata", request)
            signatures = get_model_metadata_pb2.SignatureDefMap()
            response.metadata[_FIELD].Unpack(signatures)
            self._signatures = dict(signatures.signature_def)
        signature = self._signatures.get(name, meta_graph_pb2.SignatureDef())
        tensors = {**signature.inputs, **signature.outputs}
        found = {alias: tensor.dtype for alias, tensor in tensors.items()}
        expected = {alias: tf.as_dtype(DTYPES[alias]).as_datatype_enum for alias in (*INPUTS[name], *OUTPUTS)}
        if found != expected or len(signature.outputs[OUTPUT_MASK].tensor_shape.dim) != 5:
            self._signatures = {}
            raise ServingError(
                "The served model is not an export of ggn-tf.",
                case=self.model,
                found=f"{name}: {_dtypes_text(found)}",
                expected=_dtypes_text(expected),
                remedy="Serve a model that this version of ggn-tf has exported, or give the server's name of one.",
                arguments=("model_name",),
            )
        return signature

    def _pin(self, spec: model_pb2.ModelSpec) -> None:
        if self.model.version is not None:
            spec.version.value = self.model.version


@dataclass
class Retries:
    """The retries that an exchange has left, and the time."""

    session: ClientSession
    pauses_s: Iterator[float]
    ends: float

    @property
    def left_s(self) -> float:
        """The time left, for gRPC's own deadline."""
        return max(0.001, self.ends - time.monotonic())

    def pause_s(self, error: grpc.RpcError) -> float:
        """The pause before the next attempt, seconds.

        Raises:
            ServingError: The error is permanent, or no attempt or time is left.
        """
        pause_s = next(self.pauses_s, None) if error.code() == grpc.StatusCode.UNAVAILABLE else None
        if pause_s is None or time.monotonic() + pause_s >= self.ends:
            raise server_error(self.session.model, error, self.session.timeout_s) from error
        return pause_s


def _dtypes_text(dtypes: dict[str, int]) -> str:
    names = (f"{name} {types_pb2.DataType.Name(dtype)}" for name, dtype in sorted(dtypes.items()))
    return ", ".join(names) or "no such signature"
