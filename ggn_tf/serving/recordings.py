"""Recorded requests that travel in an export: to warm a version up before it answers, and to check a server by."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ggn_tf.errors import ExportError
from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving import tensors
from ggn_tf.serving.contract import (
    ASSETS_EXTRA,
    GOLDEN_FILE,
    INPUT_HU,
    MODEL_NAME,
    SIGNATURE,
    WARMUP_BATCHES,
    WARMUP_FILE,
)
from ggn_tf.serving.messages import make_request
from ggn_tf.serving.predict import predict
from ggn_tf.serving.servable import Servable
from ggn_tf.serving.status_error import StatusError

_MOST_RECORDS = 1000
_GOLDEN_BATCHES = (1, 1, 2)
_LUNG_HU, _NODULE_HU, _NOISE_HU = -850.0, -500.0, 30.0


def write_warmup(version_folder: Path, patch: PatchProtocol) -> None:
    """Write the requests that a server replays before a version answers: one patch, and a full batch.

    Each holds a single value that fills the tensor, so that the file has some hundred bytes instead of 3 MB.
    """
    logs = []
    for batch in WARMUP_BATCHES:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = MODEL_NAME, SIGNATURE
        request.inputs[INPUT_HU].CopyFrom(tensors.repeat(_NODULE_HU, (batch, *(patch.size,) * 3, 1)))
        logs.append(_log(request))
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
    axes = [(np.arange(patch.size) - (patch.size - 1) / 2) * spacing for spacing in patch.spacing_mm_zyx]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    distance_mm = np.sqrt(z**2 + y**2 + x**2)
    radius_mm = np.linspace(2.0, 8.0, count)[:, None, None, None]
    inside = 1 / (1 + np.exp(2 * (distance_mm - radius_mm)))
    noise = np.random.default_rng(seed).normal(0.0, _NOISE_HU, inside.shape)
    hu = _LUNG_HU + (_NODULE_HU - _LUNG_HU) * inside + noise
    return hu[..., None].astype(np.float32)


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
