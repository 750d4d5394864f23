"""The order of a volume's axes: as it is stored, and as the axes nearest to left, posterior and superior."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ggn_tf.cases.geometry.grid import Box, Grid, vector

LPS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class AxisOrder:
    """How the axes of a stored volume become those nearest to three target axes, usually L, P and S.

    Attributes:
        stored: The volume's grid as it is stored.
        order: Of each target axis, which stored axis (x, y, z) it is.
        reversed_axes: Of each target axis, whether the stored axis runs the other way.
    """

    stored: Grid
    order: tuple[int, int, int]
    reversed_axes: tuple[bool, bool, bool]

    @classmethod
    def of(cls, grid: Grid, target_direction: Sequence[float] = LPS) -> "AxisOrder":
        """Find the assignment of axes with the largest sum of absolute cosines.

        The target axes are direction cosines as `Grid.direction`.
        """
        cosines = np.reshape(target_direction, (3, 3)).T @ np.reshape(grid.direction, (3, 3))
        orders = ((x, y, 3 - x - y) for x, y in itertools.permutations(range(3), 2))
        order = max(orders, key=lambda axes: sum(abs(cosines[row, axis]) for row, axis in enumerate(axes)))
        first, second, third = (bool(cosines[row, axis] < 0) for row, axis in enumerate(order))
        return cls(grid, order, (first, second, third))

    @property
    def unchanged(self) -> bool:
        """Whether the volume is stored in the target order."""
        return self.order == (0, 1, 2) and not any(self.reversed_axes)

    @property
    def grid(self) -> Grid:
        """The same voxels with their axes in the target order."""
        if self.unchanged:
            return self.stored
        stored = self.stored
        first = [stored.size_xyz[axis] - 1 if turned else 0 for axis, turned in self._by_stored_axis()]
        signs = np.where(self.reversed_axes, -1.0, 1.0)
        direction = np.reshape(stored.direction, (3, 3))[:, self.order] * signs
        x, y, z = (stored.size_xyz[axis] for axis in self.order)
        spacing = vector([stored.spacing_mm_xyz[axis] for axis in self.order])
        return Grid((x, y, z), spacing, vector(stored.point_of(first)), tuple(direction.ravel().tolist()))

    def stored_box(self, box: Box) -> Box:
        """The stored block of a block in the target order."""
        if self.unchanged:
            return box
        start, size = [0, 0, 0], [0, 0, 0]
        for target, (axis, turned) in enumerate(zip(self.order, self.reversed_axes, strict=True)):
            first, length = box.start_xyz[target], box.size_xyz[target]
            start[axis] = self.stored.size_xyz[axis] - first - length if turned else first
            size[axis] = length
        return Box((start[0], start[1], start[2]), (size[0], size[1], size[2]))

    def from_stored(self, voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring stored voxels [z, y, x], of the volume or of a block, into the target order, for example [S, P, L]."""
        return np.flip(voxels.transpose(self._array_order()), self._reversed_array_axes())

    def to_stored(self, voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring voxels in the target order into the stored order [z, y, x]: the inverse of `from_stored`."""
        return np.flip(voxels, self._reversed_array_axes()).transpose(np.argsort(self._array_order()))

    def _by_stored_axis(self) -> list[tuple[int, bool]]:
        turned = dict(zip(self.order, self.reversed_axes, strict=True))
        return [(axis, turned[axis]) for axis in range(3)]

    def _array_order(self) -> list[int]:
        # An array's axes are z, y, x: axis k of the grid is axis 2 - k of the array.
        return [2 - axis for axis in self.order[::-1]]

    def _reversed_array_axes(self) -> tuple[int, ...]:
        return tuple(2 - target for target, turned in enumerate(self.reversed_axes) if turned)
