"""The two services of TensorFlow Serving's protocol, on top of `VersionManager`."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from ggn_tf.serving.runtime.message_fields import check_fields
from ggn_tf.serving.runtime.predict_request import RequestBounds, predict_in_parts
from ggn_tf.serving.runtime.servable import Servable, StatusError, invalid, not_served
from ggn_tf.serving.server.request_limits import RequestLimits
from ggn_tf.serving.server.version_manager import VersionManager, VersionState

log = logging.getLogger(__name__)

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
SIGNATURE_DEF = "signature_def"
# Four patches, or a large region: longer to compute than most requests.
_LARGE_BYTES = 1 << 19

_Request: TypeAlias = (
    predict_pb2.PredictRequest
    | get_model_metadata_pb2.GetModelMetadataRequest
    | get_model_status_pb2.GetModelStatusRequest
)


class PredictionService:
    """Predict and GetModelMetadata; the protocol's other methods are UNIMPLEMENTED."""

    def __init__(self, versions: VersionManager, limits: RequestLimits, bounds: RequestBounds) -> None:
        self._versions = versions
        self._limits = limits
        self._bounds = bounds

    @property
    def handler(self) -> grpc.GenericRpcHandler:
        """The handler of the service."""
        methods = {
            # Parsed and serialized in a thread, and only when its turn comes.
            "Predict": grpc.unary_unary_rpc_method_handler(self.predict),
            "GetModelMetadata": _method(self.metadata, get_model_metadata_pb2.GetModelMetadataRequest),
        }
        return grpc.method_handlers_generic_handler(PREDICTION_SERVICE, methods)

    async def predict(self, message: bytes, context: aio.ServicerContext) -> bytes:
        """Predict: request and response as bytes; cancelled if the client leaves or its deadline passes."""
        async with _status_of_errors(context):
            size, parts = len(message), self._predict(message)
            # A request that is refused, or has run, leaves no message behind.
            del message
            return await self._limits.run(context.peer(), parts, large=size > _LARGE_BYTES, size=size)

    def _predict(self, message: bytes) -> Generator[None, None, bytes]:
        try:
            check_fields(message)
        except ValueError as error:
            raise invalid(f"The request has {error}.") from error
        try:
            request = predict_pb2.PredictRequest.FromString(message)
        except DecodeError as error:
            raise StatusError(grpc.StatusCode.INTERNAL, "The request cannot be parsed.", by_client=True) from error
        with self._versions.lease(_requested_version(self._versions.name, request)) as servable:
            response = yield from predict_in_parts(servable, request, self._bounds)
            return response.SerializeToString()

    async def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: aio.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Report the signatures."""
        async with _status_of_errors(context):
            _check_has_spec(request)
            if set(request.metadata_field) != {SIGNATURE_DEF}:
                raise invalid(f"The metadata field {SIGNATURE_DEF} is required, and no other is supported.")
            with self._versions.lease(_requested_version(self._versions.name, request)) as servable:
                return _metadata(servable)


class ModelService:
    """GetModelStatus; HandleReloadConfigRequest is UNIMPLEMENTED."""

    def __init__(self, versions: VersionManager) -> None:
        self._versions = versions

    @property
    def handler(self) -> grpc.GenericRpcHandler:
        """The handler of the service."""
        methods = {"GetModelStatus": _method(self.status, get_model_status_pb2.GetModelStatusRequest)}
        return grpc.method_handlers_generic_handler(MODEL_SERVICE, methods)

    async def status(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: aio.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Report the state of every version."""
        async with _status_of_errors(context):
            _check_has_spec(request)
            known = self._versions.states() if request.model_spec.name == self._versions.name else {}
            return _status(request.model_spec, known)


def _method(respond: Callable[..., Awaitable[Message]], request: type[Message]) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(respond, request.FromString, _serialize)


def _serialize(response: Message) -> Any:
    return response.SerializeToString()


def _metadata(servable: Servable) -> get_model_metadata_pb2.GetModelMetadataResponse:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in servable.signatures.items():
        signatures.signature_def[name].CopyFrom(signature)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response


def _status(
    spec: model_pb2.ModelSpec, states: Mapping[int, VersionState]
) -> get_model_status_pb2.GetModelStatusResponse:
    version = spec.version.value if spec.HasField("version") else None
    if version is not None:
        states = {number: state for number, state in states.items() if number == version}
    if not states:
        raise not_served(spec.name, version)
    response = get_model_status_pb2.GetModelStatusResponse()
    for number, found in states.items():
        status = response.model_version_status.add(version=number, state=int(found.state))
        status.status.SetInParent()
        if found.error is not None:
            status.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
            # The reason has paths of this machine.
            status.status.error_message = f"{found.summary} The server's log has the reason."
    return response


def _check_has_spec(request: _Request) -> None:
    if not request.HasField("model_spec"):
        raise invalid("The request has no model_spec.")


def _requested_version(served: str, request: _Request) -> int | None:
    """The version that a request names, None for the newest."""
    _check_has_spec(request)
    spec = request.model_spec
    if not spec.name:
        raise invalid("model_spec has no name.")
    choice = spec.WhichOneof("version_choice")
    if choice == "version_label":
        raise invalid(f"The model has no version label {spec.version_label}.")
    version = spec.version.value if choice == "version" else None
    if spec.name != served:
        raise not_served(spec.name, version)
    return version


@asynccontextmanager
async def _status_of_errors(context: aio.ServicerContext) -> AsyncIterator[None]:
    try:
        yield
    except StatusError as error:
        await context.abort(error.code, error.message)
    except MemoryError:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "The server has too little memory for this request.")
    except Exception as error:  # a request must not write a traceback, nor show clients what the error says
        log.error("a request failed: %s: %s", type(error).__name__, error)
        log.debug("", exc_info=True)
        await context.abort(grpc.StatusCode.INTERNAL, "The server cannot process this request.")
