"""The requests that an export brings along: for the warm-up of a server, and golden ones with their predictions."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ggn_tf.errors import ExportError
from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving.contract import tensors, wire
from ggn_tf.serving.contract.messages import Regions, make_request, make_roi_request
from ggn_tf.serving.runtime.predict_request import predict
from ggn_tf.serving.runtime.servable import Servable

_LUNG_HU, _NODULE_HU, _NOISE_HU = -850.0, -500.0, 30.0

_GOLDEN_BATCHES = (1, 1, 2)
_REGION_SHAPE, _REGION_SPACING_MM = (28, 34, 36), (1.25, 0.75, 0.75)
# Between voxels, and in the last region so close to its end that the patch extends beyond.
_REGION_CENTERS = ((13.5, 16.25, 17.75), (14.25, 17.0, 17.5), (22.0, 17.5, 18.0))
# Voxels from the nodule's centre: 4.1 mm.
_BESIDE = (2.0, 3.0, -3.0)

_ConstantTensor = tuple[float, tuple[int, ...]]
"""Value and shape."""


def write_warmup(version_folder: Path, patch: PatchProtocol) -> None:
    """Write the requests that a server runs before a version becomes available: two signatures, all batch sizes.

    Each tensor contains a single value that fills it, so that the file has some kilobytes instead of 10 MB.
    """
    size = patch.size
    requests = [
        _constant_request(wire.SIGNATURE, {wire.INPUT_HU: (_NODULE_HU, (batch, size, size, size, 1))})
        for batch in wire.WARMUP_BATCHES
    ]
    for batch in wire.WARMUP_BATCHES_ROI:
        region: dict[str, _ConstantTensor] = {
            wire.INPUT_HU: (_NODULE_HU, (batch, size, size, size)),
            wire.INPUT_SPACING: (1.0, (batch, 3)),
            wire.INPUT_CENTER: (size / 2, (batch, 3)),
        }
        requests.append(_constant_request(wire.SIGNATURE_ROI, region))
    _write_requests(version_folder / wire.ASSETS_EXTRA / wire.WARMUP_FILE, ((request, None) for request in requests))


def write_golden(version_folder: Path, servable: Servable, patch: PatchProtocol) -> None:
    """Write requests with this version's responses, to check any server that claims to serve it.

    The patches are simulated, not taken from patients: an export may go where patient data must not.

    Raises:
        ExportError: A prediction is not a finite number.
    """
    patches = sample_patches(patch, sum(_GOLDEN_BATCHES), seed=0)
    parts = np.split(patches, np.cumsum(_GOLDEN_BATCHES)[:-1])
    requests = [make_request(part, wire.MODEL_NAME) for part in parts]
    regions = sample_regions(seed=0)
    for rows in ([0], [1, 2]):
        hu, spacing_mm, center_index = (part[rows] for part in regions)
        requests.append(make_roi_request(Regions(hu, spacing_mm, center_index), wire.MODEL_NAME))
    hu, spacing_mm, center_index = sample_regions(seed=1)
    beside = Regions(hu[:2], spacing_mm[:2], center_index[:2] + _BESIDE)
    requests.append(make_roi_request(beside, wire.MODEL_NAME, wire.SIGNATURE_RECENTERED))
    pairs = [(request, predict(servable, request)) for request in requests]
    for _, response in pairs:
        _check_finite(response)
    _write_requests(version_folder / wire.ASSETS_EXTRA / wire.GOLDEN_FILE, pairs)


def _write_requests(
    file: Path, pairs: Iterable[tuple[predict_pb2.PredictRequest, predict_pb2.PredictResponse | None]]
) -> None:
    """Write requests, each with its response where there is one."""
    with tf.io.TFRecordWriter(str(file)) as writer:
        for request, response in pairs:
            log = prediction_log_pb2.PredictLog(request=request, response=response)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def _check_finite(response: predict_pb2.PredictResponse) -> None:
    for name in sorted({wire.OUTPUT_PROBABILITIES, wire.OUTPUT_MASK, *wire.FURTHER_OUTPUTS} & set(response.outputs)):
        values = tensors.decode(response.outputs[name])
        if not np.isfinite(values).all():
            raise ExportError(
                "The model's predictions are not numbers.",
                found=f"{np.count_nonzero(~np.isfinite(values))} of {values.size} values of {name} are not finite",
                expected="finite values for simulated nodules",
                remedy="Train another run. Weights that are not finite come from training that diverged, or from a "
                "file that was changed.",
            )


def sample_patches(patch: PatchProtocol, count: int, seed: int) -> np.ndarray:
    """Simulate ground-glass balls in lung, [count, S, S, S, 1] float32, Hounsfield units, axes z, y, x."""
    middle = (patch.size - 1) / 2
    generator = np.random.default_rng(seed)
    axes = [(np.arange(patch.size) - middle) * spacing for spacing in patch.spacing_mm_zyx]
    return np.stack([_ball(axes, radius_mm, generator) for radius_mm in np.linspace(2.0, 8.0, count)])[..., None]


def sample_regions(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simulate ground-glass balls in regions of a CT, with whole Hounsfield units as a scanner stores them.

    Returns Hounsfield units [3, D, H, W], float32, spacing [3, 3] in mm and centre [3, 3] in voxels, axes z, y, x. The
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


def _constant_request(signature: str, inputs: dict[str, _ConstantTensor]) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = wire.MODEL_NAME, signature
    for name, (value, shape) in inputs.items():
        request.inputs[name].CopyFrom(tensors.repeat(value, shape, wire.DTYPES[name]))
    return request
