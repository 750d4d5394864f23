"""How much of a nodule and of its patch the CT covers, which can give the diagnosis away if the CT was cropped."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    # Clients of a server need the thresholds of the lung context, but not SimpleITK.
    from ggn_tf.cases.patches import Patch

FIRST_SLICE, LAST_SLICE, SIDE = "first slice", "last slice", "side"
MOST_OUTSIDE = 0.05


class FieldOfView(NamedTuple):
    """What a CT covers of a patch and its nodule.

    Attributes:
        covered_layers: Number of the patch's layers along z that are at least partly inside the CT.
        covered_share: Share of the patch's voxels that are inside the CT.
        mask_faces: The ends of the CT that the mask touches, of `FIRST_SLICE`, `LAST_SLICE` and `SIDE`.
    """

    covered_layers: int
    covered_share: float
    mask_faces: tuple[str, ...]


def field_of_view_of(patch: "Patch") -> FieldOfView:
    """Measure what the CT covers; a patch without a mask touches no end."""
    counts = [int(np.count_nonzero(covered)) for covered in _covered_zyx(patch)]
    layers = counts[0] if all(counts) else 0
    return FieldOfView(layers, float(np.prod(counts)) / patch.hu.size, _faces(patch))


def covered_voxels(patch: "Patch") -> npt.NDArray[np.bool_]:
    """[z, y, x] bool: the patch's voxels that are inside the CT."""
    z, y, x = _covered_zyx(patch)
    covered: npt.NDArray[np.bool_] = z[:, np.newaxis, np.newaxis] & y[:, np.newaxis] & x
    return covered


def _covered_zyx(patch: "Patch") -> list[npt.NDArray[np.bool_]]:
    """For each axis, which of the patch's positions along it are inside the CT: the axes of both are parallel."""
    in_voxels = patch.grid.in_voxels_of(patch.ct_grid)
    axes = zip(
        in_voxels.origin_mm_lps, in_voxels.spacing_mm_xyz, in_voxels.size_xyz, patch.ct_grid.size_xyz, strict=True
    )
    indices = [(first + step * np.arange(count), size) for first, step, count, size in axes]
    return [(index >= -0.5) & (index < size - 0.5) for index, size in reversed(indices)]


def _faces(patch: "Patch") -> tuple[str, ...]:
    if patch.mask_box is None:
        return ()
    start, last, size = patch.mask_box.start_xyz, patch.mask_box.last_xyz, patch.ct_grid.size_xyz
    touched = {
        FIRST_SLICE: start[2] == 0,
        LAST_SLICE: last[2] == size[2] - 1,
        SIDE: any(start[axis] == 0 or last[axis] == size[axis] - 1 for axis in (0, 1)),
    }
    return tuple(name for name, touches in touched.items() if touches)
