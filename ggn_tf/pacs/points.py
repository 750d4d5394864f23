"""Nodules that a DICOM object marks: by the graphics of a structured report (TID 1500), or the segments of a SEG.

No text of the object is repeated in errors: it may name patients.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info

from ggn_tf.cases.dicom.bounds import find_overrun
from ggn_tf.cases.dicom.folder import ENHANCED
from ggn_tf.cases.dicom.mask_references import read_references
from ggn_tf.cases.dicom.segmentation import SEGMENTATIONS, drawn_segments, segment_labels
from ggn_tf.cases.dicom.slices import Slice
from ggn_tf.cases.geometry.grid import Floats, Vector, point_text, vector
from ggn_tf.cases.geometry.segment import matching_names
from ggn_tf.errors import GgnWarning, LocationError
from ggn_tf.shown_text import one_line

# Enhanced, Comprehensive, Comprehensive 3D and Extensible SR: those that contain coordinates.
REPORTS = tuple(f"1.2.840.10008.5.1.4.1.1.88.{number}" for number in (22, 33, 34, 35))
_GROUP, _TRACKING_IDENTIFIER = ("125007", "DCM"), ("112039", "DCM")
# Image Region and Volume Surface: the outline of the finding itself.
_REGIONS = (("111030", "DCM"), ("121231", "DCM"))
_IN_IMAGE, _IN_PATIENT = "SCOORD", "SCOORD3D"
# The points whose mean is the centre, by graphic type. OHIF writes an arrow as a POINT, followed by its other end.
_CENTERED = {"POINT": slice(1), "CIRCLE": slice(1), "ELLIPSE": slice(4), "ELLIPSOID": slice(6)}
_OUTLINES = ("POLYLINE", "POLYGON")
_TRIANGLE, _LEAST_ENCLOSED = 3, 0.25
# Begin the tracking identifiers of Cornerstone's tools (OHIF), which name the tool.
_TOOLS = ("cornerstone",)
# Far more than a report has: a group takes 500 to 3000 bytes, and 3 ms to read.
_MOST_BYTES, _MOST_GROUPS, _LONGEST_NAME = 8 << 20, 1000, 64


@dataclass(frozen=True)
class MarkedNodule:
    """A nodule that an object marks.

    Attributes:
        name: Its name there; None where the object has no unique one.
        center_mm_lps: Its centre; None for a segment.
        segment: Number of the segment of a SEG, in a form that no segment has as its label; None for a point.
    """

    name: str | None = None
    center_mm_lps: Vector | None = None
    segment: str | None = None


class _Elsewhere(Enum):
    """Why a graphic is not on the CT; the values are the texts of errors."""

    IMAGE = "on images that are not of the series"
    FRAME = "in another frame of reference"


def read_points(file: Path, ct_instances: Sequence[Slice]) -> list[MarkedNodule]:
    """The nodules that a structured report or a segmentation marks on a CT.

    Of a report (TID 1500), each measurement group is a nodule: the centre of its image regions, else of its longest
    graphic. The centre of a line is its midpoint, of an outline the centroid of its area. Groups without graphics,
    groups on other series beside some on this one, and segments without pixels are left out with a `GgnWarning`.

    Args:
        file: A DICOM SR or SEG.
        ct_instances: The slices or frames of the CT, as `scan_series` returns them.

    Returns:
        At least one nodule, in the order of the file.

    Raises:
        LocationError: The file is damaged or of another kind, marks nothing on the CT, or marks a point outside it.
    """
    try:
        # pydicom warns of values, and logs them.
        with warnings.catch_warnings(action="ignore"), disable_value_validation():
            whole = _read(file, ct_instances)
            if str(whole.SOPClassUID) in SEGMENTATIONS:
                nodules, left_out = _segments(file, whole, ct_instances)
            else:
                nodules, left_out = _nodules(file, whole, _Series.of(ct_instances))
    except LocationError:
        raise
    except Exception as error:  # see `errors_as`; its text quotes the file
        raise _unusable(file, f"a damaged file ({type(error).__name__})") from None
    if left_out:
        warnings.warn(f"{left_out} were left out.", GgnWarning, stacklevel=2)
    return nodules


@dataclass(frozen=True)
class _Series:
    """A CT's slices by instance and frame, the frames of each instance, and the frame of reference."""

    slices: Mapping[tuple[str, int | None], Slice]
    frames: Mapping[str, list[int | None]]
    frame_of_reference: str

    @classmethod
    def of(cls, slices: Sequence[Slice]) -> "_Series":
        header = pydicom.dcmread(slices[0].path, stop_before_pixels=True, specific_tags=["FrameOfReferenceUID"])
        by_image = {(item.uid, None if item.frame is None else item.frame + 1): item for item in slices}
        frames: dict[str, list[int | None]] = {}
        for uid, frame in by_image:
            frames.setdefault(uid, []).append(frame)
        return cls(by_image, frames, str(header.get("FrameOfReferenceUID") or ""))

    def covers(self, point_mm_lps: Floats) -> bool:
        """Whether a point is in a slice, or between two neighbouring ones."""
        slices = list(self.slices.values())
        first = slices[0]
        axes, size_xyz = np.reshape(first.direction, (3, 3)), np.array(first.size_xyz)
        shifts = (point_mm_lps - np.array([item.origin_mm_lps for item in slices])) @ axes
        heights = np.sort(shifts[:, 2])
        gap = float(np.diff(heights).max(initial=0.0)) or 1.0
        nearest = shifts[np.abs(shifts[:, 2]).argmin()] / (*first.spacing_mm_xyz[:2], gap)
        return bool((nearest >= -0.5).all() and (nearest <= size_xyz - 0.5).all())


