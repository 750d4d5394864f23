"""DICOM segmentations read by their own library, brought into the form of our arrays."""

from pathlib import Path

import highdicom
import numpy as np

from ggn_tf.cases.grid import Grid


def labels_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The label map [z, y, x] from its first to its last slice, z along our normal, and its 4 x 4 affine (LPS)."""
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    array, affine = volume.array, np.asarray(volume.affine)
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    if affine[:3, 0] @ normal < 0:
        affine = affine.copy()
        affine[:3, 3] += affine[:3, 0] * (len(array) - 1)
        affine[:3, 0] *= -1
        array = array[::-1]
    return array, affine


def affine_of(grid: Grid, first_slice: int = 0) -> np.ndarray:
    """The affine of an array [z, y, x] on a grid, from a slice on."""
    affine = np.eye(4)
    columns = np.reshape(grid.direction, (3, 3)) * grid.spacing_mm_xyz
    affine[:3, :3] = columns[:, ::-1]
    affine[:3, 3] = grid.point_of((0, 0, first_slice))
    return affine
