"""What a person should know before believing an answer: where the nodule lies outside what the model was trained on.

The scans of the paper (section 3.1): without contrast agent, slices of 1.25 mm, nodules of at most a centimetre.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from ggn_tf.cases.patches import Patch

# Twice the distance of the paper's slices: beyond it most of the patch's 1 mm layers are interpolated, not measured.
COARSEST_SPACING_MM = 2.5
# Air in lung lies near -850 HU. In all of LIDC-IDRI's crops the lowest hundredth of a patch is below -700 HU.
NO_LUNG_HU = -500.0
_LOWEST_PERCENTILE = 1
# From here on coronary scores count calcium (Agatston et al. 1990): without contrast agent soft tissue stays below.
DENSE_HU = 130.0
# Of the values inside the mask: noise alone does not lift so many of a soft nodule's voxels to DENSE_HU.
_DENSE_PERCENTILE = 95


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
            "coarse_spacing",
            f"The CT's voxels are {coarsest:.2f} mm apart in one direction; the model was trained on finer scans, "
            f"and above {COARSEST_SPACING_MM:g} mm a small nodule is in too few slices.",
        )


def _about_place(patch: Patch) -> Iterator[Caution]:
    outside = 1 - float(_covered(patch).mean())
    if outside > 0:
        yield Caution(
            "partly_outside_ct",
            f"The CT ends within the patch: {outside:.0%} of it was filled with air.",
        )


def _about_values(patch: Patch, inside_hu: npt.NDArray[np.floating]) -> Iterator[Caution]:
    lowest = float(np.percentile(patch.hu[_covered(patch)], _LOWEST_PERCENTILE))
    if lowest > NO_LUNG_HU:
        yield Caution(
            "no_lung",
            f"There is no lung around the centre: hardly a value is below {lowest:.0f}, where lung has -850 HU. "
            "The centre lies elsewhere, or the CT's values are not Hounsfield units.",
        )
    elif inside_hu.size and (dense := float(np.percentile(inside_hu, _DENSE_PERCENTILE))) > DENSE_HU:
        yield Caution(
            "dense",
            f"A twentieth of the nodule is above {dense:.0f} HU: contrast agent, calcium or metal. "
            "The model was trained on soft nodules in scans without contrast agent.",
        )


def _about_mask(nodule: npt.NDArray[np.bool_]) -> Iterator[Caution]:
    if not nodule.any():
        yield Caution(
            "no_nodule",
            "The model finds no nodule here, so its classifier saw next to nothing: the probabilities say nothing.",
        )
    if np.count_nonzero(nodule) > np.count_nonzero(nodule[1:-1, 1:-1, 1:-1]):
        yield Caution(
            "larger_than_patch",
            "The nodule reaches the patch's border and may go on beyond it: volume, diameter and class are of a part.",
        )


def _covered(patch: Patch) -> npt.NDArray[np.bool_]:
    """[z, y, x]: the patch's voxels that lie in one of the CT's."""
    z, y, x = np.indices(patch.hu.shape)
    index = patch.ct_grid.index_of(patch.grid.point_of(np.stack([x, y, z], axis=-1)))
    covered: npt.NDArray[np.bool_] = np.all((index >= -0.5) & (index < np.array(patch.ct_grid.size_xyz) - 0.5), axis=-1)
    return covered
