import io

import numpy as np
import pytest
from PIL import Image

from ggn_tf.evaluation.report.gallery import COLUMNS, ENLARGED, LEVELS, gray_sheet, heat_sheet, outline_sheet

COLOURS = np.stack([np.arange(LEVELS)] * 4, axis=1).astype(np.uint8)


def _pixels(png: bytes, mode: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert(mode))


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (10, 6, 6)).astype(np.uint8)


def test_slice_is_at_its_column_and_row_inside_a_margin(volume):
    sheet = _pixels(gray_sheet(volume), "L")
    assert sheet.shape == (2 * 8, COLUMNS * 8)
    np.testing.assert_array_equal(sheet[1:7, 3 * 8 + 1 : 3 * 8 + 7], volume[3])
    np.testing.assert_array_equal(sheet[9:15, 1 * 8 + 1 : 1 * 8 + 7], volume[9])


def test_margin_repeats_the_edge(volume):
    sheet = _pixels(gray_sheet(volume), "L")
    np.testing.assert_array_equal(sheet[0, 1:7], volume[0, 0])
    np.testing.assert_array_equal(sheet[1:7, 7], volume[0, :, -1])


def test_outline_is_a_line_of_its_colour_and_clear_elsewhere():
    mask = np.zeros((8, 5, 5), bool)
    mask[2, 1:4, 1:4] = True
    sheet = _pixels(outline_sheet(mask, "#12AB9F"), "RGBA")
    tile = sheet[: 5 * ENLARGED, 2 * 5 * ENLARGED : 3 * 5 * ENLARGED]
    drawn = tile[..., 3] > 0
    np.testing.assert_array_equal(np.unique(tile[drawn], axis=0), [[0x12, 0xAB, 0x9F, 255]])
    inside = np.zeros_like(drawn)
    inside[ENLARGED : 4 * ENLARGED, ENLARGED : 4 * ENLARGED] = True
    hollow = np.zeros_like(drawn)
    hollow[ENLARGED + 2 : 4 * ENLARGED - 2, ENLARGED + 2 : 4 * ENLARGED - 2] = True
    np.testing.assert_array_equal(drawn, inside & ~hollow)
    assert not (sheet[..., 3] > 0)[:, : 2 * 5 * ENLARGED].any()


def test_mask_at_the_edge_keeps_its_outline():
    sheet = _pixels(outline_sheet(np.ones((1, 4, 4), bool), "#FFFFFF"), "RGBA")
    assert (sheet[0, : 4 * ENLARGED, 3] == 255).all()


def test_heat_takes_the_colour_of_its_level():
    heat = np.zeros((1, 2, 2), np.float32)
    heat[0] = [[0.0, 0.5], [0.99, 1.0]]
    sheet = _pixels(heat_sheet(heat, COLOURS), "RGBA")
    np.testing.assert_array_equal(sheet[1:3, 1:3, 3], [[0, 8], [15, 15]])


def test_sheet_of_a_patch_is_small():
    noise = np.random.default_rng(0).normal(60, 10, (32, 32, 32)).clip(0, 255).astype(np.uint8)
    assert len(gray_sheet(noise)) < 32_000
    ball = np.sum((np.indices((32, 32, 32)) - 15.5) ** 2, axis=0) < 100
    assert len(outline_sheet(ball, "#FFFFFF")) < 6_000
