"""The two services of TensorFlow Serving's protocol, answered from `VersionManager`."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import grpc
from grpc import aio
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ggn_tf.serving.contract.status_error import StatusError, invalid
from ggn_tf.serving.runtime.predict_request import predict
from ggn_tf.serving.runtime.servable import Servable
from ggn_tf.serving.server.request_limits import RequestLimits
from ggn_tf.serving.server.version_manager import VersionManager, VersionState

SIGNATURE_DEF = "signature_def"


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; what else the protocol has answers UNIMPLEMENTED.

    Args:
        versions: Of the one model that is served.
        admission: Limits the requests at work.
    """

    def __init__(self, versions: VersionManager, admission: RequestLimits) -> None:
        """Serve one model."""
        self._versions = versions
        self._admission = admission

    async def Predict(  # noqa: N802 the protocol's name
        self, request: predict_pb2.PredictRequest, context: aio.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Answer patches; cancelled where the client leaves or its deadline passes."""
        async with _refusing(context):
            version = _requested_version(self._versions.name, request)
            with ExitStack() as held:
                servable = held.enter_context(self._versions.lease(version))
                future = self._admission.submit(held, partial(predict, servable, request))
            return await asyncio.wrap_future(future)

    async def GetModelMetadata(  # noqa: N802 the protocol's name
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: aio.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Tell the signatures."""
        async with _refusing(context):
            _check_has_spec(request)
            _check_metadata_fields(request)
            with self._versions.lease(_requested_version(self._versions.name, request)) as servable:
                return _metadata(servable)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; the configuration cannot be reloaded, and that call answers UNIMPLEMENTED.

    Args:
        versions: Of the one model that is served.
    """

    def __init__(self, versions: VersionManager) -> None:
        """Serve one model."""
        self._versions = versions

    async def GetModelStatus(  # noqa: N802 the protocol's name
        self, request: get_model_status_pb2.GetModelStatusRequest, context: aio.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Tell where every version stands."""
        async with _refusing(context):
            _check_has_spec(request)
            known = self._versions.states() if request.model_spec.name == self._versions.name else {}
            return _status(request.model_spec, known)


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
    if spec.HasField("version"):
        if spec.version.value not in states:
            missing = f"Could not find version {spec.version.value} of model {spec.name}"
            raise StatusError(grpc.StatusCode.NOT_FOUND, missing)
        states = {spec.version.value: states[spec.version.value]}
    if not states:
        raise StatusError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, standing in states.items():
        status = response.model_version_status.add(version=version, state=int(standing.state))
        status.status.SetInParent()
        if standing.error is not None:
            status.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
            status.status.error_message = standing.error
    return response


def _check_has_spec(
    request: predict_pb2.PredictRequest
    | get_model_metadata_pb2.GetModelMetadataRequest
    | get_model_status_pb2.GetModelStatusRequest,
) -> None:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")


def _requested_version(
    served: str, request: predict_pb2.PredictRequest | get_model_metadata_pb2.GetModelMetadataRequest
) -> int | None:
    """The version that a request names, None for the newest."""
    _check_has_spec(request)
    spec = request.model_spec
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    if choice == "version_label":
        raise invalid(f"Unrecognized servable version label: {spec.version_label}")
    version = spec.version.value if choice == "version" else None
    if spec.name != served:
        wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
        raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
    return version


def _check_metadata_fields(request: get_model_metadata_pb2.GetModelMetadataRequest) -> None:
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for name in request.metadata_field:
        if name != SIGNATURE_DEF:
            # The placeholder that is not filled in is in TensorFlow Serving's own message.
            raise invalid(f"Metadata field %s is not supported{name}")


@asynccontextmanager
async def _refusing(context: aio.ServicerContext) -> AsyncIterator[None]:
    """Answer by a status what ends in a StatusError."""
    try:
        yield
    except StatusError as error:
        await context.abort(error.code, error.message)
