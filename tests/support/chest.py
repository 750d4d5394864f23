"""Pieces of lung with balls whose place is known, as NIfTI or as a DICOM series."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.series_writer import write_series
from ggn_tf.cases.geometry.grid import Grid

LUNG_HU, NODULE_HU = -850.0, -500.0
STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
TURNED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
CENTER = (10.0, -20.0, 105.0)


def lung_grid(
    spacing_mm_xyz: tuple[float, float, float] = (0.8, 0.8, 1.25), direction: tuple[float, ...] = STRAIGHT
) -> Grid:
    """64 x 60 x 72 voxels around CENTER, whose middle is no voxel's centre."""
    return Grid.around(CENTER, (64, 60, 72), spacing_mm_xyz, direction)


def distance_mm(grid: Grid, center_mm_lps: Sequence[float]) -> np.ndarray:
    z, y, x = np.indices(grid.size_xyz[::-1])
    return np.linalg.norm(grid.point_of(np.stack([x, y, z], axis=-1)) - center_mm_lps, axis=-1)


def lung_with_balls(
    grid: Grid, balls: Sequence[tuple[Sequence[float], float]] = ((CENTER, 6.0),), nodule_hu: float = NODULE_HU
) -> sitk.Image:
    """int16 HU: balls (centre LPS mm, radius mm) with soft edges, so that their level sets lie between voxels."""
    hu = np.full(grid.size_xyz[::-1], LUNG_HU)
    for center, radius_mm in balls:
        share = np.clip(radius_mm - distance_mm(grid, center) + 0.5, 0, 1)
        hu = hu * (1 - share) + nodule_hu * share
    return grid.image_of(np.rint(hu).astype(np.int16))


def write_nifti(image: sitk.Image, path: Path) -> Path:
    sitk.WriteImage(image, str(path))
    return path


def write_dicom(image: sitk.Image, folder: Path, tags: dict[str, str] | None = None) -> Path:
    folder.mkdir()
    write_series(image, folder, "PHANTOM-0001", tags)
    return folder


def tilt(folder: Path) -> Path:
    """Move every slice of a series 0.31 mm further along y than the one below it: a gantry tilt."""
    for number, path in enumerate(sorted(folder.iterdir())):
        slice_ = pydicom.dcmread(path)
        x, y, z = (float(value) for value in slice_.ImagePositionPatient)
        slice_.ImagePositionPatient = [x, y + 0.31 * number, z]
        slice_.save_as(path)
    return folder
