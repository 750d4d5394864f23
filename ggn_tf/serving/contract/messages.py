"""Requests and responses of TensorFlow Serving's protocol, and the prediction that a program reads from them.

An export contains recorded requests: TFRecord files of PredictionLog, TensorFlow Serving's format of warm-up requests.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ggn_tf.errors import ExportError, ServingError
from ggn_tf.serving.contract import tensors, wire
from ggn_tf.serving.contract.version_folders import check_checksums, has_checksums
from ggn_tf.shown_text import one_line, printable
from ggn_tf.tfrecords import read_records

MODEL_AXES = "SPL"
"""The directions in which the three axes of a region run: towards superior, posterior and left."""
_AXIS = {"S": 0, "I": 0, "P": 1, "A": 1, "L": 2, "R": 2}


class Regions(NamedTuple):
    """The inputs of the signature `roi`.

    Attributes:
        hu: [N, D, H, W], Hounsfield units, axes S, P, L.
        spacing_mm: [N, 3], spacing of the regions' voxels.
        center_index: [N, 3], the nodules' centres in voxels of the regions, 0 at the first voxel's centre.
    """

    hu: np.ndarray
    spacing_mm: np.ndarray
    center_index: np.ndarray


def restore_centers(center_index: np.ndarray, shape: tuple[int, ...], axes: str) -> np.ndarray:
    """Bring centres from the order that the model takes into the caller's; the inverse of `order_regions`.

    Takes [N, 3] in voxels of the regions, axes S, P, L, and the shape [N, D, H, W] of the caller's regions.
    """
    order, turned = _order(axes)
    restored = np.empty_like(center_index)
    restored[:, order] = np.where(turned, np.asarray(shape[1:])[order] - 1 - center_index, center_index)
    return restored


def order_regions(hu: np.ndarray, spacing_mm: np.ndarray, center_index: np.ndarray, axes: str) -> Regions:
    """Bring regions of a CT into the order that the model takes.

    Args:
        hu: [N, D, H, W] in the caller's order of axes; so are the triples.
        spacing_mm: [N, 3].
        center_index: [N, 3].
        axes: The directions nearest to which the axes of `hu` run, first axis first, as three of the letters S, I, P,
            A, L, R: `SPL` for the slices of an axial series from feet to head, `IPL` from head to feet.

    Raises:
        ServingError: `axes` does not name three different axes.
    """
    order, turned = _order(axes)
    ordered, center = hu.transpose(0, *(order + 1)), center_index[:, order]
    last = np.asarray(ordered.shape[1:]) - 1
    flipped = np.flip(ordered, tuple((np.flatnonzero(turned) + 1).tolist()))
    return Regions(flipped, spacing_mm[:, order], np.where(turned, last - center, center))


def _order(axes: str) -> tuple[np.ndarray, np.ndarray]:
    """Which of the caller's axes is each of the model's, and which of these are turned."""
    named = [_AXIS.get(letter, -1) for letter in axes]
    if sorted(named) != [0, 1, 2]:
        raise ServingError(
            "The axes of the region are unknown.",
            found=repr(axes),
            expected="three letters, one each of S or I, P or A, and L or R, for example IPL",
            remedy="Name the direction in which each axis of the array runs, first axis first.",
            arguments=("axes",),
        )
    order = np.argsort(named)
    return order, np.array([axes[axis] != target for axis, target in zip(order, MODEL_AXES, strict=True)])


@dataclass(frozen=True)
class Prediction:
    """The model's prediction for a batch of patches.

    Attributes:
        probabilities: [N, C] float32, in the order of `class_names`.
        mask: [N, 32, 32, 32, 1] float32, 0 to 1, axes S, P, L.
        class_names: [C].
        model_version: The version that predicted.
        warnings: [N], why a prediction may be unreliable: lines `code: text`, empty without a reason.
        center_index: [N, 3] float64, the patches' centres in voxels of the regions; None where centres do not move.
        moved_mm: [N] float64, how far they are from the given ones; None where centres do not move.
        spread: [N, C] float32, standard deviation (ddof 0) of the members' probabilities; None where the model is of a
            single run.
        in_set: [N, C] float32, 1 where the prediction set contains the class, else 0; None without prediction sets.
        typicality: [N] float32, p values of the nodules' distances from those for training; None likewise.
    """

    probabilities: np.ndarray
    mask: np.ndarray
    class_names: tuple[str, ...]
    model_version: int
    warnings: tuple[str, ...] = ()
    center_index: np.ndarray | None = None
    moved_mm: np.ndarray | None = None
    spread: np.ndarray | None = None
    in_set: np.ndarray | None = None
    typicality: np.ndarray | None = None

    def by_class(self, values: np.ndarray) -> dict[str, float]:
        """One row's values [C] by class name."""
        return dict(zip(self.class_names, values.tolist(), strict=True))

    def prediction_set(self, row: int) -> tuple[str, ...] | None:
        """The classes in the prediction set of one row; None without a set."""
        if self.in_set is None or np.isnan(self.in_set[row]).any():
            return None
        return tuple(name for name, inside in zip(self.class_names, self.in_set[row], strict=True) if inside)