@dataclass(frozen=True)
class _Shape:
    """A graphic's type, and its points in the patient, [N, 3] LPS mm."""

    kind: str
    points_mm_lps: Floats

    @property
    def length_mm(self) -> float:
        """The length of a line, the diameter of a circle, the diagonal of the box around others."""
        return float(np.linalg.norm(np.ptp(self.points_mm_lps, axis=0))) * (2 if self.kind == "CIRCLE" else 1)

    @property
    def center(self) -> Floats:
        """The centre of a point, line or ellipse; the centroid of the area that an outline encloses."""
        points = self.points_mm_lps[_CENTERED.get(self.kind, slice(None))]
        middle: Floats = points.mean(axis=0)
        if self.kind in _CENTERED or len(points) < _TRIANGLE:
            return middle
        # The triangles between the middle and each side, of which those beyond a dent count negatively.
        sides = np.stack([points, np.roll(points, -1, axis=0)])
        areas = np.cross(*(sides - middle))
        total = areas.sum(axis=0)
        if np.linalg.norm(total) <= _LEAST_ENCLOSED * np.linalg.norm(areas, axis=1).sum():
            # Flat, or crossing itself: its centroid could be anywhere.
            return middle
        weights = areas @ total
        centroid: Floats = (weights[:, None] * (sides.sum(axis=0) + middle) / 3).sum(axis=0) / weights.sum()
        return centroid


def _read(file: Path, slices: Sequence[Slice]) -> Dataset:
    overrun = find_overrun(file)
    if overrun is not None:
        raise ValueError(overrun)
    kind = str(read_file_meta_info(file).get("MediaStorageSOPClassUID", ""))
    if kind not in (*REPORTS, *SEGMENTATIONS):
        raise _unusable(file, f"an object of another kind: {pydicom.uid.UID(kind).name if kind else 'not stated'}")
    if kind in REPORTS and file.stat().st_size > _MOST_BYTES:
        raise _unusable(file, f"{file.stat().st_size} bytes, more than {_MOST_BYTES}")
    if kind in SEGMENTATIONS:
        # Before the pixels are read: a study may have many segmentations, each of hundreds of megabytes.
        differences = set(read_references(file).differences(slices[0])) & {"frame of reference", "patient"}
        if differences:
            raise _unusable(file, f"a segmentation of another {' and another '.join(sorted(differences))}")
    return pydicom.dcmread(file)


def _segments(file: Path, whole: Dataset, slices: Sequence[Slice]) -> tuple[list[MarkedNodule], str]:
    with_pixels = drawn_segments(whole, (*slices[0].size_xyz[:2], len(slices)))
    labels = {number: one_line(label) for number, label in segment_labels(whole).items()}
    drawn = [number for number in labels if number in with_pixels]
    if not drawn:
        raise _unusable(file, "a segmentation without pixels of its segments")
    names = _unique([labels[number][:_LONGEST_NAME] for number in drawn])
    # 2 may be the label of another segment: then 2.0, 2.00, ...
    forms = ([str(number), *(f"{number}.{'0' * zeros}" for zeros in range(1, len(labels) + 1))] for number in drawn)
    segments = [next(form for form in each if not matching_names([*labels.values()], form)) for each in forms]
    found = [MarkedNodule(name, segment=segment) for name, segment in zip(names, segments, strict=True)]
    return found, f"{len(labels) - len(drawn)} segments without pixels" if len(drawn) < len(labels) else ""


def _nodules(file: Path, whole: Dataset, series: _Series) -> tuple[list[MarkedNodule], str]:
    groups = list(_groups(whole))
    if len(groups) > _MOST_GROUPS:
        raise _unusable(file, f"{len(groups)} measurement groups, more than {_MOST_GROUPS}")
    centers, names, left_out = [], [], Counter[str]()
    for number, group in enumerate(groups, start=1):
        graphics = list(_graphics(group))
        regions = [graphic for graphic in graphics if _concept(graphic) in _REGIONS]
        placed = [_placed(file, number, graphic, series) for graphic in regions or graphics]
        shapes = [shape for shape in placed if isinstance(shape, _Shape)]
        if not shapes:
            left_out[next((why.value for why in placed if isinstance(why, _Elsewhere)), "without coordinates")] += 1
            continue
        longest = max(shapes, key=lambda shape: shape.length_mm)
        centers.append(vector(np.mean([shape.center for shape in (shapes if regions else [longest])], axis=0)))
        names.append(_name(group))
        if not series.covers(np.asarray(centers[-1])):
            raise _unusable(file, f"measurement group {number} at {point_text(centers[-1])} mm (LPS), outside the CT")
    listed = "; ".join(f"{count} measurement groups {why}" for why, count in left_out.items())
    if not centers:
        raise _unusable(file, listed or "a report without measurement groups")
    return [MarkedNodule(name, center) for name, center in zip(_unique(names), centers, strict=True)], listed


