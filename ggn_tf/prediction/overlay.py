"""A nodule on its CT in three planes, with the outline of its mask."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Grid, Vector
from ggn_tf.dataset.previews import draw_sheet, outlined
from ggn_tf.protocol import AIR_HU

FIELD_MM = 60.0
_PIXEL_MM = 0.2
_TITLE_POINTS = 8
# Patient axes, whichever way the CT's rows run: x to the patient's left, y to the back, z to the head.
_STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
# The axis across each plane, and whether the picture is flipped so that the head is at the top.
_PLANES = {"axial": (2, False), "coronal": (1, True), "sagittal": (0, True)}


def field_around(center_mm_lps: Vector, margin_mm: float = 0.0) -> Grid:
    """The part of the patient that an overlay shows: what its CT block must cover."""
    millimetres = int(FIELD_MM + 2 * margin_mm) + 1
    return Grid.around(center_mm_lps, (millimetres,) * 3, (1.0, 1.0, 1.0), _STRAIGHT)


def draw_overlay(path: Path, title: str, block: sitk.Image, mask: sitk.Image | None, center_mm_lps: Vector) -> None:
    """Draw axial, coronal and sagittal through a point, as radiologists look at them: the patient's right on the left.

    `block` has Hounsfield units of the CT around the point; `mask`, 0 or 1 on a block of the same CT, is outlined.
    """
    tiles = []
    for plane, (across, upside_down) in _PLANES.items():
        grid = _plane(center_mm_lps, across)
        hu = _cut(block, grid, sitk.sitkLinear, AIR_HU, across)
        inside = np.zeros_like(hu) if mask is None else _cut(mask, grid, sitk.sitkNearestNeighbor, 0, across)
        picture = outlined(hu, inside, enlarged=1)
        tiles.append((f"{plane}, {FIELD_MM:g} mm", picture[::-1] if upside_down else picture))
    tiles[0] = (f"{title}: {tiles[0][0]}", tiles[0][1])
    draw_sheet(path, tiles, columns=len(tiles), rows=1, title_points=_TITLE_POINTS)


def _plane(center_mm_lps: Vector, across: int) -> Grid:
    pixels = round(FIELD_MM / _PIXEL_MM)
    x, y, z = (1 if axis == across else pixels for axis in range(3))
    return Grid.around(center_mm_lps, (x, y, z), (_PIXEL_MM,) * 3, _STRAIGHT)


def _cut(image: sitk.Image, grid: Grid, interpolator: int, outside: float, across: int) -> np.ndarray:
    # The array's axes are z, y, x.
    return grid.sample(image, interpolator, outside).take(0, axis=2 - across)
