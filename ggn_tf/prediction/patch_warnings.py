"""What a person should know before believing an answer: where the nodule lies outside what the model was trained on."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from ggn_tf.cases.lung_context import covered_voxels, lung_context_of
from ggn_tf.cases.patches import Patch
from ggn_tf.cases.volumes import Volume
from ggn_tf.serving.contract.warning_texts import (
    BELOW_AIR,
    COARSE_SPACING,
    COARSEST_SPACING_MM,
    DENSE,
    DENSE_HU,
    LARGER_THAN_PATCH,
    MOST_DENSE,
    NO_LUNG,
    NO_NODULE,
    PARTLY_OUTSIDE_CT,
    WarningKind,
)

# As a part of a hundred, for numpy.
_DENSE_PERCENTILE = 100 * (1 - MOST_DENSE)
# By far the most frequent mistake, and one that often leads into the other lung.
_SLICER = "A centre that was read off 3D Slicer is in RAS: repeat with --ras."


@dataclass(frozen=True)
class PredictionWarning:
    """One reason for doubt.

    Attributes:
        code: For a program.
        text: For a person.
    """

    code: str
    text: str

    @classmethod
    def of(cls, doubt: WarningKind, *more: str) -> Self:
        """What the served graph says too, and what only this side knows of it."""
        return cls(doubt.code, " ".join([doubt.text, *more]))

    def to_dict(self) -> dict[str, str]:
        """As JSON types."""
        return asdict(self)


def patch_warnings(
    patch: Patch, nodule: npt.NDArray[np.bool_], inside_hu: npt.NDArray[np.floating]
) -> list[PredictionWarning]:
    """Look for reasons to doubt the answer to a patch.

    Args:
        patch: What the model was asked.
        nodule: [z, y, x] on the patch's grid: what the model takes for the nodule.
        inside_hu: The CT's values in that nodule; empty where there is none.
    """
    return [
        *(PredictionWarning("repaired", f"Put right before the model saw it: {note}.") for note in patch.repaired),
        *_about_spacing(patch),
        *_about_place(patch),
        *_about_values(patch, inside_hu),
        *_about_mask(nodule),
    ]


def series_warnings(volume: Volume) -> list[PredictionWarning]:
    """Look for reasons to doubt all answers to a CT, in what its headers tell."""
    if not volume.contrast_agent:
        return []
    return [
        PredictionWarning(
            "contrast_agent",
            "The series' headers tell of a contrast agent; the model was trained on scans without one.",
        )
    ]


def overlap_warning(names: list[str]) -> PredictionWarning:
    """The caution of a nodule that other ones of the same call share voxels with."""
    return PredictionWarning(
        "overlaps",
        f"It shares voxels with {', '.join(names)}: one nodule asked about twice, or two that touch. "
        "In the mask files a shared voxel belongs to the nodule that was named first.",
    )


def _about_spacing(patch: Patch) -> Iterator[PredictionWarning]:
    coarsest = max(patch.ct_grid.spacing_mm_xyz)
    # A header's 32-bit number of 2.5 may read as 2.5000001.
    if coarsest > COARSEST_SPACING_MM + 1e-4:
        yield PredictionWarning.of(COARSE_SPACING, f"Here: {coarsest:.2f} mm.")


def _about_place(patch: Patch) -> Iterator[PredictionWarning]:
    outside = 1 - float(covered_voxels(patch).mean())
    if outside > 0:
        yield PredictionWarning.of(PARTLY_OUTSIDE_CT, f"Here: {outside:.0%} of the patch.")


def _about_values(patch: Patch, inside_hu: npt.NDArray[np.floating]) -> Iterator[PredictionWarning]:
    around = lung_context_of(patch)
    if around.below_air:
        yield PredictionWarning.of(BELOW_AIR, f"Here: {around.middle_hu:.0f}.")
    elif around.no_lung:
        yield PredictionWarning.of(NO_LUNG, f"Here: below {around.lowest_hu:.0f}.", _SLICER)
    elif inside_hu.size and (dense := float(np.percentile(inside_hu, _DENSE_PERCENTILE))) > DENSE_HU:
        yield PredictionWarning.of(DENSE, f"Here: above {dense:.0f} HU.")


def _about_mask(nodule: npt.NDArray[np.bool_]) -> Iterator[PredictionWarning]:
    if not nodule.any():
        yield PredictionWarning.of(NO_NODULE, _SLICER)
    if np.count_nonzero(nodule) > np.count_nonzero(nodule[1:-1, 1:-1, 1:-1]):
        yield PredictionWarning.of(LARGER_THAN_PATCH)
