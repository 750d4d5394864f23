"""Predict: the checks of TensorFlow Serving, in its order and its words, around one run of the graph."""

from collections.abc import Collection

import grpc
import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from ggn_tf.serving.contract import tensors
from ggn_tf.serving.contract.names import SIGNATURE, shape_text
from ggn_tf.serving.contract.status_error import StatusError, invalid
from ggn_tf.serving.runtime.servable import Servable

_METHODS = ("tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress")


def predict(servable: Servable, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
    """Answer a request by a version.

    Args:
        servable: The version.
        request: Its model_spec is taken as already resolved to this version.

    Raises:
        StatusError: The request does not fit the signature, or the run failed.
    """
    signature_name = request.model_spec.signature_name or SIGNATURE
    signature = _signature(servable, signature_name)
    _check_input_count(signature, request)
    protos = _inputs(signature, request)
    outputs = _outputs(signature, request.output_filter)
    feeds = {signature.inputs[alias].name: array for alias, array in _arrays(signature, protos).items()}
    # Always all outputs: TensorFlow keeps the weights anew for every set of tensors that was ever asked for.
    arrays = servable.run(feeds, {alias: info.name for alias, info in signature.outputs.items()})
    response = predict_pb2.PredictResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.model_spec.signature_name = signature_name
    for alias in outputs:
        response.outputs[alias].CopyFrom(tensors.encode_fields(arrays[alias]))
    return response


def _signature(servable: Servable, name: str) -> meta_graph_pb2.SignatureDef:
    signature = servable.signatures.get(name)
    if signature is None:
        raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    if signature.method_name not in _METHODS:
        raise StatusError(
            grpc.StatusCode.INTERNAL,
            f"Expected prediction signature method_name to be one of {_braces(_METHODS, ', ')}. "
            f"Was: {signature.method_name}",
        )
    return signature


def _check_input_count(signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest) -> None:
    sent, wanted = set(request.inputs), set(signature.inputs)
    if len(sent) != len(wanted):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(wanted)} len({_braces(sorted(sent))}) != "
            f"len({_braces(sorted(wanted))}). Sent extra: {_braces(sorted(sent - wanted))}. "
            f"Missing but required: {_braces(sorted(wanted - sent))}."
        )


def _inputs(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
) -> dict[str, tensor_pb2.TensorProto]:
    protos = {}
    sent = _braces(sorted(request.inputs))
    for alias in sorted(signature.inputs):
        if alias not in request.inputs:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found in request "
                f"and no default value provided. Inputs expected to be in the request {sent}, or "
                "default input alias set: "
            )
        protos[alias] = request.inputs[alias]
        try:
            tensors.shape_of(protos[alias])
        except ValueError as error:
            raise invalid(f"tensor parsing error: {alias}") from error
        if protos[alias].dtype == types_pb2.DT_INVALID:
            raise invalid(f"tensor parsing error: {alias}")
    return protos


def _outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Collection[str]) -> list[str]:
    chosen: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {_braces(sorted(signature.outputs))}."
            )
        if alias in chosen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        chosen.append(alias)
    return chosen or sorted(signature.outputs)


def _arrays(signature: meta_graph_pb2.SignatureDef, protos: dict[str, tensor_pb2.TensorProto]) -> dict[str, np.ndarray]:
    """Check dtypes, then shapes, then decode: a wrong shape costs no memory."""
    for number, (alias, proto) in enumerate(protos.items()):
        expected = signature.inputs[alias].dtype
        if proto.dtype != expected:
            raise invalid(
                f"Expects arg[{number}] to be {_dtype_name(expected)} but {_dtype_name(proto.dtype)} is provided"
            )
    counts = {}
    for alias, proto in protos.items():
        info, shape = signature.inputs[alias], tensors.shape_of(proto)
        _check_shape(alias, info, shape)
        if tensors.leads_with_batch(info):
            counts[alias] = shape[0]
    if len(set(counts.values())) > 1:
        raise invalid(f"inputs of different N: {', '.join(f'{alias} {count}' for alias, count in counts.items())}")
    arrays = {}
    for alias, proto in protos.items():
        try:
            arrays[alias] = tensors.decode(proto)
        except ValueError as error:
            raise invalid(f"tensor parsing error: {alias}") from error
    return arrays


def _check_shape(alias: str, info: meta_graph_pb2.TensorInfo, received: tuple[int, ...]) -> None:
    """Refuse what the graph would answer with garbage; TensorFlow Serving lets it pass."""
    expected = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    fits = len(received) == len(expected) and all(
        want in (None, have) for want, have in zip(expected, received, strict=True)
    )
    if not fits or 0 in received:
        raise invalid(
            f"input {alias}: expected shape {shape_text(expected)} with N at least 1, received {shape_text(received)}"
        )


def _dtype_name(dtype: int) -> str:
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()


def _braces(names: Collection[str], separator: str = ",") -> str:
    return "{" + separator.join(names) + "}"
