"""Put a mask onto its CT's grid: on the CT's own voxels, of a part of it, or with another order of the axes."""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.axes import AxisOrder
from ggn_tf.cases.geometry.grid import SAME_GRID_MM, Grid

# Of spacings and direction cosines, coarser than the rounding of any header.
_SAME_STEPS = 1e-3


class Obstacle(Enum):
    """Why resampling a mask by the positions in its header may put it in a wrong place; the values are texts."""

    FORMS = "a file states two positions of its voxels"
    OTHER_PATIENT = "it references another patient"
    OTHER_FRAME = "it references another frame of reference"
    NO_POSITION = "its header has the position or spacing that programs write where these are unknown"
    EXCHANGED = "it has the CT's numbers of voxels along other axes, as where an array [z, y, x] is saved as [x, y, z]"
    ORIENTATION = "it has as many voxels along its axes as the CT, but these have other directions"
    SHIFTED = "it has the CT's voxels and axes, but another origin"

    @property
    def refused(self) -> bool:
        """Whether it is not resampled on request either."""
        return self is not Obstacle.SHIFTED


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

    `grid` is the mask's: a part of the CT's, or one with another order or direction of the axes; `inside` is [z, y, x]
    bool on it.

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


def obstacle_of(ct_grid: Grid, grid: Grid, *, forms_differ: bool, references: Sequence[str] = ()) -> Obstacle | None:
    """Why a mask that is between the CT's voxels should not be resampled; None if nothing speaks against it.

    Takes the CT's grid as it is stored, whether the header of either states two positions, and what else than the CT's
    the mask references: `patient`, `frame of reference`.
    """
    if forms_differ:
        return Obstacle.FORMS
    if "patient" in references:
        return Obstacle.OTHER_PATIENT
    if "frame of reference" in references:
        return Obstacle.OTHER_FRAME
    cosines = np.abs(np.reshape(grid.direction, (3, 3)))
    placeless = not any(grid.origin_mm_lps) and np.array_equal(cosines, np.eye(3))
    if grid.spacing_mm_xyz == (1, 1, 1) and (placeless or grid.size_xyz == ct_grid.size_xyz):
        return Obstacle.NO_POSITION
    ordered = AxisOrder.of(grid, ct_grid.direction)
    if sorted(grid.size_xyz) != sorted(ct_grid.size_xyz):
        return None
    if ordered.grid.size_xyz != ct_grid.size_xyz:
        return Obstacle.EXCHANGED
    if not _same_spacing(ct_grid, grid) and not _same_spacing(ct_grid, ordered.grid):
        return None
    beside = ct_grid.index_of(ordered.grid.corners_mm_lps()) - ct_grid.index_of(ct_grid.corners_mm_lps())
    if np.abs(beside).max() <= 1:
        # At most a voxel, as by two conventions for the first voxel's position.
        return None
    turned = not ordered.unchanged or not np.allclose(grid.direction, ct_grid.direction, atol=_SAME_STEPS)
    return Obstacle.ORIENTATION if turned else Obstacle.SHIFTED


def _same_spacing(ct_grid: Grid, grid: Grid) -> bool:
    return np.allclose(ct_grid.spacing_mm_xyz, grid.spacing_mm_xyz, _SAME_STEPS)


def count_outside(ct_grid: Grid, grid: Grid, inside: npt.NDArray[np.bool_]) -> int:
    """How many of a mask's voxels have their centres outside the CT's voxels.

    Takes [z, y, x] bool, on the mask's grid.
    """
    index = ct_grid.index_of(grid.point_of(np.argwhere(inside)[:, ::-1]))
    # A mask on another grid may end within half a voxel of the CT's edge.
    within = np.all((index >= -0.5 - _SAME_STEPS) & (index <= np.asarray(ct_grid.size_xyz) - 0.5 + _SAME_STEPS), axis=1)
    return int(np.count_nonzero(~within))


def align(ct_grid: Grid, grid: Grid, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Resample a mask on any grid of the same patient coordinates onto the CT's, by nearest neighbour.

    Takes [z, y, x] bool, on the mask's grid.

    Returns:
        [z, y, x] bool, of the CT's size.
    """
    aligned: npt.NDArray[np.bool_] = (
        ct_grid.sample(grid.image_of(inside.view(np.uint8)), sitk.sitkNearestNeighbor, 0) > 0
    )
    return aligned
