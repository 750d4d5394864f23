"""Regions of interest in DICOM structure sets (RTSTRUCT), filled on the CT's own voxels."""

from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from matplotlib.path import Path as Outline
from pydicom.dataset import Dataset

from ggn_tf.cases.geometry.grid import Floats, Grid
from ggn_tf.cases.geometry.segment import Segment, errors_as, pick_segment
from ggn_tf.errors import MaskError

# How far a contour may be from the slice that it was drawn on; less than half a slice of the thinnest CT.
_OFF_SLICE_MM = 0.2


def read_region_of_interest(path: Path, segment: str | None, grid: Grid) -> Segment:
    """Fill a region's contours on the CT's slices.

    A voxel belongs to the region if its centre is inside. A contour inside another one cuts a hole, as drawing
    programs intend it and CLOSEDPLANAR_XOR defines it.

    Args:
        path: A structure set.
        segment: The region's name, or its number. None where there is only one.
        grid: The CT's grid, on whose slices the contours were drawn.

    Raises:
        MaskError: The file is damaged, it is not clear which region is meant, or contours are between the slices.
    """
    with errors_as(partial(_unusable, path)):
        header = pydicom.dcmread(path)
        names = {int(roi.ROINumber): str(roi.get("ROIName", "")) for roi in header.StructureSetROISequence}
        contours = _contours(header, pick_segment(path, names, segment))
    return Segment(grid, _filled(path, contours, grid))


def _contours(header: Dataset, number: int) -> list[Floats]:
    """The points of a region's closed planar contours, [N, 3] LPS mm each."""
    region = next(item for item in header.ROIContourSequence if int(item.ReferencedROINumber) == number)
    contours = []
    for item in region.get("ContourSequence") or ():
        if item.ContourGeometricType not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
            raise ValueError(f"a contour of type {item.ContourGeometricType}, which encloses nothing")
        points = np.asarray(item.ContourData, dtype=np.float64).reshape(-1, 3)
        if not np.isfinite(points).all():
            raise ValueError("a contour with points that are not finite")
        contours.append(points)
    return contours


def _filled(path: Path, contours: list[Floats], grid: Grid) -> npt.NDArray[np.bool_]:
    width, height, depth = grid.size_xyz
    slices: defaultdict[int, list[Floats]] = defaultdict(list)
    for points in contours:
        index = grid.index_of(points)
        level = round(float(index[:, 2].mean()))
        off_mm = float(np.abs(index[:, 2] - level).max() * grid.spacing_mm_xyz[2])
        if off_mm > _OFF_SLICE_MM or not 0 <= level < depth:
            where = "outside the CT" if not 0 <= level < depth else f"{off_mm:.2f} mm off the nearest slice"
            raise _unusable(path, f"a contour {where}; CT of {grid}")
        slices[level].append(index[:, :2])
    inside = np.zeros((depth, height, width), dtype=bool)
    for level, outlines in slices.items():
        for outline in outlines:
            first = np.clip(np.floor(outline.min(axis=0)).astype(int), 0, (width, height))
            end = np.clip(np.ceil(outline.max(axis=0)).astype(int) + 1, 0, (width, height))
            y, x = np.mgrid[first[1] : end[1], first[0] : end[0]]
            within = Outline(outline).contains_points(np.column_stack([x.ravel(), y.ravel()])).reshape(x.shape)
            inside[level, first[1] : end[1], first[0] : end[0]] ^= within
    return inside


def _unusable(path: Path, found: str) -> MaskError:
    return MaskError(
        "The DICOM structure set cannot be used.",
        case=path,
        found=found,
        expected="closed planar contours on the slices of the CT",
        remedy="Name the CT that the region was drawn on, or export the region as a label map (.nii.gz or .nrrd).",
    )
