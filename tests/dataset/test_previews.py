import gc
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from ggn_tf.dataset.previews import COLUMNS, ROWS, PreviewWriter, draw_sheet, outlined

YELLOW = (255, 220, 0)


def test_the_window_maps_to_black_and_white() -> None:
    picture = outlined(np.array([[-1200.0, 400.0], [-5000.0, 5000.0]]), np.zeros((2, 2)))
    assert picture.shape == (8, 8, 3)
    assert picture[::4, ::4, 0].tolist() == [[0, 255], [0, 255]]


def test_the_outline_lies_on_the_masks_rim_and_leaves_its_inside() -> None:
    mask = np.zeros((8, 8))
    mask[2:6, 2:6] = 1
    yellow = (outlined(np.zeros((8, 8)), mask) == YELLOW).all(axis=2)
    rim = np.zeros((32, 32), bool)
    rim[8:24, 8:24] = True
    rim[9:23, 9:23] = False
    np.testing.assert_array_equal(yellow, rim)


@pytest.mark.parametrize(("nodules", "sheets", "rows"), [(0, 0, 0), (1, 1, 1), (9, 1, 2), (48, 1, ROWS), (49, 2, 1)])
def test_a_sheet_holds_at_most_six_rows_of_eight(tmp_path: Path, nodules: int, sheets: int, rows: int) -> None:
    with PreviewWriter(tmp_path) as writer:
        for number in range(nodules):
            writer.add(str(number), np.zeros((32, 32, 32)), np.ones((32, 32, 32)))
    found = sorted((tmp_path / "previews").glob("*")) if nodules else []
    assert [path.name for path in found] == [f"sheet-{number:04d}.png" for number in range(1, sheets + 1)]
    if found:
        picture = matplotlib.image.imread(found[-1])
        assert rows * 128 < picture.shape[0] < (rows + 1) * 128 + rows * 20
        assert picture.shape[1] > COLUMNS * 128
        yellow = np.all(picture[..., :3] == np.array(YELLOW, np.float32) / 255, axis=2)
        # The outline of a tile of 128 x 128 that is mask all over.
        assert yellow.sum() == (nodules - 48 * (sheets - 1)) * 4 * 127


def test_the_central_slice_is_shown(tmp_path: Path) -> None:
    hu = np.full((32, 32, 32), -1200.0)
    hu[16] = 400.0
    with PreviewWriter(tmp_path) as writer:
        writer.add("", hu, np.zeros((32, 32, 32)))
    picture = matplotlib.image.imread(tmp_path / "previews" / "sheet-0001.png")
    assert (picture[18:146, :128] == 1).all()


def test_an_error_draws_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), PreviewWriter(tmp_path) as writer:
        writer.add("", np.zeros((32, 32, 32)), np.zeros((32, 32, 32)))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_drawn_sheet_leaves_nothing_in_memory_for_pythons_search_of_rings(tmp_path: Path) -> None:
    tiles = [("IAC", np.zeros((8, 8, 3), np.uint8))]
    draw_sheet(tmp_path / "warm.png", tiles)
    gc.collect()
    gc.disable()
    try:
        draw_sheet(tmp_path / "sheet.png", tiles)
        assert gc.collect() == 0
    finally:
        gc.enable()
