"""The two services of TensorFlow Serving's protocol, on top of `VersionManager`."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TypeAlias

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

from ggn_tf.serving.runtime.predict_request import predict
from ggn_tf.serving.runtime.servable import Servable, StatusError, invalid, not_served
from ggn_tf.serving.server.request_limits import RequestLimits
from ggn_tf.serving.server.version_manager import VersionManager, VersionState

SIGNATURE_DEF = "signature_def"

_Request: TypeAlias = (
    predict_pb2.PredictRequest
    | get_model_metadata_pb2.GetModelMetadataRequest
    | get_model_status_pb2.GetModelStatusRequest
)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the protocol's other methods are UNIMPLEMENTED."""

    def __init__(self, versions: VersionManager, limits: RequestLimits) -> None:
        self._versions = versions
        self._limits = limits

    async def Predict(  # noqa: N802 the protocol's name
        self, request: predict_pb2.PredictRequest, context: aio.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Predict; cancelled if the client leaves or its deadline passes."""
        async with _status_of_errors(context):
            version = _requested_version(self._versions.name, request)
            with ExitStack() as resources:
                servable = resources.enter_context(self._versions.lease(version))
                future = self._limits.submit(resources, partial(predict, servable, request))
            return await asyncio.wrap_future(future)

    async def GetModelMetadata(  # noqa: N802 the protocol's name
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: aio.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Report the signatures."""
        async with _status_of_errors(context):
            _check_has_spec(request)
            if set(request.metadata_field) != {SIGNATURE_DEF}:
                raise invalid(f"The metadata field {SIGNATURE_DEF} is required, and no other is supported.")
            with self._versions.lease(_requested_version(self._versions.name, request)) as servable:
                return _metadata(servable)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; HandleReloadConfigRequest is UNIMPLEMENTED."""

    def __init__(self, versions: VersionManager) -> None:
        self._versions = versions

    async def GetModelStatus(  # noqa: N802 the protocol's name
        self, request: get_model_status_pb2.GetModelStatusRequest, context: aio.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Report the state of every version."""
        async with _status_of_errors(context):
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
            status.status.error_message = found.error
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
