"""Resample slices with a gantry tilt or non-uniform spacing onto a regular grid."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ggn_tf.cases.dicom.stack import POSITION_TOLERANCE_MM, Stack
from ggn_tf.cases.geometry.grid import Box, Floats, Grid, vector
from ggn_tf.cases.geometry.mask_alignment import place_exactly
from ggn_tf.protocol import AIR_HU


@dataclass(frozen=True)
class RepairPolicy:
    """What may be repaired instead of being rejected; every use is noted.

    Attributes:
        repair: Slices with a gantry tilt are shifted to their true positions, and values between slices with
            non-uniform spacing are interpolated at their true positions.
        align_masks: Masks on another grid of the same patient coordinates are resampled onto the CT's.
    """

    repair: bool = False
    align_masks: bool = False


STRICT = RepairPolicy()


@dataclass(frozen=True)
class SlicePositions:
    """The true positions of a stack's slices, relative to a regular grid that contains all of them.

    Attributes:
        grid: The regular grid, with the slices' axes and pixels, and the smallest distance of two slices as spacing.
        shifts_xy: [N, 2], the position of each slice's first pixel, in pixels of the grid.
        heights: [N], each slice's height above the first, in slices of the grid.
        size_xy: Number of columns and rows of a slice.
    """

    grid: Grid
    shifts_xy: Floats
    heights: Floats
    size_xy: tuple[int, int]

    @classmethod
    def of(cls, stack: Stack) -> "SlicePositions":
        """The positions of a stack's slices, by their headers."""
        first = stack.slices[0]
        axes = np.reshape(first.direction, (3, 3))
        along = (stack.origins_mm_lps - stack.origins_mm_lps[0]) @ axes
        step = _step_mm(along[:, 2])
        pixel = np.array(first.spacing_mm_xyz[:2])
        shifts = along[:, :2] / pixel
        start = np.floor(shifts.min(axis=0) + 1e-6)
        width, height = (np.ceil((shifts - start).max(axis=0) - 1e-6).astype(int) + first.size_xyz[:2]).tolist()
        origin = stack.origins_mm_lps[0] + axes[:, :2] @ (start * pixel)
        depth = int(np.floor(along[-1, 2] / step + 1e-6)) + 1
        grid = Grid((width, height, depth), (pixel[0], pixel[1], step), vector(origin), first.direction)
        return cls(grid, shifts - start, along[:, 2] / step, (first.size_xyz[0], first.size_xyz[1]))

    def read(self, read_slices: Callable[[int, int], npt.NDArray[np.float32]], box: Box) -> npt.NDArray[np.float32]:
        """Voxels of the regular grid, by linear interpolation between and within the slices.

        Args:
            read_slices: Reads the slices from the first number to before the second, as [slice, y, x].
            box: Voxels of the regular grid.

        Returns:
            [z, y, x] float32 HU; air where there is no slice.
        """
        levels = np.minimum(np.arange(box.start_xyz[2], box.last_xyz[2] + 1), self.heights[-1])
        below = np.clip(np.searchsorted(self.heights, levels + 1e-6) - 1, 0, len(self.heights) - 2)
        weights = np.clip((levels - self.heights[below]) / np.diff(self.heights)[below], 0, 1)
        first = int(below[0])
        layers = {
            first + number: self._shifted(layer, first + number, box)
            for number, layer in enumerate(read_slices(first, int(below[-1]) + 2))
        }
        mixed = [
            layers[int(low)] * (1 - weight) + layers[int(low) + 1] * weight
            for low, weight in zip(below, weights, strict=True)
        ]
        return np.stack(mixed).astype(np.float32)

    def straighten(self, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """A mask that was drawn slice by slice, resampled onto the regular grid by nearest neighbour.

        Args:
            inside: [slice, y, x] bool, on the stack's slices.

        Returns:
            [z, y, x] bool, of the grid's size.
        """
        width, height, depth = self.grid.size_xyz
        straight = np.zeros((depth, height, width), dtype=bool)
        levels = np.arange(depth)
        nearest = np.abs(levels[:, None] - self.heights).argmin(axis=1)
        # Only the mask's slices: a thorax has hundreds, a nodule ten.
        drawn = np.asarray(inside.any(axis=(1, 2)))
        for level in np.flatnonzero(drawn[nearest]):
            rows, columns = np.nonzero(inside[nearest[level]])
            x, y = np.rint(self.shifts_xy[nearest[level]] + 1e-6).astype(int)
            straight[level, rows + y, columns + x] = True
        return straight

    def on_slices(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Labels of the regular grid on the slices at their true positions, by nearest neighbour.

        Args:
            labels: [z, y, x], of the grid's size.

        Returns:
            [slice, y, x], on the stack's slices.
        """
        width, height = self.size_xy
        levels = np.rint(self.heights).astype(int).clip(0, len(labels) - 1)
        first_xy = np.rint(self.shifts_xy + 1e-6).astype(int)
        return np.stack(
            [
                labels[level, y : y + height, x : x + width]
                for level, (x, y) in zip(levels.tolist(), first_xy.tolist(), strict=True)
            ]
        )

    def place(self, grid: Grid, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
        """A mask that a program drew as if the slices were aligned and evenly spaced, moved onto the regular grid.

        Its voxels, `inside` [z, y, x] on its own grid, belong to the slices one by one, whatever position its header
        states.

        Returns:
            [z, y, x] bool; None if its grid is not that of the slices.
        """
        step_mm = self.grid.spacing_mm_xyz[2]
        pixel = np.array(self.grid.spacing_mm_xyz[:2])
        heights_mm = self.heights * step_mm
        shifts_mm = (self.shifts_xy - self.shifts_xy[0]) * pixel
        path_mm = np.hypot(heights_mm, np.linalg.norm(shifts_mm, axis=1))
        first = self.grid.point_of((*self.shifts_xy[0], 0.0))
        count = len(self.heights)
        # Programs use the distance along the normal or from origin to origin, of the first two or of all slices.
        for spacing in (heights_mm[-1] / (count - 1), path_mm[-1] / (count - 1), heights_mm[1], path_mm[1]):
            assumed = Grid((*self.size_xy, count), (pixel[0], pixel[1], spacing), vector(first), self.grid.direction)
            placed = place_exactly(assumed, grid, inside)
            if placed is not None and not placed.outside_ct:
                return self.straighten(placed.inside)
        return None

    def _shifted(self, layer: npt.NDArray[Any], number: int, box: Box) -> npt.NDArray[np.float32]:
        """The part of a slice that is in a block of the grid."""
        padded = np.pad(layer, 1, constant_values=AIR_HU)
        for axis, (shift, start, size) in enumerate(
            zip(self.shifts_xy[number][::-1], box.start_xyz[1::-1], box.size_xyz[1::-1], strict=True)
        ):
            pixels = np.arange(start, start + size) - shift + 1
            low = np.floor(pixels + 1e-6)
            weight = (pixels - low).clip(0).reshape((-1, 1) if axis == 0 else (1, -1))
            last = padded.shape[axis] - 1
            lower, upper = (np.take(padded, (low + more).clip(0, last).astype(int), axis=axis) for more in (0, 1))
            padded = lower * (1 - weight) + upper * weight
        return padded.astype(np.float32)


def _step_mm(heights_mm: Floats) -> float:
    """The distance of neighbouring slices if it is uniform, else the smallest."""
    even = np.linspace(0, heights_mm[-1], len(heights_mm))
    if np.abs(heights_mm - even).max() <= POSITION_TOLERANCE_MM:
        return float(heights_mm[-1] / (len(heights_mm) - 1))
    return float(np.diff(heights_mm).min())