def make_request(hu: np.ndarray, model_name: str) -> predict_pb2.PredictRequest:
    """A request for patches [N, 32, 32, 32, 1], Hounsfield units, axes S, P, L, to the newest version."""
    return _request(model_name, wire.SIGNATURE, {wire.INPUT_HU: hu})


def make_roi_request(
    regions: Regions, model_name: str, signature: str = wire.SIGNATURE_ROI
) -> predict_pb2.PredictRequest:
    """A request for regions of a CT, from which the graph cuts the patches, to the newest version."""
    inputs = {
        wire.INPUT_HU: regions.hu,
        wire.INPUT_SPACING: regions.spacing_mm,
        wire.INPUT_CENTER: regions.center_index,
    }
    return _request(model_name, signature, inputs)


def _request(model_name: str, signature: str, inputs: dict[str, np.ndarray]) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model_name, signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tensors.encode_content(values, wire.DTYPES[name]))
    return request


def read_response(response: predict_pb2.PredictResponse, mask_shape: tuple[int, ...]) -> Prediction:
    """Read a response of any signature and check it against the contract, with a mask of (N, S, S, S, 1).

    Raises:
        ServingError: An output is missing or damaged, its shape does not fit the request, or a number is not finite in
            a row for which no warning says that there is no prediction.
    """
    if not set(wire.OUTPUTS) <= set(response.outputs):
        raise _unexpected(response, "an output is missing")
    # No output is larger than the mask, except for the names of very small ones.
    largest_bytes = 4 * math.prod(mask_shape) + 2**20
    try:
        optional = (*wire.CENTER_OUTPUTS, *wire.FURTHER_OUTPUTS)
        names = (*wire.OUTPUTS, *(name for name in optional if name in response.outputs))
        arrays = {name: _output(response, name, largest_bytes) for name in names}
    except ValueError as error:
        raise _unexpected(response, str(error)) from error
    probabilities, mask = arrays[wire.OUTPUT_PROBABILITIES], arrays[wire.OUTPUT_MASK]
    class_names, warnings = arrays[wire.OUTPUT_CLASS_NAMES], arrays[wire.OUTPUT_WARNING]
    centers, moved = (arrays.get(name) for name in wire.CENTER_OUTPUTS)
    spread, in_set, typicality = (arrays.get(name) for name in wire.FURTHER_OUTPUTS)
    rows = mask_shape[:1]
    fits = mask.shape == mask_shape and probabilities.shape[:1] == warnings.shape == rows
    fits &= centers is None or centers.shape == (*rows, 3)
    fits &= moved is None or moved.shape == rows
    fits &= all(part is None or part.shape == probabilities.shape for part in (spread, in_set))
    fits &= typicality is None or typicality.shape == rows
    fits &= probabilities.ndim == 2 and class_names.shape == probabilities.shape
    if not fits or (class_names != class_names[:1]).any():
        raise _unexpected(response, ", ".join(f"{name} {array.shape}" for name, array in arrays.items()))
    numbers = [part for part in (probabilities, spread, typicality) if part is not None]
    finite = np.isfinite(np.column_stack(numbers)).all(axis=1)
    if not all(map(_has_no_prediction, warnings[~finite])):
        raise _unexpected(response, "numbers that are not finite, without a warning that says so")
    return Prediction(
        probabilities,
        mask,
        tuple(map(one_line, class_names[0])),
        response.model_spec.version.value,
        tuple(map(printable, warnings)),
        centers,
        moved,
        spread,
        in_set,
        typicality,
    )


