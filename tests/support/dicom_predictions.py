"""Predictions about a DICOM series as a model would make them, without a model."""

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Box
from ggn_tf.cases.masks import nodule_box
from ggn_tf.cases.measurements import measure
from ggn_tf.cases.volumes import Volume
from ggn_tf.prediction.dicom_headers import Identity, TrackedNodule
from ggn_tf.prediction.nodules import CtPrediction, NodulePrediction
from ggn_tf.prediction.patch_warnings import PredictionWarning
from tests.support.chest import distance_mm

CLASSES = {"AAH+AIS": 0.25, "MIA": 0.625, "IAC": 0.125}
COARSE = PredictionWarning("coarse_spacing", "The slices are coarse.")


def identity(*names: str, model: str = "version 7") -> Identity:
    return Identity(model, tuple(TrackedNodule(name, f"2.25.{number}") for number, name in enumerate(names, 1)), "seed")


def predicted(
    volume: Volume, *balls: tuple[tuple[float, float, float], float], sha256: str | None = "d1"
) -> CtPrediction:
    """A nodule per ball (centre LPS mm, radius mm); of a ball without a radius the model found nothing."""
    labels = np.zeros(volume.grid.size_xyz[::-1], np.uint8)
    nodules = []
    for number, (center, radius_mm) in enumerate(balls, start=1):
        inside = distance_mm(volume.grid, center) < radius_mm
        labels[inside & (labels == 0)] = number
        nodules.append(nodule(volume, f"F-{number}", center, inside))
    return CtPrediction(tuple(nodules), volume.stored_image(labels), 7, volume, {}, (), sha256)


def nodule(volume: Volume, name: str, center: tuple[float, float, float], inside: np.ndarray) -> NodulePrediction:
    whole, mask, measured = volume.grid.image_of(inside.astype(np.uint8)), None, None
    block = volume.read(Box((0, 0, 0), volume.grid.size_xyz))
    if inside.any():
        box = nodule_box(whole)
        mask = sitk.RegionOfInterest(whole, box.size_xyz, box.start_xyz)
        measured = measure(block, mask)
    index = tuple(volume.stored_grid.index_of(center).tolist())
    return NodulePrediction(name, dict(CLASSES), center, index, center, 0, mask, measured, block, (COARSE,))
