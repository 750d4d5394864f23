"""CTs and masks made in code, with world coordinates that are known beforehand."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Grid

CENTER = (12.0, -31.0, 40.0)


def rotation(x_degrees: float, y_degrees: float, z_degrees: float) -> tuple[float, ...]:
    a, b, c = np.radians([x_degrees, y_degrees, z_degrees])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return tuple(float(cosine) for cosine in (about_z @ about_y @ about_x).ravel())


def ramp_hu(points_mm_lps: np.ndarray) -> np.ndarray:
    """A CT that is a plane in world coordinates: linear interpolation must give it back exactly, wherever it is cut."""
    return -600.0 + points_mm_lps @ np.array([3.0, -2.0, 5.0])


def points_of(grid: Grid) -> np.ndarray:
    z, y, x = np.indices(grid.size_xyz[::-1])
    return grid.point_of(np.stack([x, y, z], axis=-1))


def ramp(grid: Grid) -> sitk.Image:
    return grid.image_of(ramp_hu(points_of(grid)).astype(np.float32))


def ball(grid: Grid, center_mm_lps: tuple[float, float, float] = CENTER, radius_mm: float = 6.0) -> sitk.Image:
    inside = np.linalg.norm(points_of(grid) - center_mm_lps, axis=-1) <= radius_mm
    return grid.image_of(inside.astype(np.uint8))


def noise(grid: Grid, seed: int = 0) -> sitk.Image:
    return grid.image_of(np.random.default_rng(seed).integers(-1000, 300, grid.size_xyz[::-1]).astype(np.int16))


def rewrite(image: sitk.Image, path: Path) -> None:
    """Write a DICOM slice back under its own tags, but at the position that the image now has."""
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    stored = sitk.Cast(image, sitk.sitkInt16)
    for key in set(image.GetMetaDataKeys()) - {"0020|0032", "0020|0037"}:
        if not key.startswith("ITK"):
            stored.SetMetaData(key, image.GetMetaData(key))
    writer.Execute(stored)
