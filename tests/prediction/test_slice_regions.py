"""Regions on slices, in DICOM's pixel coordinates: (0, 0) is the outer corner of the first pixel (PS3.3 C.18.6.1.2)."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes, label

from ggn_tf.cases.geometry.outlines import Outline, fill
from ggn_tf.cases.volumes import open_volume
from ggn_tf.prediction.slice_regions import outline, region_of
from tests.support.chest import CENTER, STRAIGHT, TURNED, lung_grid, lung_with_balls, tilt, write_dicom
from tests.support.dicom_predictions import predicted

# The rows of a coronal series run along x, its columns against z.
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0)


def test_the_outline_of_a_pixel_is_its_edges() -> None:
    inside = np.zeros((5, 7), bool)
    inside[2, 4] = True
    assert outline(inside).tolist() == [[4, 2], [5, 2], [5, 3], [4, 3], [4, 2]]


def test_straight_edges_have_no_points_between_their_ends() -> None:
    inside = np.zeros((9, 9), bool)
    inside[1:4, 2:8] = inside[4:7, 2:4] = True
    assert outline(inside).tolist() == [[2, 1], [8, 1], [8, 4], [4, 4], [4, 7], [2, 7], [2, 1]]


def test_the_largest_part_is_outlined_without_its_holes() -> None:
    inside = np.zeros((9, 9), bool)
    inside[:4, :4], inside[1, 1] = True, False
    # A corner alone joins nothing.
    inside[4:6, 4:6] = True
    assert outline(inside).tolist() == [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]


@pytest.mark.parametrize("seed", range(20))
def test_an_outline_encloses_its_pixels_and_no_others(seed: int) -> None:
    noise = np.random.default_rng(seed).random((12, 14))
    parts, count = label(noise < 0.6)
    largest = max(range(1, count + 1), key=lambda number: (parts == number).sum())
    expected = binary_fill_holes(parts == largest)
    points = outline(noise < 0.6)
    # Centres of pixels are at halves here, at whole numbers there.
    np.testing.assert_array_equal(fill([Outline.of(points[:-1] - 0.5)], (14, 12), exclusive=False), expected)
    x, y = points[:-1].T
    assert abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 == expected.sum()


@pytest.mark.parametrize("direction", [STRAIGHT, TURNED, CORONAL])
def test_the_outline_is_around_the_nodule_on_a_slice_through_its_middle(
    tmp_path: Path, direction: tuple[float, ...]
) -> None:
    grid = lung_grid((0.8, 0.8, 0.8), direction)
    volume = open_volume(write_dicom(lung_with_balls(grid, [(CENTER, 6.0)]), tmp_path / "dicom"))
    nodule = predicted(volume, (CENTER, 6.0)).nodules[0]
    region = region_of(volume, nodule.mask, CENTER)
    corners = np.column_stack([region.points - 0.5, np.full(len(region.points), region.number)])
    off_mm = np.linalg.norm(volume.stored_grid.point_of(corners) - CENTER, axis=1)
    # The slice of the long axis is near the middle; a corner is up to a pixel's diagonal off the edge.
    assert off_mm.max() < 6 + 0.8 * 2**0.5 and off_mm.min() > 4.5


def test_without_a_nodule_the_region_is_its_centre(tmp_path: Path) -> None:
    volume = open_volume(tilt(write_dicom(lung_with_balls(lung_grid()), tmp_path / "dicom")), repair=True)
    position = volume.stack.slices[30].origin_mm_lps
    region = region_of(volume, None, (position[0] + 10 * 0.8, position[1] + 20 * 0.8, position[2] + 0.5))
    assert region.number == 30
    np.testing.assert_allclose(region.points, [[10.5, 20.5]], atol=1e-6)
