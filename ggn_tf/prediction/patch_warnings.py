"""Warnings about a prediction: where the nodule or its CT is outside what the model was trained on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from ggn_tf.cases.field_of_view import covered_voxels
from ggn_tf.cases.geometry.components import ONE_NODULE_MM
from ggn_tf.cases.lung_context import lung_context_of
from ggn_tf.cases.patches import Patch
from ggn_tf.cases.recentring import WARNING_MM
from ggn_tf.cases.volumes import Volume
from ggn_tf.serving.contract.warning_texts import (
    ATYPICAL,
    ATYPICAL_BELOW,
    BELOW_AIR,
    COARSE_SPACING,
    COARSEST_SPACING_MM,
    DENSE,
    DENSE_HU,
    LARGER_THAN_PATCH,
    MOST_DENSE,
    MOVED_FAR,
    NO_LUNG,
    NO_NODULE,
    PARTLY_OUTSIDE_CT,
    UNDECIDED,
    WarningKind,
)

NO_DECISION = "no nodule found"
"""Shown in place of a predicted class."""

# As a part of a hundred, for numpy.
_DENSE_PERCENTILE = 100 * (1 - MOST_DENSE)
_OUT_OF_PLACE = {NO_LUNG.code, NO_NODULE.code}
# By far the most frequent mistake, and one that often leads into the other lung.
_RAS = "If the centre was read in 3D Slicer, it is in RAS: then repeat the prediction with the centre given as RAS."


@dataclass(frozen=True)
class PredictionWarning:
    """One reason why a prediction may be wrong.

    Attributes:
        arguments: Names of the API arguments that the text needs.
    """

    code: str
    text: str
    arguments: tuple[str, ...] = ()

    @classmethod
    def of(cls, kind: WarningKind, *more: str, arguments: tuple[str, ...] = ()) -> Self:
        """A warning that the served graph gives too, with what only this side knows of it."""
        return cls(kind.code, " ".join([kind.text, *more]), arguments)

    def to_dict(self) -> dict[str, str]:
        """As JSON types."""
        return {"code": self.code, "text": self.text}


def patch_warnings(
    patch: Patch, nodule: npt.NDArray[np.bool_], inside_hu: npt.NDArray[np.floating], *, perhaps_ras: bool = False
) -> list[PredictionWarning]:
    """The warnings about a patch.

    `nodule` [z, y, x] is the predicted mask on the patch's grid, `inside_hu` the CT's values in it. With `perhaps_ras`,
    the centre may have been given in the other coordinate system.
    """
    warnings = [
        *(PredictionWarning("repaired", f"Noted before the prediction: {note}.") for note in patch.repaired),
        *_about_spacing(patch),
        *_about_location(patch),
        *_about_values(patch, inside_hu),
        *_about_mask(nodule),
    ]
    return [_perhaps_ras(warning) if perhaps_ras and warning.code in _OUT_OF_PLACE else warning for warning in warnings]


def series_warnings(volume: Volume) -> list[PredictionWarning]:
    """The warnings about all nodules of a CT, from its headers."""
    if not volume.contrast_agent:
        return []
    return [
        PredictionWarning(
            "contrast_agent",
            "The series' headers name a contrast agent; the model was trained on scans without one.",
        )
    ]


def overlap_warning(names: list[str]) -> PredictionWarning:
    """The warning about a nodule that shares voxels with others of the same call."""
    return PredictionWarning(
        "overlaps",
        f"It shares voxels with {', '.join(names)}: one nodule given twice, or two that touch. "
        "In the mask files a shared voxel belongs to the nodule that was named first.",
    )


def recentring_warnings(moved_mm: float, outside_mm: float, nearer: list[str]) -> list[PredictionWarning]:
    """The warnings about a centre that moved.

    `outside_mm` is the distance of the given centre from the nodule that was found; `nearer` are the nodules of the
    same call whose given centres are nearer to the last centre than its own.
    """
    warnings = [PredictionWarning.of(MOVED_FAR, f"Here: {moved_mm:.1f} mm.")] if moved_mm > WARNING_MM else []
    if nearer:
        reason = f"the given centre of {', '.join(nearer)} is nearer to the last one"
    elif outside_mm > ONE_NODULE_MM:
        reason = f"the given one is {outside_mm:.1f} mm outside the nodule that was found"
    else:
        return warnings
    return [*warnings, PredictionWarning("another_nodule", f"The centre may have moved to another nodule: {reason}.")]


def uncertainty_warnings(undecided: bool, typicality: float | None) -> list[PredictionWarning]:
    """The warnings about a prediction set and a typicality; None where the model does not give any."""
    warnings = [PredictionWarning.of(UNDECIDED)] if undecided else []
    # In the graph's precision: as float32, 0.01 is less than 0.01.
    if typicality is not None and np.float32(typicality) < np.float32(ATYPICAL_BELOW):
        warnings.append(PredictionWarning.of(ATYPICAL))
    return warnings


WITHOUT_SHIFTS = PredictionWarning(
    "trained_without_shifts",
    "The model was trained on centred nodules only. The farther a given centre is from the nodule's centre, the more "
    "often the model misses the nodule, and then the centre does not move to it.",
)
"""About the prediction of a model that recentring does not help much."""


def _about_spacing(patch: Patch) -> Iterator[PredictionWarning]:
    coarsest = max(patch.ct_grid.spacing_mm_xyz)
    # A header's 32-bit number of 2.5 may read as 2.5000001.
    if coarsest > COARSEST_SPACING_MM + 1e-4:
        yield PredictionWarning.of(COARSE_SPACING, f"Here: {coarsest:.2f} mm.")


def _about_location(patch: Patch) -> Iterator[PredictionWarning]:
    outside = 1 - float(covered_voxels(patch).mean())
    if outside > 0:
        yield PredictionWarning.of(PARTLY_OUTSIDE_CT, f"Here: {outside:.0%} of the patch.")


def _about_values(patch: Patch, inside_hu: npt.NDArray[np.floating]) -> Iterator[PredictionWarning]:
    around = lung_context_of(patch)
    if around.below_air:
        yield PredictionWarning.of(BELOW_AIR, f"Here: {around.middle_hu:.0f}.")
    elif around.no_lung:
        yield PredictionWarning.of(NO_LUNG, f"Here: below {around.lowest_hu:.0f}.")
    elif inside_hu.size and (dense := float(np.percentile(inside_hu, _DENSE_PERCENTILE))) > DENSE_HU:
        yield PredictionWarning.of(DENSE, f"Here: above {dense:.0f} HU.")


def _perhaps_ras(warning: PredictionWarning) -> PredictionWarning:
    """The warning with the most likely mistake."""
    return replace(warning, text=f"{warning.text} {_RAS}", arguments=("ras",))


def _about_mask(nodule: npt.NDArray[np.bool_]) -> Iterator[PredictionWarning]:
    if not nodule.any():
        yield PredictionWarning.of(NO_NODULE)
    if np.count_nonzero(nodule) > np.count_nonzero(nodule[1:-1, 1:-1, 1:-1]):
        yield PredictionWarning.of(LARGER_THAN_PATCH)
