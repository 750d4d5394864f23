"""Put a mask onto its CT's grid: on the CT's own voxels, of a part of it, or with another order of the axes."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import SAME_GRID_MM, Grid


class PlacedMask(NamedTuple):
    """A mask on its CT's grid.

    Attributes:
        inside: [z, y, x] bool, of the CT's size.
        outside_ct: Number of the mask's voxels outside the CT.
    """

    inside: npt.NDArray[np.bool_]
    outside_ct: int


def place_exactly(ct_grid: Grid, grid: Grid, inside: npt.NDArray[np.bool_]) -> PlacedMask | None:
    """Put a mask whose voxels coincide with the CT's, or are outside it, onto the CT's grid.

    Args:
        ct_grid: The CT's grid.
        grid: The mask's: a part of the CT's, or one with another order or direction of the axes.
        inside: [z, y, x] bool, on `grid`.

    Returns:
        The mask; None if its voxels are between the CT's.
    """
    if grid.same_as(ct_grid):
        return PlacedMask(inside, 0)
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
    drawn = np.argwhere(inside)[:, ::-1]
    index = drawn @ exact.astype(int) + start
    within = np.all((index >= 0) & (index < ct_grid.size_xyz), axis=1)
    placed = np.zeros(ct_grid.size_xyz[::-1], dtype=bool)
    placed[tuple(index[within].T[::-1])] = True
    return PlacedMask(placed, int(len(drawn) - within.sum()))


def align(ct_grid: Grid, grid: Grid, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Resample a mask on any grid of the same patient coordinates onto the CT's, by nearest neighbour.

    Args:
        ct_grid: The CT's grid.
        grid: The mask's.
        inside: [z, y, x] bool, on `grid`.

    Returns:
        [z, y, x] bool, of the CT's size.
    """
    aligned: npt.NDArray[np.bool_] = (
        ct_grid.sample(grid.image_of(inside.view(np.uint8)), sitk.sitkNearestNeighbor, 0) > 0
    )
    return aligned
