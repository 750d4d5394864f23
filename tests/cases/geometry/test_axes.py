import itertools

import numpy as np
import pytest

from ggn_tf.cases.geometry.axes import AxisOrder
from ggn_tf.cases.geometry.grid import Box, Grid
from tests.support.case_phantoms import rotation

ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product([1, -1], repeat=3)))
STRAIGHT = Grid((4, 5, 6), (0.7, 0.8, 1.25), (-12.5, 30.0, 41.0), rotation(0, 0, 0))
OBLIQUE = Grid((4, 5, 6), (0.7, 0.8, 1.25), (-12.5, 30.0, 41.0), rotation(10, -15, 25))


def stored_as(grid: Grid, order: tuple[int, ...], signs: tuple[int, ...]) -> tuple[Grid, np.ndarray]:
    """The grid in another order and direction of its axes, and the numbers of its voxels in that order."""
    numbers = np.arange(120).reshape(6, 5, 4).transpose([2 - axis for axis in order[::-1]])
    numbers = np.flip(numbers, [2 - axis for axis in range(3) if signs[axis] < 0])
    direction = np.reshape(grid.direction, (3, 3))[:, order] * signs
    first = [
        grid.size_xyz[axis] - 1 if -1 in [s for s, a in zip(signs, order, strict=True) if a == axis] else 0
        for axis in range(3)
    ]
    size = tuple(grid.size_xyz[axis] for axis in order)
    spacing = tuple(grid.spacing_mm_xyz[axis] for axis in order)
    return Grid(size, spacing, tuple(grid.point_of(first)), tuple(direction.ravel())), numbers


@pytest.mark.parametrize("grid", [STRAIGHT, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize(("order", "signs"), ORDERS)
def test_every_order_of_axes_is_the_same_volume(grid: Grid, order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    stored, numbers = stored_as(grid, order, signs)
    axes = AxisOrder.of(stored)
    assert axes.grid.same_as(grid, tolerance_mm=1e-9)
    np.testing.assert_array_equal(axes.from_stored(numbers), np.arange(120).reshape(6, 5, 4))
    np.testing.assert_array_equal(axes.to_stored(axes.from_stored(numbers)), numbers)
    box = Box((1, 2, 3), (2, 3, 2))
    block = numbers[axes.stored_box(box).slices_zyx]
    np.testing.assert_array_equal(axes.from_stored(block), np.arange(120).reshape(6, 5, 4)[box.slices_zyx])
