"""Recorded requests that travel in an export: to warm a version up before it answers, and to check a server by."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ggn_tf.errors import ExportError
from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving.contract import tensors
from ggn_tf.serving.contract.messages import make_request, make_roi_request
from ggn_tf.serving.contract.names import (
    ASSETS_EXTRA,
    DTYPES,
    GOLDEN_FILE,
    INPUT_CENTER,
    INPUT_HU,
    INPUT_SPACING,
    MODEL_NAME,
    SIGNATURE,
    SIGNATURE_ROI,
    WARMUP_BATCHES,
    WARMUP_BATCHES_ROI,
    WARMUP_FILE,
)
from ggn_tf.serving.contract.status_error import StatusError
from ggn_tf.serving.runtime.predict_request import predict
from ggn_tf.serving.runtime.servable import Servable

_MOST_RECORDS = 1000
_LUNG_HU, _NODULE_HU, _NOISE_HU = -850.0, -500.0, 30.0

_GOLDEN_BATCHES = (1, 1, 2)
_REGION_SHAPE, _REGION_SPACING_MM = (28, 34, 36), (1.25, 0.75, 0.75)
# Between voxels, and in the last region so near its end that the patch reaches beyond.
_REGION_CENTERS = ((13.5, 16.25, 17.75), (14.25, 17.0, 17.5), (22.0, 17.5, 18.0))


def write_warmup(version_folder: Path, patch: PatchProtocol) -> None:
    """Write the requests that a server replays before a version answers: both signatures, at the sizes of batches.

    Each tensor holds a single value that fills it, so that the file has some kilobytes instead of 10 MB.
    """
    size = patch.size
    logs = []
    for batch in WARMUP_BATCHES:
        logs.append(_warmup_log(SIGNATURE, {INPUT_HU: (_NODULE_HU, (batch, size, size, size, 1))}))
    for batch in WARMUP_BATCHES_ROI:
        region = {
            INPUT_HU: (_NODULE_HU, (batch, size, size, size)),
            INPUT_SPACING: (1.0, (batch, 3)),
            INPUT_CENTER: (size / 2, (batch, 3)),
        }
        logs.append(_warmup_log(SIGNATURE_ROI, region))
    _write_logs(version_folder / ASSETS_EXTRA / WARMUP_FILE, logs)


def warm_up(servable: Servable, version_folder: Path) -> int:
    """Replay the warm-up requests of a version, where it has any.

    Returns:
        How many were replayed.

    Raises:
        ExportError: The file is damaged or has too many records, or a request fails.
    """
    file = version_folder / ASSETS_EXTRA / WARMUP_FILE
    if not file.exists():
        return 0
    count = 0
    try:
        for count, log in enumerate(_read_logs(file), start=1):
            if count > _MOST_RECORDS:
                raise ValueError(f"Number of warmup records exceeds the maximum ({_MOST_RECORDS})")
            predict(servable, log.predict_log.request)
    except (StatusError, ValueError) as error:
        raise ExportError(
            "The version's warm-up failed.",
            case=file,
            found=error.message if isinstance(error, StatusError) else str(error),
            expected="requests that the version answers",
            remedy="Export the run anew.",
        ) from error
    return count


def write_golden(version_folder: Path, servable: Servable, patch: PatchProtocol) -> None:
    """Write requests with the answers that this version gives, for checking any server that claims to serve it.

    The patches are drawn, not taken from patients: an export may go where the data must not.
    """
    patches = sample_patches(patch, sum(_GOLDEN_BATCHES), seed=0)
    ends = np.cumsum(_GOLDEN_BATCHES)
    requests = [
        make_request(patches[end - size : end], MODEL_NAME) for size, end in zip(_GOLDEN_BATCHES, ends, strict=True)
    ]
    regions = sample_regions(seed=0)
    for chosen in ([0], [1, 2]):
        hu, spacing_mm, center_index = (part[chosen] for part in regions)
        requests.append(make_roi_request(hu, spacing_mm, center_index, MODEL_NAME))
    logs = [_log(request, predict(servable, request)) for request in requests]
    _write_logs(version_folder / ASSETS_EXTRA / GOLDEN_FILE, logs)


def read_golden(version_folder: Path) -> list[tuple[predict_pb2.PredictRequest, predict_pb2.PredictResponse]]:
    """The recorded pairs of a version.

    Raises:
        ExportError: There are none, or the file is damaged.
    """
    file = version_folder / ASSETS_EXTRA / GOLDEN_FILE
    try:
        logs = list(_read_logs(file))
        if not logs:
            raise ValueError("no record")
    except ValueError as error:
        raise ExportError(
            "The version's golden predictions cannot be read.",
            case=file,
            found=str(error),
            expected="a TFRecord file of PredictionLog",
            remedy="Export the run anew.",
        ) from error
    return [(log.predict_log.request, log.predict_log.response) for log in logs]


def sample_patches(patch: PatchProtocol, count: int, seed: int) -> np.ndarray:
    """Draw ground-glass balls of growing size in lung.

    Args:
        patch: Size and spacing.
        count: How many.
        seed: Draws the noise.

    Returns:
        [count, S, S, S, 1] float32, Hounsfield units, axes z, y, x.
    """
    middle = (patch.size - 1) / 2
    generator = np.random.default_rng(seed)
    axes = [(np.arange(patch.size) - middle) * spacing for spacing in patch.spacing_mm_zyx]
    return np.stack([_ball(axes, radius_mm, generator) for radius_mm in np.linspace(2.0, 8.0, count)])[..., None]


def sample_regions(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw ground-glass balls in pieces of a CT, as a scanner would store them.

    Args:
        seed: Draws the noise.

    Returns:
        Hounsfield units [3, D, H, W], float32, spacing [3, 3] in mm and centre [3, 3] in voxels, axes z, y, x. The
        third region ends within its patch.
    """
    generator = np.random.default_rng(seed)
    regions = []
    for radius_mm, center in zip((3.0, 5.0, 7.0), _REGION_CENTERS, strict=True):
        axes = [
            (np.arange(size) - middle) * step
            for size, middle, step in zip(_REGION_SHAPE, center, _REGION_SPACING_MM, strict=True)
        ]
        regions.append(np.rint(_ball(axes, radius_mm, generator)))
    spacing_mm = np.tile(_REGION_SPACING_MM, (len(regions), 1))
    return np.stack(regions), spacing_mm, np.array(_REGION_CENTERS)


