"""What a person should know before believing an answer: where the nodule lies outside what the model was trained on."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from ggn_tf.cases.patches import Patch
from ggn_tf.cases.surroundings import covered_voxels, surroundings_of
from ggn_tf.cases.volumes import Volume
from ggn_tf.serving.doubts import (
    BELOW_AIR,
    BELOW_AIR_HU,
    COARSE_SPACING,
    COARSEST_SPACING_MM,
    DENSE,
    DENSE_HU,
    LARGER_THAN_PATCH,
    MOST_DENSE,
    NO_LUNG,
    NO_NODULE,
    PARTLY_OUTSIDE_CT,
)

# As a part of a hundred, for numpy.
_DENSE_PERCENTILE = 100 * (1 - MOST_DENSE)
# By far the most frequent mistake, and one that often leads into the other lung.
_SLICER = "A centre that was read off 3D Slicer is in RAS: repeat with --ras."


@dataclass(frozen=True)
class Caution:
    """One reason for doubt.

    Attributes:
        code: For a program.
        text: For a person.
    """

    code: str
    text: str

    def to_dict(self) -> dict[str, str]:
        """As JSON types."""
        return asdict(self)


def cautions_about(patch: Patch, nodule: npt.NDArray[np.bool_], inside_hu: npt.NDArray[np.floating]) -> list[Caution]:
    """Look for reasons to doubt the answer to a patch.

    Args:
        patch: What the model was asked.
        nodule: [z, y, x] on the patch's grid: what the model takes for the nodule.
        inside_hu: The CT's values in that nodule; empty where there is none.
    """
    return [
        *(Caution("repaired", f"Put right before the model saw it: {note}.") for note in patch.repaired),
        *_about_spacing(patch),
        *_about_place(patch),
        *_about_values(patch, inside_hu),
        *_about_mask(nodule),
    ]


def cautions_about_series(volume: Volume) -> list[Caution]:
    """Look for reasons to doubt all answers to a CT, in what its headers tell."""
    if not volume.contrast_agent:
        return []
    return [
        Caution(
            "contrast_agent",
            "The series' headers tell of a contrast agent; the model was trained on scans without one.",
        )
    ]


def shared_voxels(names: list[str]) -> Caution:
    """The caution of a nodule that other ones of the same call share voxels with."""
    return Caution(
        "overlaps",
        f"It shares voxels with {', '.join(names)}: one nodule asked about twice, or two that touch. "
        "In the mask files a shared voxel belongs to the nodule that was named first.",
    )


def _about_spacing(patch: Patch) -> Iterator[Caution]:
    coarsest = max(patch.ct_grid.spacing_mm_xyz)
    # A header's 32-bit number of 2.5 may read as 2.5000001.
    if coarsest > COARSEST_SPACING_MM + 1e-4:
        yield Caution(
            COARSE_SPACING.code,
            f"The CT's voxels are {coarsest:.2f} mm apart in one direction; the model was trained on finer scans, "
            f"and above {COARSEST_SPACING_MM:g} mm a small nodule is in too few slices.",
        )


def _about_place(patch: Patch) -> Iterator[Caution]:
    outside = 1 - float(covered_voxels(patch).mean())
    if outside > 0:
        yield Caution(
            PARTLY_OUTSIDE_CT.code,
            f"The CT ends within the patch: {outside:.0%} of it was filled with air.",
        )


def _about_values(patch: Patch, inside_hu: npt.NDArray[np.floating]) -> Iterator[Caution]:
    around = surroundings_of(patch)
    if around.below_air:
        yield Caution(
            BELOW_AIR.code,
            f"Half of the values are at most {around.middle_hu:.0f}, and air itself has {BELOW_AIR_HU:.0f} HU. "
            "The centre lies elsewhere, or the CT's values are not Hounsfield units.",
        )
    elif around.no_lung:
        yield Caution(
            NO_LUNG.code,
            f"There is no lung around the centre: hardly a value is below {around.lowest_hu:.0f}, where lung has -850 "
            f"HU. The centre lies elsewhere, or the CT's values are not Hounsfield units. {_SLICER}",
        )
    elif inside_hu.size and (dense := float(np.percentile(inside_hu, _DENSE_PERCENTILE))) > DENSE_HU:
        yield Caution(
            DENSE.code,
            f"A twentieth of the nodule is above {dense:.0f} HU: contrast agent, calcium or metal. "
            "The model was trained on soft nodules in scans without contrast agent.",
        )


def _about_mask(nodule: npt.NDArray[np.bool_]) -> Iterator[Caution]:
    if not nodule.any():
        yield Caution(NO_NODULE.code, f"{NO_NODULE.text} {_SLICER}")
    if np.count_nonzero(nodule) > np.count_nonzero(nodule[1:-1, 1:-1, 1:-1]):
        yield Caution(
            LARGER_THAN_PATCH.code,
            "The nodule reaches the patch's border and may go on beyond it: volume, diameter and class are of a part.",
        )
