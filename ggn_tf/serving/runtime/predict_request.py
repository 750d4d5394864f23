"""Requests to a loaded version: its warm-up, and an export that predicts in this process.

They pass TensorFlow Serving's checks, in its order and with its status codes, around one run of the graph. TensorFlow
Serving does not check shapes, and may then compute garbage; here a wrong shape is INVALID_ARGUMENT.
"""

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from ggn_tf.errors import ExportError, ServingError
from ggn_tf.serving.contract import tensors
from ggn_tf.serving.contract.export_contract import read_contract
from ggn_tf.serving.contract.messages import (
    MODEL_AXES,
    Prediction,
    make_request,
    make_roi_request,
    order_regions,
    read_requests,
    read_response,
    restore_axes,
)
from ggn_tf.serving.contract.trust import Trust
from ggn_tf.serving.contract.version_folders import find_version
from ggn_tf.serving.contract.wire import (
    ASSETS_EXTRA,
    MODEL_NAME,
    SIGNATURE,
    SIGNATURE_RECENTERED,
    SIGNATURE_ROI,
    WARMUP_FILE,
    shape_text,
)
from ggn_tf.serving.runtime.servable import Servable, StatusError, invalid, open_servable


@dataclass(frozen=True)
class RequestBounds:
    """What one request may declare; checked before anything is multiplied or allocated.

    Attributes:
        largest_bytes: Largest tensor; one repeated value may fill a tensor, so its message need not be as large.
        most_rows: Largest batch.
    """

    largest_bytes: int = tensors.LARGEST_BYTES
    most_rows: int = tensors.LARGEST_BYTES


_MOST_NAMES = 16
"""Inputs and outputs that a request may name."""
_NO_BOUNDS = RequestBounds()


class _Input(NamedTuple):
    alias: str
    info: meta_graph_pb2.TensorInfo
    proto: tensor_pb2.TensorProto
    shape: tuple[int, ...]


def predict(
    servable: Servable, request: predict_pb2.PredictRequest, bounds: RequestBounds = _NO_BOUNDS
) -> predict_pb2.PredictResponse:
    """Run the graph for one request; raises StatusError where it does not fit the signature, or the run failed."""
    parts = predict_in_parts(servable, request, bounds)
    while True:
        try:
            next(parts)
        except StopIteration as stop:
            response: predict_pb2.PredictResponse = stop.value
            return response


def predict_in_parts(
    servable: Servable, request: predict_pb2.PredictRequest, bounds: RequestBounds = _NO_BOUNDS
) -> Generator[None, None, predict_pb2.PredictResponse]:
    """As `predict`, with a stop between runs of at most `servable.rows_at_once` rows."""
    signature_name = request.model_spec.signature_name or SIGNATURE
    signature = _signature(servable, signature_name)
    inputs = _inputs(signature, request, bounds.largest_bytes)
    chosen = _chosen_outputs(signature, request.output_filter)
    _check_types_and_shapes(inputs, bounds.most_rows)
    feeds = {part.info.name: _array(part) for part in inputs}
    arrays = yield from _run_in_parts(servable, signature, feeds)
    response = predict_pb2.PredictResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.model_spec.signature_name = signature_name
    for alias in chosen:
        response.outputs[alias].CopyFrom(tensors.encode_fields(arrays[alias]))
    return response


def _run_in_parts(
    servable: Servable, signature: meta_graph_pb2.SignatureDef, feeds: dict[str, np.ndarray]
) -> Generator[None, None, dict[str, np.ndarray]]:
    # Always all outputs: TensorFlow keeps one more copy of the weights for every set of outputs ever fetched.
    fetches = {alias: info.name for alias, info in signature.outputs.items()}
    rows = max((len(feed) for feed in feeds.values() if feed.ndim), default=0)
    joined = (*signature.inputs.values(), *signature.outputs.values())
    if rows <= servable.rows_at_once or not all(map(tensors.leads_with_batch, joined)):
        return servable.run(feeds, fetches)
    parts: list[dict[str, np.ndarray]] = []
    for first in range(0, rows, servable.rows_at_once):
        if parts:
            yield
        rows_of = slice(first, first + servable.rows_at_once)
        parts.append(servable.run({name: feed[rows_of] for name, feed in feeds.items()}, fetches))
    return {alias: np.concatenate([part[alias] for part in parts]) for alias in fetches}


def _signature(servable: Servable, name: str) -> meta_graph_pb2.SignatureDef:
    signature = servable.signatures.get(name)
    if signature is None:
        raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, f"The model has no signature {name}.")
    if not signature.method_name.startswith("tensorflow/serving/"):
        message = f"The signature {name} does not serve requests."
        raise StatusError(grpc.StatusCode.INTERNAL, message, by_client=True)
    return signature