def _ball(axes_mm: Sequence[np.ndarray], radius_mm: float, generator: np.random.Generator) -> np.ndarray:
    z, y, x = np.meshgrid(*axes_mm, indexing="ij")
    inside = 1 / (1 + np.exp(2 * (np.sqrt(z**2 + y**2 + x**2) - radius_mm)))
    noise = generator.normal(0.0, _NOISE_HU, inside.shape)
    return (_LUNG_HU + (_NODULE_HU - _LUNG_HU) * inside + noise).astype(np.float32)


def _warmup_log(signature: str, inputs: dict[str, tuple[float, tuple[int, ...]]]) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = MODEL_NAME, signature
    for name, (value, shape) in inputs.items():
        request.inputs[name].CopyFrom(tensors.repeat(value, shape, DTYPES[name]))
    return _log(request)


def _log(
    request: predict_pb2.PredictRequest, response: predict_pb2.PredictResponse | None = None
) -> prediction_log_pb2.PredictionLog:
    return prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request, response=response)
    )


def _write_logs(file: Path, logs: Iterable[prediction_log_pb2.PredictionLog]) -> None:
    with tf.io.TFRecordWriter(str(file)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def _read_logs(file: Path) -> Iterator[prediction_log_pb2.PredictionLog]:
    """Raises ValueError on a damaged file."""
    try:
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            yield prediction_log_pb2.PredictionLog.FromString(record)
    except (tf.errors.OpError, DecodeError) as error:
        raise ValueError(str(error).splitlines()[0]) from error
