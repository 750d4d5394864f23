import itertools

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Box, Grid
from tests.support.case_phantoms import points_of, ramp, rotation

OBLIQUE = Grid((7, 5, 4), (0.6, 0.7, 1.25), (-3.0, 8.0, 20.0), rotation(10, -20, 35))


def test_points_are_those_of_simpleitk():
    image = ramp(OBLIQUE)
    for index in ((0, 0, 0), (6, 4, 3), (2, 3, 1)):
        assert OBLIQUE.point_of(index) == pytest.approx(image.TransformIndexToPhysicalPoint(index), abs=1e-9)


def test_indices_of_points_are_the_inverse():
    index = np.array([[0.0, 1.5, 2.25], [6.0, 4.0, 3.0]])
    np.testing.assert_allclose(OBLIQUE.index_of(OBLIQUE.point_of(index)), index, atol=1e-9)


def test_a_grid_survives_an_image():
    assert Grid.from_image(ramp(OBLIQUE)).same_as(OBLIQUE, tolerance_mm=1e-9)


def test_the_middle_of_a_grid_around_a_point_is_the_point():
    grid = Grid.around((1.0, 2.0, 3.0), (32, 32, 32), (0.7, 0.7, 1.0), OBLIQUE.direction)
    assert grid.point_of((15.5, 15.5, 15.5)) == pytest.approx((1.0, 2.0, 3.0), abs=1e-12)


def test_arrays_are_in_the_order_z_y_x():
    array = np.zeros((4, 5, 7), dtype=np.int16)
    array[3, 2, 1] = 9
    assert OBLIQUE.image_of(array).GetPixel(1, 2, 3) == 9
    assert OBLIQUE.spacing_mm_zyx == (1.25, 0.7, 0.6)


@pytest.mark.parametrize(
    ("change", "apart_mm"),
    [
        ({"origin_mm_lps": (-3.0, 8.3, 20.4)}, 0.5),
        ({"spacing_mm_xyz": (0.6, 0.7, 1.35)}, 0.3),
        ({"size_xyz": (7, 5, 3)}, float("inf")),
    ],
)
def test_the_difference_of_two_grids_is_at_the_corner_furthest_apart(change, apart_mm):
    other = Grid(**{**vars(OBLIQUE), **change})
    assert OBLIQUE.difference_mm(other) == pytest.approx(apart_mm)
    assert not OBLIQUE.same_as(other)


def test_a_grid_rounded_to_32_bits_as_in_nifti_is_the_same():
    rounded = Grid(
        OBLIQUE.size_xyz,
        tuple(float(np.float32(value)) for value in OBLIQUE.spacing_mm_xyz),
        tuple(float(np.float32(value)) for value in OBLIQUE.origin_mm_lps),
        tuple(float(np.float32(value)) for value in OBLIQUE.direction),
    )
    assert OBLIQUE.same_as(rounded)


def test_a_point_is_covered_up_to_the_rim_of_the_last_voxel():
    assert OBLIQUE.covers(tuple(OBLIQUE.point_of((6.49, -0.49, 3.49))))
    assert not OBLIQUE.covers(tuple(OBLIQUE.point_of((6.51, 0.0, 0.0))))


def test_the_box_around_a_grid_holds_every_voxel_that_interpolation_needs():
    ct = Grid((60, 60, 40), (0.6, 0.6, 1.2), (0.0, 0.0, 0.0), rotation(5, 12, 80))
    patch = Grid.around(tuple(ct.point_of((30.0, 28.0, 20.0))), (8, 8, 8), (0.7, 0.7, 1.0), rotation(-30, 4, 0))
    box = ct.box_around(patch)
    index = ct.index_of(points_of(patch))
    needed = [np.floor(index).reshape(-1, 3).min(axis=0), np.ceil(index).reshape(-1, 3).max(axis=0)]
    assert np.all(np.array(box.start_xyz) <= needed[0])
    assert np.all(np.array(box.last_xyz) >= needed[1])


def test_no_box_where_grids_do_not_meet():
    far = Grid.around((500.0, 0.0, 0.0), (8, 8, 8), (0.7, 0.7, 1.0), OBLIQUE.direction)
    assert OBLIQUE.box_around(far) is None


def test_a_part_of_a_grid_keeps_its_points():
    box = Box((2, 1, 1), (3, 2, 2))
    part = OBLIQUE.part(box)
    assert part.point_of((1, 1, 1)) == pytest.approx(OBLIQUE.point_of((3, 2, 2)), abs=1e-9)
    cropped = sitk.RegionOfInterest(ramp(OBLIQUE), box.size_xyz, box.start_xyz)
    assert part.same_as(Grid.from_image(cropped), tolerance_mm=1e-9)


def test_a_part_of_a_grid_is_a_block_of_it():
    box = Box((3, 1, 2), (4, 3, 2))
    assert OBLIQUE.block_of(OBLIQUE.part(box)) == box
    assert OBLIQUE.block_of(OBLIQUE) == OBLIQUE.whole
    assert OBLIQUE.part(box).block_of(OBLIQUE) is None


def test_a_grid_between_the_voxels_is_not_a_block():
    x, y, z = OBLIQUE.origin_mm_lps
    moved = Grid(OBLIQUE.size_xyz, OBLIQUE.spacing_mm_xyz, (x + 0.3, y, z), OBLIQUE.direction)
    assert OBLIQUE.block_of(moved) is None


def test_joined_boxes_hold_both():
    joined = Box((2, 3, 4), (2, 2, 2)).joined(Box((0, 4, 5), (3, 5, 1)))
    assert joined == Box((0, 3, 4), (4, 6, 2))


def test_slices_of_a_box_are_in_array_order():
    array = np.arange(4 * 5 * 7).reshape(4, 5, 7)
    block = array[Box((1, 2, 3), (4, 2, 1)).slices_zyx]
    expected = [array[3, y, x] for y, x in itertools.product((2, 3), (1, 2, 3, 4))]
    assert block.ravel().tolist() == expected