def _has_no_prediction(warnings: str) -> bool:
    """Whether one of a row's warnings says that it has no prediction."""
    # Imported here: it imports SciPy, and few responses need it.
    from ggn_tf.serving.contract.warning_texts import PATCH_WARNINGS, REGION_WARNINGS

    codes = {kind.code for kind in (*PATCH_WARNINGS, *REGION_WARNINGS) if not kind.predicted}
    return any(line.partition(":")[0] in codes for line in warnings.splitlines())


def _output(response: predict_pb2.PredictResponse, name: str, largest_bytes: int) -> np.ndarray:
    """An output; texts are decoded, with replacements where they are not UTF-8."""
    proto = response.outputs[name]
    if proto.dtype != tensors.TYPES[wire.DTYPES[name]]:
        raise ValueError(f"{name} has another type")
    array = tensors.decode(proto, largest_bytes)
    if array.dtype != object:
        return array
    texts = [text.decode("utf-8", "replace") for text in array.ravel()]
    return np.array(texts, object).reshape(array.shape)


def join(parts: Sequence[Prediction]) -> Prediction:
    """Consecutive predictions of one version as a single one."""
    return Prediction(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.mask for part in parts]),
        parts[0].class_names,
        parts[0].model_version,
        tuple(warning for part in parts for warning in part.warnings),
        _joined([part.center_index for part in parts]),
        _joined([part.moved_mm for part in parts]),
        _joined([part.spread for part in parts]),
        _joined([part.in_set for part in parts]),
        _joined([part.typicality for part in parts]),
    )


def restore_axes(prediction: Prediction, shape: tuple[int, ...], axes: str) -> Prediction:
    """The prediction for regions [N, D, H, W] with its centres in the caller's order of axes (see `order_regions`)."""
    if prediction.center_index is None:
        return prediction
    return replace(prediction, center_index=restore_centers(prediction.center_index, shape, axes))


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if len(present) == len(parts) else None


def _unexpected(response: predict_pb2.PredictResponse, found: str) -> ServingError:
    return ServingError(
        "The model's response does not follow the contract.",
        case=f"model {response.model_spec.name}, version {response.model_spec.version.value}",
        found=f"{found}; outputs {', '.join(sorted(response.outputs))}",
        expected=f"{wire.OUTPUT_PROBABILITIES} [N,C], {wire.OUTPUT_MASK} [N,S,S,S,1], {wire.OUTPUT_CLASS_NAMES} [N,C], "
        f"{wire.OUTPUT_WARNING} [N]",
        remedy="Serve a model that ggn-tf export wrote.",
    )


def read_requests(file: Path) -> Iterator[prediction_log_pb2.PredictLog]:
    """Read requests with their responses; raises ValueError where the file is missing or cut off.

    TFRecord's own checksums are not compared: that of the version's list is.
    """
    try:
        for record in read_records(file):
            yield prediction_log_pb2.PredictionLog.FromString(record).predict_log
    except (OSError, DecodeError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


def read_golden(version_folder: Path) -> list[tuple[predict_pb2.PredictRequest, predict_pb2.PredictResponse]]:
    """Read the golden requests of a version with the responses that the export gave.

    Raises:
        ExportError: There are none, the file is damaged, or the version differs from its list of checksums.
    """
    if has_checksums(version_folder):
        check_checksums(version_folder)
    file = version_folder / wire.ASSETS_EXTRA / wire.GOLDEN_FILE
    try:
        pairs = [(log.request, log.response) for log in read_requests(file)]
        if not pairs:
            raise ValueError("no record")
    except ValueError as error:
        raise ExportError(
            "The version's golden predictions cannot be read.",
            case=file,
            found=str(error),
            expected="a TFRecord file of PredictionLog",
            remedy="Export the run again.",
        ) from error
    return pairs