def _inputs(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest, largest_bytes: int
) -> list[_Input]:
    if len(request.inputs) > _MOST_NAMES:
        raise invalid(f"The request has {len(request.inputs)} inputs; the signature takes {len(signature.inputs)}.")
    if set(request.inputs) != set(signature.inputs):
        sent, expected = (", ".join(sorted(names)) or "none" for names in (request.inputs, signature.inputs))
        raise invalid(f"The request has the inputs {sent}; the signature takes {expected}.")
    inputs = []
    for alias, info in sorted(signature.inputs.items()):
        proto = request.inputs[alias]
        try:
            # Another type is refused below. Only TensorFlow knows the size of its elements, and importing it takes
            # seconds.
            shape = tensors.shape_of(proto, largest_bytes) if proto.dtype == info.dtype else ()
        except ValueError as error:
            raise _unreadable(alias, f", or has more than {largest_bytes} bytes") from error
        if proto.dtype == types_pb2.DT_INVALID:
            raise _unreadable(alias)
        inputs.append(_Input(alias, info, proto, shape))
    return inputs


def _chosen_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]) -> list[str]:
    if len(output_filter) > _MOST_NAMES:
        raise invalid(f"output_filter has {len(output_filter)} names.")
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(f"The signature has no output {alias}; it has {', '.join(sorted(signature.outputs))}.")
    if len(set(output_filter)) < len(output_filter):
        raise invalid("output_filter names an output twice.")
    return list(output_filter) or sorted(signature.outputs)


def _check_types_and_shapes(inputs: Sequence[_Input], most_rows: int) -> None:
    """Check before anything is decoded, so that a wrong shape costs no memory."""
    for part in inputs:
        if part.proto.dtype != part.info.dtype:
            found, expected = (_type_name(dtype) for dtype in (part.proto.dtype, part.info.dtype))
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
    rows = max(counts.values(), default=0)
    if rows > most_rows:
        raise invalid(f"N is {rows}; a request may have {most_rows}.")


def _type_name(dtype: int) -> str:
    known = dtype in types_pb2.DataType.values()
    return types_pb2.DataType.Name(dtype) if known else f"the unknown type {dtype}"


def _array(part: _Input) -> np.ndarray:
    try:
        return tensors.decode(part.proto)
    except ValueError as error:
        raise _unreadable(part.alias) from error


def _unreadable(alias: str, too_large: str = "") -> StatusError:
    return invalid(f"Input {alias}: the tensor cannot be read{too_large}.")


_MOST_RECORDS = 1000
_WARMUP_BOUNDS = RequestBounds(2**26, 256)
"""Our warm-up requests have up to 24 patches: others must not fill the memory while a version is loaded."""


def warm_up(servable: Servable, version_folder: Path) -> int:
    """Run the warm-up requests of a version, if it has any, and return their number.

    Raises:
        ExportError: The file is damaged or has more than 1000 records, or a request fails.
    """
    file = version_folder / ASSETS_EXTRA / WARMUP_FILE
    count = 0
    if not file.exists():
        return count
    try:
        for count, log in enumerate(read_requests(file), start=1):
            if count > _MOST_RECORDS:
                raise ValueError(f"more than {_MOST_RECORDS} records")
            # The further runs of a large batch would repeat its first.
            next(predict_in_parts(servable, log.request, _WARMUP_BOUNDS), None)
    except (StatusError, ValueError) as error:
        raise ExportError(
            "The version's warm-up failed.",
            case=file,
            found=error.message if isinstance(error, StatusError) else str(error),
            expected="requests that fit the version's signatures",
            remedy="Export the run again.",
        ) from error
    return count


class LocalModel(AbstractContextManager["LocalModel"]):
    """A loaded export; raises ExportError where the folder is not an export of ggn-tf, or a damaged one."""

    def __init__(self, folder: Path, trust: Trust | None = None) -> None:
        version, self.folder = find_version(folder)
        self.contract = read_contract(self.folder)
        self._servable = open_servable(self.folder, MODEL_NAME, version, trust=trust)

    def output_names(self) -> tuple[str, ...]:
        """The outputs for patches."""
        return tuple(output.name for output in self.contract.outputs)

    def predict(self, hu: np.ndarray) -> Prediction:
        """Predict patches [N, 32, 32, 32, 1] of HU, axes S, P, L; raises ServingError where their shape is another."""
        return self._run(make_request(hu, MODEL_NAME), hu.shape)

    def predict_roi(
        self,
        hu: np.ndarray,
        spacing_mm: np.ndarray,
        center_index: np.ndarray,
        axes: str = MODEL_AXES,
        *,
        recenter: bool = False,
    ) -> Prediction:
        """Predict regions as `PredictionClient.predict_roi`; raises ServingError where the shapes are others."""
        signature = SIGNATURE_RECENTERED if recenter else SIGNATURE_ROI
        request = make_roi_request(order_regions(hu, spacing_mm, center_index, axes), MODEL_NAME, signature)
        prediction = self._run(request, (len(hu), *(self.contract.protocol.patch.size,) * 3, 1))
        return restore_axes(prediction, hu.shape, axes)

    def _run(self, request: predict_pb2.PredictRequest, mask_shape: tuple[int, ...]) -> Prediction:
        try:
            return read_response(predict(self._servable, request), mask_shape)
        except StatusError as error:
            raise ServingError("The model cannot take this input.", case=self.folder, found=error.message) from error

    def close(self) -> None:
        """Free the memory."""
        self._servable.close()

    def __exit__(self, *_: object) -> None:
        self.close()
