"""Nodules of one CT: their patches to the model, and the answers in the CT's own terms."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Box, Grid, Vector, vector
from ggn_tf.cases.masks import nodule_box
from ggn_tf.cases.measurements import Measurements, measure
from ggn_tf.cases.patches import Patch, paste_mask
from ggn_tf.cases.volumes import Volume
from ggn_tf.prediction.overlay import field_around
from ggn_tf.prediction.patch_warnings import PredictionWarning, overlap_warning, patch_warnings, series_warnings
from ggn_tf.protocol import MASK_THRESHOLD
from ggn_tf.serving.contract.messages import Prediction


class NodulePatch(NamedTuple):
    """A nodule that is asked about: what the user calls it, and its patch."""

    name: str
    patch: Patch


@dataclass(frozen=True)
class NodulePrediction:
    """What the model says of one nodule.

    Attributes:
        name: What the user calls it.
        probabilities: By class name, in the order of the task.
        center_mm_lps: The patch's centre.
        center_index_xyz: The same as an index of the CT's voxels, from 0, in the order x, y, z.
        mask: uint8, 0 or 1, on the block of the CT's voxels that holds the nodule; None where the model finds none.
        measures: Of `mask`, on the CT's own voxels.
        block: Hounsfield units around the nodule.
        cautions: Reasons to doubt the answer.
    """

    name: str
    probabilities: dict[str, float]
    center_mm_lps: Vector
    center_index_xyz: Vector
    mask: sitk.Image | None
    measures: Measurements | None
    block: sitk.Image
    warnings: tuple[PredictionWarning, ...]

    @property
    def decision(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without voxels."""
        nothing = {**dict.fromkeys(Measurements._fields), "volume_mm3": 0.0}
        return {
            "name": self.name,
            "decision": self.decision,
            "probabilities": self.probabilities,
            "center_mm_lps": list(self.center_mm_lps),
            "center_index_xyz": [round(index, 2) for index in self.center_index_xyz],
            **(nothing if self.measures is None else self.measures._asdict()),
            "warnings": [warning.to_dict() for warning in self.warnings],
        }


@dataclass(frozen=True)
class CtPrediction:
    """What the model says of a CT's nodules.

    Attributes:
        nodules: In the order of the questions.
        labels: uint8 (uint16 above 255 nodules) of the CT's size: 0, or a nodule's number from 1.
        model_version: The version that answered.
    """

    nodules: tuple[NodulePrediction, ...]
    labels: sitk.Image
    model_version: int


def predict_nodules(
    volume: Volume, questions: Sequence[NodulePatch], predict: Callable[[np.ndarray], Prediction]
) -> CtPrediction:
    """Ask a model about nodules of one CT.

    Args:
        volume: The CT.
        questions: Patches as cut from it, at least one.
        predict: `PredictionClient.predict` or `LocalModel.predict`.
    """
    prediction = predict(np.stack([question.patch.hu for question in questions])[..., None])
    labels = np.zeros(volume.grid.size_xyz[::-1], np.uint8 if len(questions) < 256 else np.uint16)
    nodules: list[NodulePrediction] = []
    shared: list[set[int]] = []
    answered = zip(questions, prediction.probabilities, prediction.mask[..., 0], strict=True)
    for question, probabilities, soft_mask in answered:
        by_class = dict(zip(prediction.class_names, probabilities.tolist(), strict=True))
        nodules.append(_answer(volume, question, by_class, soft_mask))
        shared.append(_add(labels, volume.grid, nodules[-1].mask, len(nodules)))
        for other in shared[-1]:
            shared[other].add(len(nodules) - 1)
    told = [
        _told(nodule, [nodules[other].name for other in sorted(others)])
        for nodule, others in zip(nodules, shared, strict=True)
    ]
    return CtPrediction(tuple(told), volume.grid.image_of(labels), prediction.model_version)


def _answer(
    volume: Volume, question: NodulePatch, probabilities: dict[str, float], soft_mask: np.ndarray
) -> NodulePrediction:
    patch, grid = question.patch, volume.grid
    block = volume.read(_block_around(patch))
    mask = _trimmed(paste_mask(soft_mask, patch.grid, grid, MASK_THRESHOLD))
    inside_hu = np.empty(0) if mask is None else _part(block, mask)[sitk.GetArrayViewFromImage(mask) > 0]
    # A speck between the CT's voxels is on none of them: no nodule.
    nodule = (soft_mask >= MASK_THRESHOLD) & (mask is not None)
    return NodulePrediction(
        name=question.name,
        probabilities=probabilities,
        center_mm_lps=patch.center_mm_lps,
        center_index_xyz=vector(grid.index_of(patch.center_mm_lps)),
        mask=mask,
        measures=None if mask is None else measure(block, mask),
        block=block,
        warnings=(*series_warnings(volume), *patch_warnings(patch, nodule, inside_hu)),
    )


def _block_around(patch: Patch) -> Box | None:
    """What the overlay shows and the patch covers."""
    field = patch.ct_grid.box_around(field_around(patch.center_mm_lps))
    own = patch.ct_grid.box_around(patch.grid)
    return field.joined(own) if field and own else field


def _trimmed(mask: sitk.Image) -> sitk.Image | None:
    if not sitk.GetArrayViewFromImage(mask).any():
        return None
    box = nodule_box(mask)
    return sitk.RegionOfInterest(mask, box.size_xyz, box.start_xyz)


def _part(block: sitk.Image, mask: sitk.Image) -> np.ndarray:
    """The block's values where the mask's block lies."""
    return sitk.GetArrayViewFromImage(block)[_place(Grid.from_image(block), mask)]


def _place(grid: Grid, mask: sitk.Image) -> tuple[slice, ...]:
    x, y, z = np.rint(grid.index_of(mask.GetOrigin())).astype(int).tolist()
    return Box((x, y, z), mask.GetSize()).slices_zyx


def _add(labels: np.ndarray, grid: Grid, mask: sitk.Image | None, label: int) -> set[int]:
    """Write a nodule where no earlier one is.

    Returns:
        The earlier ones that it shares voxels with, counted from 0.
    """
    if mask is None:
        return set()
    part, inside = labels[_place(grid, mask)], sitk.GetArrayViewFromImage(mask) > 0
    taken = {int(other) - 1 for other in np.unique(part[inside]) if other > 0}
    part[inside & (part == 0)] = label
    return taken


def _told(nodule: NodulePrediction, others: list[str]) -> NodulePrediction:
    if not others:
        return nodule
    return dataclasses.replace(nodule, warnings=(*nodule.warnings, overlap_warning(others)))
