"""The client's side of the protocol, independent of how requests are sent.

An exchange is a generator: it yields an `Rpc` and receives the response. `ggn_tf.serving.client.client` runs exchanges,
blocking or with asyncio.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2, predict_pb2

from ggn_tf.errors import ServingError
from ggn_tf.serving.contract import wire
from ggn_tf.serving.contract.messages import (
    Prediction,
    Regions,
    join,
    make_request,
    make_roi_request,
    order_regions,
    read_response,
    restore_axes,
)
from ggn_tf.serving.contract.tensors import TYPES

_HTTP = "http://"
_LARGEST_RESPONSE_BYTES = 2**28
"""Our exports respond with 3 MiB to the largest request of a client."""


def channel_options(proxy: str | None) -> tuple[tuple[str, int | str], ...]:
    """Options of a gRPC channel: requests of any size, and the environment's proxies have no effect.

    The proxy is HOST:PORT or a URL; without one the channel connects to the server itself.

    Raises:
        ServingError: The proxy is not an HTTP proxy.
    """
    sizes = (("grpc.max_receive_message_length", _LARGEST_RESPONSE_BYTES), ("grpc.max_send_message_length", -1))
    if not proxy:
        return (*sizes, ("grpc.enable_http_proxy", 0))
    url = proxy if "://" in proxy else _HTTP + proxy
    if not url.lower().startswith(_HTTP):
        # gRPC would log it and connect without a proxy.
        raise ServingError(
            "The proxy cannot be used.",
            case=proxy,
            expected="an HTTP proxy, HOST:PORT or http://HOST:PORT",
            remedy="Name another proxy, or none.",
            arguments=("proxy",),
        )
    return (*sizes, ("grpc.http_proxy", url))


def open_channel(
    target: str, options: tuple[tuple[str, int | str], ...], credentials: grpc.ChannelCredentials | None
) -> grpc.Channel:
    """A channel to a server; without credentials it is not encrypted."""
    if credentials is None:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, credentials, options=options)


_EXPECTED = {
    grpc.StatusCode.NOT_FOUND: "a model and version that the server has",
    grpc.StatusCode.UNIMPLEMENTED: "TensorFlow Serving's protocol",
    grpc.StatusCode.INVALID_ARGUMENT: "a request that fits the model",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "a message within the server's limit",
}
_REMEDIES = {
    grpc.StatusCode.UNAVAILABLE: "Start a server with ggn-tf serve, or check host and port.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "Allow more time, or reduce the server's load.",
    grpc.StatusCode.NOT_FOUND: "Give the model name and the version that the server uses.",
    grpc.StatusCode.UNIMPLEMENTED: "Give the gRPC port of a model server (8500 by default), not its REST port.",
}


@dataclass(frozen=True)
class ServedName:
    """A model on a server, HOST:PORT; without a version the newest is used."""

    target: str
    model_name: str
    version: int | None

    def __str__(self) -> str:
        version = "" if self.version is None else f" version {self.version}"
        return f"model {self.model_name}{version} on {self.target}"


def server_error(model: ServedName, error: grpc.RpcError, timeout_s: float, details: str = "") -> ServingError:
    """The error of a failed request, with further details after the server's message."""
    code = error.code()
    if code == grpc.StatusCode.UNAVAILABLE:
        return unreachable(model, f"{code.name}: {error.details()}", timeout_s)
    return ServingError(
        "The model server refused the request.",
        case=model,
        found=f"{code.name}: {error.details()}{details}",
        expected=_EXPECTED.get(code, f"a response within {timeout_s:g} s"),
        remedy=_REMEDIES.get(code, "Check that client and server have the same version of ggn-tf."),
        arguments=("model_name", "version") if code == grpc.StatusCode.NOT_FOUND else (),
    )


def unreachable(model: ServedName, found: str, timeout_s: float) -> ServingError:
    """The error of a server that cannot be reached."""
    return ServingError(
        "The model server cannot be reached.",
        case=model,
        found=found,
        expected=f"a server of TensorFlow Serving's gRPC protocol that responds within {timeout_s:g} s",
        remedy=_REMEDIES[grpc.StatusCode.UNAVAILABLE],
    )


PAUSES_S = (0.2, 0.4, 0.8, 1.6)
LARGEST_MESSAGE_BYTES = 4 * 2**20 - 2**16
"""gRPC's default limit, less room for names: a proxy between client and server may have kept the default."""

