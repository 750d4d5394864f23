"""Measurements of a nodule on the CT's own voxels."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Box, Grid

# Scholten et al. 2015 (European Radiology 25:488): above it software and radiologists agree best on what is solid.
SOLID_HU = -300.0


class Measurements(NamedTuple):
    """The measurements; as in `Patch`."""

    volume_mm3: float
    diameter_mm: float
    longest_diameter_mm: float
    mean_hu: float
    solid_fraction: float


def measure(image: sitk.Image, mask: sitk.Image) -> Measurements:
    """Measure a nodule on the CT's own voxels.

    Args:
        image: Hounsfield units of a block that contains the nodule.
        mask: The nodule, on a block of the same CT that may be smaller.
    """
    grid = Grid.from_image(mask)
    start = np.rint(Grid.from_image(image).index_of(grid.origin_mm_lps)).astype(int)
    box = Box.between(start.tolist(), (start + grid.size_xyz - 1).tolist())
    inside = sitk.GetArrayViewFromImage(mask) > 0
    values = sitk.GetArrayViewFromImage(image)[box.slices_zyx][inside]
    volume_mm3 = float(values.size * np.prod(grid.spacing_mm_xyz))
    return Measurements(
        volume_mm3=volume_mm3,
        diameter_mm=(6 * volume_mm3 / np.pi) ** (1 / 3),
        longest_diameter_mm=max(_longest_mm(layer, grid) for layer in inside if layer.any()),
        mean_hu=float(values.mean(dtype=np.float64)),
        solid_fraction=float(np.mean(values > SOLID_HU)),
    )


def _longest_mm(layer_yx: npt.NDArray[np.bool_], grid: Grid) -> float:
    """The longest distance in a slice, of which only the ends of rows can be the ends."""
    rows = np.flatnonzero(layer_yx.any(axis=1))
    first = layer_yx[rows].argmax(axis=1)
    last = layer_yx.shape[1] - 1 - layer_yx[rows, ::-1].argmax(axis=1)
    width_mm, height_mm, _ = grid.spacing_mm_xyz
    x, y = np.concatenate([first, last]) * width_mm, np.concatenate([rows, rows]) * height_mm
    between_centers = np.hypot(x[:, None] - x, y[:, None] - y).max()
    return float(between_centers + np.sqrt(width_mm * height_mm))
