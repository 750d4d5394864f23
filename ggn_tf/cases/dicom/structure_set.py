"""Regions of interest in DICOM structure sets (RTSTRUCT), filled on the CT's own voxels."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ggn_tf.cases.dicom.bounds import read_bounded
from ggn_tf.cases.dicom.slice_planes import SlicePlanes
from ggn_tf.cases.geometry.grid import Floats
from ggn_tf.cases.geometry.outlines import Outline, fill
from ggn_tf.cases.geometry.segment import Segment, errors_as, names_by_number, pick_segment
from ggn_tf.errors import MaskError

# How far a contour may be from the slice that it was drawn on; less than half a slice of the thinnest CT.
_OFF_SLICE_MM = 0.2
_CLOSED, _EXCLUSIVE = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"
# Half a pixel, and a tenth for rounding: the border of the image.
_BEYOND_PIXELS = 0.6
# Of a region on one slice: far more than were ever drawn, and few enough to be compared with one another.
_MOST_CONTOURS, _MOST_POINTS, _SMALL = 500, 20_000, 2**16


@dataclass(frozen=True)
class _Region:
    """The closed contours of a region, [N, 3] LPS mm each, and what else it consists of."""

    contours: list[Floats]
    exclusive: bool
    ignored: Counter[str]


def read_region_of_interest(path: Path, segment: str | None, planes: SlicePlanes) -> Segment:
    """Fill a region's contours on the CT's slices, as `fill` describes.

    A voxel belongs to the region if its centre is inside or on the outline. Points and open contours enclose nothing
    and are ignored, with a note, beside closed ones.

    Args:
        path: A structure set.
        segment: The region's name, or its number. None where there is only one.
        planes: The CT's slices, on which the contours were drawn.

    Raises:
        MaskError: The file is damaged, it is not clear which region is meant, or contours are not on the slices.
    """
    with errors_as(partial(_unusable, path)):
        header = read_bounded(path)
        names = names_by_number((roi.ROINumber, roi.get("ROIName")) for roi in header.StructureSetROISequence)
        region = _read_region(header, pick_segment(path, names, segment))
        return _filled(path, region, planes)


def _read_region(header: Dataset, number: int) -> _Region:
    contours, ignored, exclusive = [], Counter[str](), False
    drawn = (item for item in header.get("ROIContourSequence") or () if int(item.ReferencedROINumber) == number)
    for item in (contour for region in drawn for contour in region.get("ContourSequence") or ()):
        kind = str(item.get("ContourGeometricType") or _CLOSED).strip().upper()
        numbers = np.asarray(item.get("ContourData") or (), dtype=np.float64)
        if numbers.size % 3:
            raise ValueError(f"a contour of {numbers.size} numbers, not three for each point")
        points = numbers.reshape(-1, 3)
        if not np.isfinite(points).all():
            raise ValueError("a contour with points that are not finite")
        if kind not in (_CLOSED, _EXCLUSIVE):
            ignored[kind] += 1
        elif len(points):
            contours.append(points)
            exclusive |= kind == _EXCLUSIVE
    if ignored and not contours:
        raise ValueError(f"a region of {_listed(ignored)}, which enclose nothing")
    return _Region(contours, exclusive, ignored)


def _filled(path: Path, region: _Region, planes: SlicePlanes) -> Segment:
    outlines: defaultdict[int, list[Floats]] = defaultdict(list)
    for points in region.contours:
        if len(points) > _MOST_POINTS:
            raise _unusable(path, f"a contour of {len(points)} points")
        level, off_mm = planes.nearest(points)
        if off_mm > _OFF_SLICE_MM:
            height = float(planes.grid.index_of(points)[:, 2].mean())
            outside = not -0.5 <= height <= planes.grid.size_xyz[2] - 0.5
            where = "outside the CT" if outside else f"{off_mm:.2f} mm off the nearest slice"
            raise _unusable(path, f"a contour {where}; CT of {planes.grid}")
        pixels = planes.pixels_of(level, points)
        beyond = np.maximum(-pixels, pixels - np.subtract(planes.size_xy, 1)).max()
        if beyond > _BEYOND_PIXELS:
            raise _unusable(path, f"a contour up to {beyond:.1f} pixels outside the CT; CT of {planes.grid}")
        outlines[level].append(pixels)
    for drawn in outlines.values():
        _check_amount(path, drawn, planes.size_xy)
    layers = {
        level: fill(list(map(Outline.of, drawn)), planes.size_xy, exclusive=region.exclusive)
        for level, drawn in sorted(outlines.items())
    }
    notes = (f"the mask: {_listed(region.ignored)} were ignored",) if region.ignored else ()
    return replace(planes.segment(layers), notes=notes)


def _check_amount(path: Path, drawn: Sequence[Floats], size_xy: tuple[int, int]) -> None:
    """Refuse contours of a slice that are longer than all of its pixels, or so many that comparing them never ends."""
    points = sum(map(len, drawn))
    length = sum(float(np.abs(np.diff(outline, axis=0, append=outline[:1])).sum()) for outline in drawn)
    longest = max(2 * size_xy[0] * size_xy[1], _SMALL)
    if len(drawn) > _MOST_CONTOURS or points > _MOST_POINTS or length > longest:
        raise _unusable(path, f"{len(drawn)} contours of {points} points and {length:.0f} pixels on one slice")


def _listed(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} contours of type {kind}" for kind, count in sorted(kinds.items()))


def _unusable(path: Path, found: str) -> MaskError:
    return MaskError(
        "The DICOM structure set cannot be used.",
        case=path,
        found=found,
        expected="closed planar contours on the slices of the CT",
        remedy="Name the CT that the region was drawn on, or export the region as a label map (.nii.gz or .nrrd).",
    )
