"""Contact sheets: the central slice of every nodule with its mask's outline, for a check before training."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ggn_tf.shown_text import one_line

COLUMNS, ROWS = 8, 6
PREVIEWS = "previews"

# The window that radiologists read lungs with, wider at the top so that solid parts keep their structure.
_WINDOW_HU = (-1200.0, 400.0)
_ENLARGED = 4
_TITLE, _LONGEST_TITLE = 18, 200
_GAP = 9
_OUTLINE = (255, 220, 0)
_PAPER = 255
_DPI = 100


class PreviewWriter:
    """Collects nodules and draws a sheet whenever one is full.

    Args:
        folder: The dataset's folder; the sheets go to its folder `previews`.
        enabled: Whether to draw at all.
    """

    def __init__(self, folder: Path, enabled: bool = True) -> None:
        self._folder = folder / PREVIEWS
        self._enabled = enabled
        self._tiles: list[tuple[str, np.ndarray]] = []
        self._sheets = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._tiles:
            self._draw()

    def add(self, title: str, hu: np.ndarray, mask: np.ndarray) -> None:
        """Add a nodule: Hounsfield units, float32 [z, y, x], and its mask, uint8, with a title above."""
        if not self._enabled:
            return
        middle = len(hu) // 2
        self._tiles.append((title, outlined(hu[middle], mask[middle])))
        if len(self._tiles) == COLUMNS * ROWS:
            self._draw()

    def _draw(self) -> None:
        self._sheets += 1
        self._folder.mkdir(exist_ok=True)
        rows = -(-len(self._tiles) // COLUMNS)
        draw_sheet(self._folder / f"sheet-{self._sheets:04d}.png", self._tiles, rows=rows)
        self._tiles = []


def outlined(
    slice_hu: np.ndarray,
    slice_mask: np.ndarray,
    enlarged: int = _ENLARGED,
    window_hu: tuple[float, float] = _WINDOW_HU,
) -> np.ndarray:
    """A slice as a picture with the outline of its mask.

    Args:
        slice_hu: [y, x], Hounsfield units.
        slice_mask: [y, x], 0 or 1.
        enlarged: Pixels per voxel along each axis.
        window_hu: What is black, and what is white.

    Returns:
        uint8 [enlarged y, enlarged x, 3].
    """
    low, high = window_hu
    gray = (np.clip((slice_hu - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    picture = np.repeat(_enlarge(gray, enlarged)[..., np.newaxis], 3, axis=2)
    inside = np.pad(_enlarge(slice_mask, enlarged).astype(bool), 1)
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    picture[inside[1:-1, 1:-1] & ~core] = _OUTLINE
    return picture


def draw_sheet(
    path: Path, tiles: list[tuple[str, np.ndarray]], columns: int = COLUMNS, rows: int = ROWS, title_points: int = 6
) -> None:
    """Draw titled pictures of one size into a PNG, row by row.

    Matplotlib draws only the titles; the pictures are copied in, ten times faster than one plot each.
    """
    # Not a Figure: it and its texts refer to each other, so sheets would stay in memory (some 60 MB) until Python's
    # cycle collector runs. Imported here because most commands draw nothing.
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties
    from matplotlib.image import imsave

    height, width = tiles[0][1].shape[:2]
    sheet_height, sheet_width = rows * (height + _TITLE), columns * (width + _GAP)
    renderer: Any = RendererAgg(sheet_width, sheet_height, _DPI)  # type: ignore[no-untyped-call]
    sheet = np.asarray(renderer.buffer_rgba())
    sheet[:] = _PAPER
    font, ink = FontProperties(size=title_points), renderer.new_gc()
    corners = [(row * (height + _TITLE) + _TITLE, column * (width + _GAP)) for row, column in np.ndindex(rows, columns)]
    for (top, left), (title, picture) in zip(corners, tiles, strict=False):
        renderer.draw_text(ink, left, top - 4, one_line(title)[:_LONGEST_TITLE], font, 0)
        sheet[top : top + height, left : left + width, :3] = picture
    imsave(path, sheet[..., :3])


def _enlarge(picture: np.ndarray, times: int) -> np.ndarray:
    return np.repeat(np.repeat(picture, times, axis=0), times, axis=1)
