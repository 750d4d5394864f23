"""Where a mask lies on its CT: on the CT's own voxels, if need be of a part or in another order of the axes."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import SAME_GRID_MM, Grid


class Placed(NamedTuple):
    """A mask on its CT's grid.

    Attributes:
        inside: [z, y, x] bool, of the CT's size.
        outside_ct: How many of the mask's voxels lie outside the CT.
    """

    inside: npt.NDArray[np.bool_]
    outside_ct: int


def place_exactly(ct_grid: Grid, grid: Grid, inside: npt.NDArray[np.bool_]) -> Placed | None:
    """Put a mask whose voxels are voxels of the CT, or lie beyond it, onto the CT's grid.

    Args:
        ct_grid: The CT's grid.
        grid: The mask's: a part of it, or one that counts its axes in another order or direction.
        inside: [z, y, x] bool, on `grid`.

    Returns:
        The mask; None where its voxels lie between the CT's.
    """
    if grid.same_as(ct_grid):
        return Placed(inside, 0)
    zero = ct_grid.index_of(grid.origin_mm_lps)
    turn = ct_grid.index_of(grid.point_of(np.eye(3))) - zero
    axes, signs = np.abs(turn).argmax(axis=1), np.sign(turn[np.arange(3), np.abs(turn).argmax(axis=1)])
    exact = np.zeros((3, 3))
    exact[np.arange(3), axes] = signs
    if len(set(axes.tolist())) != 3:
        return None
    start = np.rint(zero).astype(int)
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in grid.size_xyz])).reshape(3, -1).T
    apart = ct_grid.point_of(corners @ exact + start) - grid.point_of(corners)
    if np.linalg.norm(apart, axis=1).max() > SAME_GRID_MM:
        return None
    own = np.argwhere(inside)[:, ::-1]
    index = own @ exact.astype(int) + start
    within = np.all((index >= 0) & (index < ct_grid.size_xyz), axis=1)
    placed = np.zeros(ct_grid.size_xyz[::-1], dtype=bool)
    placed[tuple(index[within].T[::-1])] = True
    return Placed(placed, int(len(own) - within.sum()))


def align(ct_grid: Grid, grid: Grid, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Put a mask on any grid of the same patient coordinates onto the CT's, by the nearest of its voxels.

    Args:
        ct_grid: The CT's grid.
        grid: The mask's.
        inside: [z, y, x] bool, on `grid`.

    Returns:
        [z, y, x] bool, of the CT's size.
    """
    aligned = sitk.Resample(
        grid.image_of(inside.astype(np.uint8)),
        ct_grid.size_xyz,
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
        ct_grid.origin_mm_lps,
        ct_grid.spacing_mm_xyz,
        ct_grid.direction,
        0,
    )
    on_ct: npt.NDArray[np.bool_] = sitk.GetArrayFromImage(aligned) > 0
    return on_ct
