from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from ggn_tf.prediction.overlay import FIELD_MM, draw_overlay, field_around
from tests.support.chest import CENTER, STRAIGHT, TURNED, distance_mm, lung_grid

YELLOW = (255, 220, 0)
TILE, TITLE, GAP = 300, 18, 9


def tiles_of(path: Path) -> list[np.ndarray]:
    picture = np.rint(matplotlib.image.imread(path)[..., :3] * 255).astype(int)
    assert picture.shape[:2] == (TITLE + TILE, 3 * (TILE + GAP))
    return [picture[TITLE:, left : left + TILE] for left in range(0, 3 * (TILE + GAP), TILE + GAP)]


def draw(path: Path, direction: tuple[float, ...], points: dict[tuple[int, int, int], int]) -> list[np.ndarray]:
    """A mask that is a ball of 6 mm, and bright balls of 2 mm at some distances (mm, LPS) from CENTER."""
    grid = lung_grid((0.8, 0.8, 1.25), direction)
    hu = np.full(grid.size_xyz[::-1], -1200.0, np.float32)
    for shift, value in points.items():
        hu[distance_mm(grid, np.add(CENTER, shift)) <= 2] = value
    mask = grid.image_of((distance_mm(grid, CENTER) <= 6).astype(np.uint8))
    draw_overlay(path, "F-1", grid.image_of(hu), mask, CENTER)
    return tiles_of(path)


@pytest.mark.parametrize("direction", [STRAIGHT, TURNED], ids=["straight", "turned"])
def test_the_patients_left_is_right_the_back_is_below_and_the_head_above(
    tmp_path: Path, direction: tuple[float, ...]
) -> None:
    shifts = {(15, 0, 0): 400, (0, 15, 0): 0, (0, 0, 15): -400}
    axial, coronal, sagittal = (tile[..., 2] for tile in draw(tmp_path / "a.png", direction, shifts))
    left, back, head = 255, round(255 * 0.75), round(255 * 0.5)
    center, far = TILE // 2, round(15 / 0.2)
    assert axial[center, center + far] == left
    assert axial[center + far, center] == pytest.approx(back, abs=1)
    assert coronal[center, center + far] == left
    assert coronal[center - far, center] == pytest.approx(head, abs=1)
    assert sagittal[center, center + far] == pytest.approx(back, abs=1)
    assert sagittal[center - far, center] == pytest.approx(head, abs=1)


@pytest.mark.parametrize("direction", [STRAIGHT, TURNED], ids=["straight", "turned"])
def test_the_outline_is_the_masks_rim_in_every_plane(tmp_path: Path, direction: tuple[float, ...]) -> None:
    for tile in draw(tmp_path / "a.png", direction, {}):
        rows, columns = np.nonzero((tile == YELLOW).all(axis=2))
        radius_mm = np.hypot(rows - (TILE - 1) / 2, columns - (TILE - 1) / 2) * 0.2
        # Within half a voxel's diagonal of the ball's surface.
        assert abs(radius_mm - 6).max() < 0.9
        assert rows.size > 100


def test_without_a_mask_there_is_no_outline(tmp_path: Path) -> None:
    grid = lung_grid()
    draw_overlay(tmp_path / "a.png", "", grid.image_of(np.zeros(grid.size_xyz[::-1], np.float32)), None, CENTER)
    assert not any((tile == YELLOW).all(axis=2).any() for tile in tiles_of(tmp_path / "a.png"))


def test_the_field_reaches_as_far_as_the_picture() -> None:
    corners = field_around(CENTER).corners_mm_lps()
    np.testing.assert_allclose(corners.max(axis=0) - corners.min(axis=0), FIELD_MM)
    np.testing.assert_allclose(corners.mean(axis=0), CENTER)
