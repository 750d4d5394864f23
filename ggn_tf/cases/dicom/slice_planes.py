"""The planes of a CT's slices, on which the frames of a SEG and the contours of an RTSTRUCT are placed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ggn_tf.cases.dicom.repair import SlicePositions
from ggn_tf.cases.dicom.stack import POSITION_TOLERANCE_MM, Stack
from ggn_tf.cases.geometry.grid import Box, Floats, Grid
from ggn_tf.cases.geometry.segment import Segment

# Headers write positions with a few decimals.
_ROUNDING_MM = 1e-3


@dataclass(frozen=True)
class SlicePlanes:
    """The true positions of a CT's slices.

    Attributes:
        grid: The grid that the slices are read onto, with its axes in their order.
        origins_mm_lps: [N, 3], the centre of each slice's first pixel.
        size_xy: Number of columns and rows of a slice.
        positions: The slices' positions on the grid, if they were repaired.
    """

    grid: Grid
    origins_mm_lps: Floats
    size_xy: tuple[int, int]
    positions: SlicePositions | None = None

    @classmethod
    def of(cls, grid: Grid, stack: Stack | None = None, positions: SlicePositions | None = None) -> "SlicePlanes":
        """The planes of a CT.

        Args:
            grid: As it is stored.
            stack: Its DICOM slices, if it has some; else its slices are where the grid says.
            positions: Of slices that were repaired.
        """
        if positions is not None:
            origins = positions.grid.point_of(np.column_stack([positions.shifts_xy, positions.heights]))
            return cls(positions.grid, origins, positions.size_xy, positions)
        levels = np.arange(grid.size_xyz[2])
        regular = grid.point_of(np.column_stack([0 * levels, 0 * levels, levels]))
        return cls(grid, regular if stack is None else stack.origins_mm_lps, grid.size_xyz[:2])

    @property
    def axes(self) -> Floats:
        """[3, 3], the unit vectors along columns, along rows and across the slices, one per column."""
        axes: Floats = np.reshape(self.grid.direction, (3, 3))
        return axes

    def nearest(self, points_mm_lps: Floats) -> tuple[int, float]:
        """The slice in whose plane points [N, 3] are, and how far the farthest of them is off it in mm."""
        normal = self.axes[:, 2]
        heights = self.origins_mm_lps @ normal
        along = points_mm_lps @ normal
        level = int(np.abs(heights - along.mean()).argmin())
        return level, float(np.abs(along - heights[level]).max())

    def pixels_of(self, level: int, points_mm_lps: Floats) -> Floats:
        """The column and row of points in a slice, [N, 2], fractional between pixels."""
        shifts_mm = (points_mm_lps - self.origins_mm_lps[level]) @ self.axes[:, :2]
        pixels: Floats = shifts_mm / np.asarray(self.grid.spacing_mm_xyz[:2])
        return pixels

    def first_pixel(self, frame: Grid) -> tuple[int, int, int] | None:
        """Where a frame, a grid of one slice with these axes, is placed: column, row and slice of its first pixel.

        Returns:
            The column and row may be outside the slice. None: a corner is further than the tolerance from its pixel on
            the nearest slice.
        """
        corners = frame.corners_mm_lps()
        level, off_mm = self.nearest(corners)
        pixels = self.pixels_of(level, corners)
        first = np.rint(pixels[0])
        expected = first + Grid(frame.size_xyz, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)).corners_mm_lps()[:, :2]
        aside_mm = np.linalg.norm((pixels - expected) * np.asarray(self.grid.spacing_mm_xyz[:2]), axis=1)
        if max(off_mm, float(aside_mm.max())) > POSITION_TOLERANCE_MM + _ROUNDING_MM:
            return None
        return int(first[0]), int(first[1]), level

    def segment(self, layers: dict[int, npt.NDArray[np.bool_]]) -> Segment:
        """The segment that is drawn on some slices.

        Args:
            layers: By the number of the slice, [y, x] bool of its size.
        """
        width, height = self.size_xy
        if self.positions is not None:
            inside = np.zeros((len(self.origins_mm_lps), height, width), dtype=bool)
            for level, layer in layers.items():
                inside[level] = layer
            return Segment(self.positions.grid, self.positions.straighten(inside), shifted=True)
        first, last = min(layers, default=0), max(layers, default=0)
        inside = np.zeros((last + 1 - first, height, width), dtype=bool)
        for level, layer in layers.items():
            inside[level - first] = layer
        return Segment(self.grid, inside, Box((0, 0, first), (width, height, last + 1 - first)))
