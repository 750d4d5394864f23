"""Sprite sheets: all slices of a volume side by side in one PNG with few colours."""

import io

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion

COLUMNS = 8
# A tile of a gray or heat sheet repeats its edge, so that a browser that enlarges it smoothly does not blend in the
# neighbouring slice.
MARGIN = 1
# Pixels per voxel of an outline: sharp where the CT beneath is smooth.
ENLARGED = 6
LEVELS = 16


def gray_sheet(volume: np.ndarray) -> bytes:
    """A sheet in shades of gray, as PNG.

    Args:
        volume: uint8 [D, H, W].
    """
    return _png(Image.fromarray(_tiled(_framed(volume)), mode="L"))


def outline_sheet(mask: np.ndarray, colour: str) -> bytes:
    """A sheet of the outline of a mask, transparent elsewhere, as PNG.

    Args:
        mask: bool [D, H, W].
        colour: `#rrggbb`.
    """
    fine = mask.repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)
    line = fine & ~binary_erosion(fine, np.ones((1, 5, 5)))
    picture = Image.fromarray(_tiled(line.astype(np.uint8)), mode="P")
    picture.putpalette([0, 0, 0, *bytes.fromhex(colour.removeprefix("#"))])
    return _png(picture, transparency=b"\x00\xff", bits=1)


def heat_sheet(heat: np.ndarray, colours: np.ndarray) -> bytes:
    """A sheet of a map in [0, 1], as PNG.

    Args:
        heat: float32 [D, H, W].
        colours: uint8 [LEVELS, 4], red, green, blue and opacity of each level.
    """
    level = np.minimum((heat * LEVELS).astype(np.uint8), LEVELS - 1)
    picture = Image.fromarray(_tiled(_framed(level)), mode="P")
    picture.putpalette(colours[:, :3].tobytes())
    return _png(picture, transparency=colours[:, 3].tobytes(), bits=4)


def _framed(volume: np.ndarray) -> np.ndarray:
    return np.pad(volume, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)), mode="edge")


def _tiled(tiles: np.ndarray) -> np.ndarray:
    """Slices [D, H, W] as one picture with `COLUMNS` slices per row."""
    depth, height, width = tiles.shape
    rows = -(-depth // COLUMNS)
    whole = np.zeros((rows * COLUMNS, height, width), tiles.dtype)
    whole[:depth] = tiles
    return whole.reshape(rows, COLUMNS, height, width).swapaxes(1, 2).reshape(rows * height, COLUMNS * width)


def _png(picture: Image.Image, **options: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True, **options)
    return content.getvalue()