_FIELD = "signature_def"
_LONGEST_AXIS = 128
"""Of a patch, voxels."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Rpc:
    """One request to the server, by the method of its PredictionService."""

    method: str
    request: Any


Exchange = Generator[Rpc, Any, Result]


@dataclass
class ClientSession:
    """What a client knows of the model that it uses.

    `timeout_s` is the time for one exchange, retries included. Only UNAVAILABLE is retried, after the pauses: any other
    status, for example of a message that is too large (RESOURCE_EXHAUSTED), is permanent.
    """

    model: ServedName
    timeout_s: float
    pauses_s: Iterable[float]
    _signatures: dict[str, meta_graph_pb2.SignatureDef] = field(default_factory=dict)

    def patch_shape(self) -> Exchange[tuple[int, ...]]:
        """The shape of a patch, for example (32, 32, 32, 1)."""
        signature = yield from self._signature(wire.SIGNATURE)
        return tuple(dim.size for dim in signature.outputs[wire.OUTPUT_MASK].tensor_shape.dim)[1:]

    def output_names(self) -> Exchange[tuple[str, ...]]:
        """The outputs for patches."""
        signature = yield from self._signature(wire.SIGNATURE)
        return tuple(signature.outputs)

    def predict(self, hu: np.ndarray) -> Exchange[Prediction]:
        """Predict patches [N, S, S, S, 1]."""
        patch_shape = yield from self.patch_shape()
        if hu.ndim != 5 or hu.shape[1:] != patch_shape or len(hu) == 0:
            raise ServingError(
                "The patches do not have the shape that the model takes.",
                case=self.model,
                found=wire.shape_text(hu.shape),
                expected=f"{wire.shape_text((None, *patch_shape))} with N at least 1",
                remedy="Cut patches with ggn_tf.cases.patches.cut_patch.",
            )
        return (yield from self._predict(lambda rows: make_request(hu[rows], self.model.model_name), hu, patch_shape))

    def predict_roi(
        self, hu: np.ndarray, spacing_mm: np.ndarray, center_index: np.ndarray, axes: str, recenter: bool
    ) -> Exchange[Prediction]:
        """Predict regions [N, D, H, W] with spacing [N, 3] and centre [N, 3], in the order of `axes`."""
        signature = wire.SIGNATURE_RECENTERED if recenter else wire.SIGNATURE_ROI
        yield from self._signature(signature)
        patch_shape = yield from self.patch_shape()
        triples = (len(hu), 3)
        if hu.ndim != 4 or 0 in hu.shape or spacing_mm.shape != triples or center_index.shape != triples:
            raise ServingError(
                "The regions do not have the shapes that the model takes.",
                case=self.model,
                found=", ".join(wire.shape_text(array.shape) for array in (hu, spacing_mm, center_index)),
                expected="regions [N,D,H,W] with N at least 1, spacing [N,3], centres [N,3]",
                remedy="Give one spacing and one centre per region, in the order of the region's axes.",
            )

        regions = order_regions(hu, spacing_mm, center_index, axes)

        def request(rows: slice) -> predict_pb2.PredictRequest:
            return make_roi_request(Regions(*(array[rows] for array in regions)), self.model.model_name, signature)

        return restore_axes((yield from self._predict(request, hu, patch_shape)), hu.shape, axes)

    def retries(self) -> "Retries":
        """The retries of one exchange, which starts now."""
        return Retries(self, iter(self.pauses_s), time.monotonic() + self.timeout_s)

    def _predict(
        self, request: Callable[[slice], predict_pb2.PredictRequest], hu: np.ndarray, patch_shape: tuple[int, ...]
    ) -> Exchange[Prediction]:
        """Predict in as many requests as needed, until one version has predicted all."""
        size = max(1, min(wire.LARGEST_BATCH, LARGEST_MESSAGE_BYTES // (4 * int(np.prod(hu.shape[1:])))))
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
        if not self._signatures:
            request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[_FIELD])
            request.model_spec.name = self.model.model_name
            self._pin(request.model_spec)
            response = yield Rpc("GetModelMetadata", request)
            signatures = get_model_metadata_pb2.SignatureDefMap()
            # Of another message nothing is read, and then there is no signature.
            with suppress(DecodeError):
                response.metadata[_FIELD].Unpack(signatures)
            self._signatures = dict(signatures.signature_def)
        if name == wire.SIGNATURE_RECENTERED and name not in self._signatures and wire.SIGNATURE in self._signatures:
            raise ServingError(
                "The served model cannot move centres.",
                case=self.model,
                found=f"the signatures {', '.join(sorted(self._signatures))}",
                expected=f"the signature {name}, which exports of earlier releases do not have",
                remedy="Export the run again, or predict around the given centres.",
                arguments=("recenter",),
            )
        signature = self._signatures.get(name, meta_graph_pb2.SignatureDef())
        tensors = {**signature.inputs, **signature.outputs}
        found = {alias: tensor.dtype for alias, tensor in tensors.items()}
        further = (alias for alias in wire.FURTHER_OUTPUTS if alias in signature.outputs)
        named = (*wire.INPUTS[name], *wire.outputs_of(name), *further)
        expected = {alias: TYPES[wire.DTYPES[alias]] for alias in named}
        if found != expected or not _is_mask(signature.outputs[wire.OUTPUT_MASK]):
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


def _is_mask(info: meta_graph_pb2.TensorInfo) -> bool:
    """Whether a tensor is [N, D, H, W, 1], and not so large that one response could fill the memory."""
    sizes = [dim.size for dim in info.tensor_shape.dim]
    return len(sizes) == 5 and sizes[4] == 1 and all(1 <= size <= _LONGEST_AXIS for size in sizes[1:])


def _dtypes_text(dtypes: dict[str, int]) -> str:
    known = {number: name for name, number in types_pb2.DataType.items()}
    names = (f"{name} {known.get(dtype, dtype)}" for name, dtype in sorted(dtypes.items()))
    return ", ".join(names) or "no such signature"
