"""A region of a CT in a page: its voxels, its place, and the pictures for paper."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.evaluation.report.page import Page, Section, write_page
from ggn_tf.evaluation.report.viewer import Region, Viewer, region_of
from tests.support.chest import CENTER, LUNG_HU, STRAIGHT, distance_mm, lung_grid

GRID = lung_grid()
YELLOW = (255, 220, 0)


def voxels_of(region: Region) -> np.ndarray:
    return np.frombuffer(region.hu, "<i2").reshape(region.size_xyz[::-1])


def mask_of(region: Region) -> np.ndarray:
    count = int(np.prod(region.size_xyz))
    return np.unpackbits(np.frombuffer(region.mask, np.uint8), count=count, bitorder="little").reshape(
        region.size_xyz[::-1]
    )


def picture_of(region: Region, number: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(region.planes[number].png))).astype(int)


def test_the_voxels_are_the_cts_own() -> None:
    hu = np.random.default_rng(1).integers(-1024, 3000, GRID.size_xyz[::-1]).astype(np.float32)
    inside = (distance_mm(GRID, CENTER) <= 6).astype(np.uint8)
    region = region_of("F-1", GRID.image_of(hu), GRID.image_of(inside), CENTER, field_mm=21)
    # The middle is between two voxels: 13 of 0.8 mm and 8 of 1.25 mm on each side have their centres within 10.5 mm.
    assert region.size_xyz == (26, 26, 16)
    np.testing.assert_array_equal(voxels_of(region), hu[28:44, 17:43, 19:45])
    np.testing.assert_array_equal(mask_of(region), inside[28:44, 17:43, 19:45])
    axial, coronal, sagittal = region.planes
    assert axial.first_mm + axial.start * axial.step_mm == pytest.approx(CENTER[2], abs=1.25 / 2)
    assert coronal.first_mm + coronal.start * coronal.step_mm == pytest.approx(CENTER[1], abs=0.4)
    assert sagittal.first_mm + sagittal.start * sagittal.step_mm == pytest.approx(CENTER[0], abs=0.4)
    assert (axial.size_mm, coronal.size_mm) == (pytest.approx((20.8, 20.8)), pytest.approx((20.8, 20)))


def test_the_pictures_show_the_patients_left_right_the_back_below_and_the_head_above() -> None:
    hu = np.full(GRID.size_xyz[::-1], -1350, np.float32)
    for shift, value in {(15, 0, 0): 150, (0, 15, 0): -225, (0, 0, 15): -600}.items():
        hu[distance_mm(GRID, np.add(CENTER, shift)) <= 3] = value
    region = region_of("F-1", GRID.image_of(hu), None, CENTER, field_mm=44)
    # 15 mm from the middle in 0.25 mm pixels.
    far, left, back, head = 60, 255, 191, 127
    middles = [(size[0] // 2, size[1] // 2) for size in (picture_of(region, number).shape for number in range(3))]
    axial, coronal, sagittal = (picture_of(region, number)[..., 0] for number in range(3))
    (row, column) = middles[0]
    assert axial[row, column + far] == left and axial[row + far, column] == pytest.approx(back, abs=1)
    (row, column) = middles[1]
    assert coronal[row, column + far] == left and coronal[row - far, column] == pytest.approx(head, abs=1)
    (row, column) = middles[2]
    assert sagittal[row, column + far] == pytest.approx(back, abs=1)
    assert sagittal[row - far, column] == pytest.approx(head, abs=1)
    assert [plane.sides for plane in region.planes] == [
        ("R", "L", "A", "P"),
        ("R", "L", "S", "I"),
        ("A", "P", "S", "I"),
    ]


def test_the_pictures_have_the_masks_outline() -> None:
    lung = GRID.image_of(np.full(GRID.size_xyz[::-1], LUNG_HU, np.float32))
    ball = GRID.image_of((distance_mm(GRID, CENTER) <= 6).astype(np.uint8))
    for mask, expected in ((ball, True), (None, False)):
        region = region_of("F-1", lung, mask, CENTER)
        assert bool(region.mask) is expected
        for number in range(3):
            assert (picture_of(region, number) == YELLOW).all(axis=2).any() == expected


def test_an_oblique_ct_is_shown_along_the_patients_axes() -> None:
    turn = np.deg2rad(20)
    turned = (np.cos(turn), -np.sin(turn), 0.0, np.sin(turn), np.cos(turn), 0.0, 0.0, 0.0, 1.0)
    grid = lung_grid(direction=tuple(float(cosine) for cosine in turned))
    hu = np.full(grid.size_xyz[::-1], LUNG_HU, np.float32)
    hu[distance_mm(grid, np.add(CENTER, (15, 0, 0))) <= 3] = 100
    region = region_of("F-1", grid.image_of(hu), None, CENTER, field_mm=40)
    size, step = np.array(region.size_xyz), (0.8, 0.8, 1.25)
    shown = Grid.around(CENTER, tuple(size.tolist()), step, STRAIGHT)
    points = shown.point_of(np.argwhere(voxels_of(region) > 0)[:, ::-1])
    np.testing.assert_allclose(points.mean(axis=0), np.add(CENTER, (15, 0, 0)), atol=0.3)


def test_finer_voxels_than_fit_are_interpolated() -> None:
    grid = Grid.around(CENTER, (130, 130, 130), (0.3, 0.3, 0.3), STRAIGHT)
    x, _, _ = grid.point_of(np.moveaxis(np.indices(grid.size_xyz[::-1])[::-1], 0, -1)).T
    region = region_of("F-1", grid.image_of(x.T.astype(np.float32) * 10), None, CENTER, field_mm=36)
    assert 700_000 < np.prod(region.size_xyz) <= 1_000_000
    plane = region.planes[2]
    expected = 10 * (plane.first_mm + np.arange(plane.count) * plane.step_mm)
    np.testing.assert_allclose(voxels_of(region)[50, 50], expected, atol=1)


def test_the_region_ends_where_the_ct_ends() -> None:
    hu = np.full(GRID.size_xyz[::-1], 100_000, np.float32)
    corner = tuple(GRID.point_of((0, 0, 0)).tolist())
    region = region_of("F-1", GRID.image_of(hu), None, corner)
    assert region.size_xyz == (38, 38, 25)
    assert [plane.start for plane in region.planes] == [0, 0, 0]
    assert set(voxels_of(region).ravel()) == {2**15 - 1}


def test_slices_thicker_than_the_field_are_shown() -> None:
    grid = Grid.around(CENTER, (40, 40, 2), (1.0, 1.0, 90.0), STRAIGHT)
    hu = np.random.default_rng(1).integers(-1024, 3000, (2, 40, 40)).astype(np.float32)
    region = region_of("F-1", grid.image_of(hu), None, tuple(grid.point_of((20, 20, 1.4)).tolist()), field_mm=20)
    np.testing.assert_array_equal(voxels_of(region), hu[1:, 10:31, 10:31])


def test_the_page_contains_the_voxels_and_escapes_the_title(tmp_path: Path) -> None:
    hu = np.full(GRID.size_xyz[::-1], LUNG_HU, np.float32)
    region = region_of("<script>alert(1)</script>\u202e\n", GRID.image_of(hu), None, CENTER)
    write_page(Page("T", "", [], [Section("a", "A", [Viewer("v", [region])])]), tmp_path / "p.html", tmp_path)
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text and "\u202e" not in text
    (packed,) = re.findall('data-hu="([^"]*)"', text)
    assert base64.b64decode(packed) == region.hu
    assert len(re.findall("<img ", text)) == 3 and 'type="checkbox"' not in text
