"""DICOM segmentations read by their own library, brought into the form of our arrays."""

from pathlib import Path
from typing import NamedTuple

import highdicom
import numpy as np
import pydicom

from ggn_tf.cases.geometry.grid import Grid


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


class Frame(NamedTuple):
    """A frame of a segmentation, [y, x] bool, and where it says to belong."""

    inside: np.ndarray
    segment: int
    source: str
    source_frame: int | None
    position_mm_lps: list[float]


def frames_of(path: Path) -> list[Frame]:
    """Every frame as its own header tells it, without a library's idea of a volume."""
    stored = pydicom.dcmread(path)
    (shared,) = stored.SharedFunctionalGroupsSequence
    layers = stored.pixel_array.reshape(-1, stored.Rows, stored.Columns) > 0
    frames = []
    for layer, own in zip(layers, stored.PerFrameFunctionalGroupsSequence, strict=True):
        source = own.DerivationImageSequence[0].SourceImageSequence[0]
        position = (own if "PlanePositionSequence" in own else shared).PlanePositionSequence[0]
        segment = (own if "SegmentIdentificationSequence" in own else shared).SegmentIdentificationSequence[0]
        frames.append(
            Frame(
                layer,
                int(segment.ReferencedSegmentNumber),
                source.ReferencedSOPInstanceUID,
                int(source.ReferencedFrameNumber) if "ReferencedFrameNumber" in source else None,
                [float(value) for value in position.ImagePositionPatient],
            )
        )
    return frames
