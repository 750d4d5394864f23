"""Whole CTs and masks, which the product reads by the block."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.masks import place_mask
from ggn_tf.cases.volumes import Volume, naming_case, open_volume


def read_grid(path: Path) -> Grid:
    """The grid of a volume, from the headers only; as `open_volume`."""
    return open_volume(path).grid


def read_region(path: Path, box: Box) -> sitk.Image:
    """A block of a volume in Hounsfield units, float32; as `Volume.read`."""
    return open_volume(path).read(box)


def read_volume(path: Path) -> sitk.Image:
    """A whole volume in Hounsfield units, float32; as `Volume.read`."""
    return open_volume(path).read()


def read_mask(path: Path, grid: Grid, *, segment: str | None = None, case: str | None = None) -> sitk.Image:
    """Read a nodule's mask onto the whole grid of a CT that needed no repair; otherwise as `place_mask`.

    Returns:
        uint8, 1 in the nodule and 0 elsewhere, on the CT's grid.

    Raises:
        MaskError: As in `place_mask`.
    """
    with naming_case(case):
        placed = place_mask(path, Volume(Path("ct"), grid), segment=segment).image
        block = grid.block_of(Grid.from_image(placed)) or grid.whole
        whole = np.zeros(grid.size_xyz[::-1], dtype=np.uint8)
        whole[block.slices_zyx] = sitk.GetArrayViewFromImage(placed)
        return grid.image_of(whole)
