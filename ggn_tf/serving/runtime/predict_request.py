"""Predict: TensorFlow Serving's checks, in its order and with its status codes, around one run of the graph.

TensorFlow Serving does not check shapes, and may then compute garbage; here a wrong shape is INVALID_ARGUMENT.
"""

from collections.abc import Sequence
from typing import NamedTuple

import grpc
import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from ggn_tf.serving.contract import tensors
from ggn_tf.serving.contract.names import SIGNATURE, shape_text
from ggn_tf.serving.contract.status_error import StatusError, invalid
from ggn_tf.serving.runtime.servable import Servable


class _Input(NamedTuple):
    alias: str
    info: meta_graph_pb2.TensorInfo
    proto: tensor_pb2.TensorProto
    shape: tuple[int, ...]


def predict(servable: Servable, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
    """Run the graph of a version for one request.

    Args:
        servable: The version.
        request: A request whose model_spec was resolved to this version.

    Raises:
        StatusError: The request does not fit the signature, or the run failed.
    """
    signature_name = request.model_spec.signature_name or SIGNATURE
    signature = _signature(servable, signature_name)
    inputs = _inputs(signature, request)
    chosen = _chosen_outputs(signature, request.output_filter)
    _check_types_and_shapes(inputs)
    feeds = {part.info.name: _array(part) for part in inputs}
    # Always all outputs: TensorFlow keeps one more copy of the weights for every set of outputs ever fetched.
    arrays = servable.run(feeds, {alias: info.name for alias, info in signature.outputs.items()})
    response = predict_pb2.PredictResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.model_spec.signature_name = signature_name
    for alias in chosen:
        response.outputs[alias].CopyFrom(tensors.encode_fields(arrays[alias]))
    return response


def _signature(servable: Servable, name: str) -> meta_graph_pb2.SignatureDef:
    signature = servable.signatures.get(name)
    if signature is None:
        raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, f"The model has no signature {name}.")
    if not signature.method_name.startswith("tensorflow/serving/"):
        raise StatusError(grpc.StatusCode.INTERNAL, f"The signature {name} does not serve requests.")
    return signature


def _inputs(signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest) -> list[_Input]:
    if set(request.inputs) != set(signature.inputs):
        sent, expected = (", ".join(sorted(names)) or "none" for names in (request.inputs, signature.inputs))
        raise invalid(f"The request has the inputs {sent}; the signature takes {expected}.")
    inputs = []
    for alias, info in sorted(signature.inputs.items()):
        proto = request.inputs[alias]
        try:
            shape = tensors.shape_of(proto)
        except ValueError as error:
            raise _unreadable(alias) from error
        if proto.dtype == types_pb2.DT_INVALID:
            raise _unreadable(alias)
        inputs.append(_Input(alias, info, proto, shape))
    return inputs


def _chosen_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]) -> list[str]:
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(f"The signature has no output {alias}; it has {', '.join(sorted(signature.outputs))}.")
    if len(set(output_filter)) < len(output_filter):
        raise invalid("output_filter names an output twice.")
    return list(output_filter) or sorted(signature.outputs)


def _check_types_and_shapes(inputs: Sequence[_Input]) -> None:
    """Check before anything is decoded, so that a wrong shape costs no memory."""
    for part in inputs:
        if part.proto.dtype != part.info.dtype:
            found, expected = (types_pb2.DataType.Name(dtype) for dtype in (part.proto.dtype, part.info.dtype))
            raise invalid(f"Input {part.alias}: expected type {expected}, received {found}.")
    for part in inputs:
        expected_shape = tuple(None if dim.size < 0 else dim.size for dim in part.info.tensor_shape.dim)
        fits = len(part.shape) == len(expected_shape) and all(
            size in (None, received) for size, received in zip(expected_shape, part.shape, strict=True)
        )
        if not fits or 0 in part.shape:
            raise invalid(
                f"Input {part.alias}: expected shape {shape_text(expected_shape)} with N at least 1, "
                f"received {shape_text(part.shape)}."
            )
    counts = {part.alias: part.shape[0] for part in inputs if tensors.leads_with_batch(part.info)}
    if len(set(counts.values())) > 1:
        raise invalid(f"Inputs of different N: {', '.join(f'{alias} {count}' for alias, count in counts.items())}.")


def _array(part: _Input) -> np.ndarray:
    try:
        return tensors.decode(part.proto)
    except ValueError as error:
        raise _unreadable(part.alias) from error


def _unreadable(alias: str) -> StatusError:
    return invalid(f"Input {alias}: the tensor cannot be read.")