def _groups(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        if _concept(child) == _GROUP:
            yield child
        else:
            yield from _groups(child)


def _graphics(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        if child.get("ValueType") in (_IN_IMAGE, _IN_PATIENT):
            yield child
        yield from _graphics(child)


def _concept(item: Dataset) -> tuple[str, str]:
    code = (item.get("ConceptNameCodeSequence") or [Dataset()])[0]
    return str(code.get("CodeValue", "")), str(code.get("CodingSchemeDesignator", ""))


def _placed(file: Path, number: int, graphic: Dataset, series: _Series) -> _Shape | _Elsewhere:
    """A graphic in the patient's coordinates."""
    in_image = graphic.ValueType == _IN_IMAGE
    images = _images(graphic, series) if in_image else []
    if in_image and not images:
        return _Elsewhere.IMAGE
    if not in_image and not graphic.get("ReferencedFrameOfReferenceUID", "") == series.frame_of_reference != "":
        return _Elsewhere.FRAME
    kind = str(graphic.GraphicType)
    numbers = np.array([graphic.GraphicData], dtype=np.float64).reshape(-1, 2 if in_image else 3)
    if kind not in (*_CENTERED, *_OUTLINES):
        known = kind if kind == "MULTIPOINT" else "unknown"
        raise _unusable(file, f"measurement group {number} with a graphic of type {known}, which has no centre")
    if not (np.isfinite(numbers).all() and len(numbers)):
        raise _unusable(file, f"measurement group {number} with coordinates that are not numbers")
    if not in_image:
        return _Shape(kind, numbers)
    # The corner of the first pixel is (0, 0) (PS3.3, C.18.6.1.1); of a slice's grid, its centre is.
    return _Shape(kind, sum((_points(numbers - 0.5, image) for image in images), np.zeros(3)) / len(images))


def _images(graphic: Dataset, series: _Series) -> list[Slice]:
    """The slices of a graphic: single images may have a frame number, and of several frames one must be stated."""
    found: set[tuple[str, int | None]] = set()
    for child in graphic.get("ContentSequence") or ():
        for reference in child.get("ReferencedSOPSequence") or ():
            uid, stated = str(reference.ReferencedSOPInstanceUID), reference.get("ReferencedFrameNumber")
            frames = series.frames.get(uid, [])
            if stated is not None:
                frames = [frame for frame in (None, *map(int, np.ravel(stated))) if (uid, frame) in series.slices]
            found.update((uid, frame) for frame in frames if len(frames) == 1 or stated is not None)
    return [image for key, image in series.slices.items() if key in found]


def _points(pixels: Floats, image: Slice) -> Floats:
    axes = np.reshape(image.direction, (3, 3))[:, :2]
    points: Floats = np.asarray(image.origin_mm_lps) + (pixels * image.spacing_mm_xyz[:2]) @ axes.T
    return points


def _name(group: Dataset) -> str:
    """The tracking identifier, if a person may have given it."""
    children = (child for child in group.ContentSequence if _concept(child) == _TRACKING_IDENTIFIER)
    name = one_line(str(next((child.get("TextValue") for child in children), "") or "")).strip()
    return "" if name.lower().startswith(_TOOLS) else name[:_LONGEST_NAME]


def _unique(names: Sequence[str]) -> list[str | None]:
    counts = Counter(names)
    return [name if name and counts[name] == 1 else None for name in names]


def _unusable(file: Path, found: str) -> LocationError:
    return LocationError(
        "No nodules can be taken from the DICOM object.",
        case=file,
        found=found,
        expected="a DICOM SR (TID 1500) whose measurement groups have points, lines or outlines on the CT, or a DICOM "
        "SEG of the CT",
        remedy="Check that it belongs to this CT series, or give the centres of the nodules.",
        arguments=("center_mm",),
    )


CTS = ("1.2.840.10008.5.1.4.1.1.2", *ENHANCED)
MARKERS = (*SEGMENTATIONS, *REPORTS)
PLAIN = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
BIG_ENDIAN = "1.2.840.10008.1.2.2"
# JPEG, JPEG-LS, JPEG 2000 and RLE, which GDCM and pydicom decode; those without loss first. No deflated data sets.
_COMPRESSED = ("4.70", "4.57", "4.80", "4.90", "5", "4.50", "4.51", "4.81", "4.91")
SYNTAXES = (*PLAIN, BIG_ENDIAN, *(f"1.2.840.10008.1.2.{end}" for end in _COMPRESSED))
