"""DICOM segmentations (SEG), read with highdicom."""

from pathlib import Path

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom

from ggn_tf.cases.dicom.repair import SlicePositions
from ggn_tf.cases.geometry.grid import Grid, vector
from ggn_tf.cases.geometry.segment import Segment, pick_error
from ggn_tf.errors import MaskError

# Of a fractional segmentation, the nodule is where it is at least this likely, or where it fills at least this much.
FRACTION = 0.5
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


def is_structure_set(path: Path) -> bool:
    """Whether a DICOM file is an RTSTRUCT; a damaged one is not."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except Exception:
        # As below.
        return False
    return str(header.get("SOPClassUID", "")) == STRUCTURE_SET


def referenced_series(path: Path) -> str | None:
    """The SeriesInstanceUID of the CT that a segmentation or structure set names; None if there is none or several."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        series = [*header.get("ReferencedSeriesSequence", ())]
        for frame in header.get("ReferencedFrameOfReferenceSequence", ()):
            for study in frame.get("RTReferencedStudySequence", ()):
                series.extend(study.get("RTReferencedSeriesSequence", ()))
        found = {str(item.SeriesInstanceUID) for item in series}
    except Exception:
        # Whatever pydicom raises on a damaged file: that it cannot be read is said where it is read.
        return None
    return found.pop() if len(found) == 1 else None


def read_dicom_segment(path: Path, segment: str | None, course: SlicePositions | None = None) -> Segment:
    """Read one segment of a DICOM segmentation.

    Args:
        path: A binary, fractional (then from 0.5 on) or label map segmentation.
        segment: The segment's label, or its number. None where there is only one.
        course: Where the CT's slices stand, if they were repaired: frames that lie on them are moved with them.

    Raises:
        MaskError: The file is damaged or no segmentation, its frames do not make a volume, or it is not clear which
            segment is meant.
    """
    try:
        kind = str(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).get("SOPClassUID"))
        if kind not in _SEGMENTATIONS:
            raise _unusable(path, f"SOP class {pydicom.uid.UID(kind).name}")
        whole = highdicom.seg.segread(path)
        labels = {number: whole.get_segment_description(number).segment_label for number in whole.segment_numbers}
        number = _pick(path, labels, segment)
        on_slices = None if course is None else _on_slices(whole, number, course)
        if course is not None and on_slices is not None:
            return Segment(course.grid, course.straighten(on_slices), shifted=True)
        volume = whole.get_volume(segment_numbers=[number], skip_overlap_checks=True)
    except MaskError:
        raise
    except Exception as error:
        # highdicom and pydicom raise some ten unrelated types on a file that is cut, altered or against the standard.
        raise _unusable(path, str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    return _segment(path, np.asarray(volume.array)[..., 0] >= FRACTION, np.asarray(volume.affine))


def _pick(path: Path, labels: dict[int, str], segment: str | None) -> int:
    matching = [number for number, label in labels.items() if segment is None or label == segment]
    if not matching and segment and segment.isdigit() and int(segment) in labels:
        return int(segment)
    if len(matching) != 1:
        raise pick_error(path, segment, list(labels.values()), len(matching))
    return matching[0]


def _on_slices(whole: highdicom.seg.Segmentation, number: int, course: SlicePositions) -> npt.NDArray[np.bool_] | None:
    """A segment on the slices of a stack, [slice, y, x]; None where a frame lies on none of them."""
    stored = whole.pixel_array.reshape(-1, whole.Rows, whole.Columns)
    (shared,) = whole.SharedFunctionalGroupsSequence
    width, height = course.size_xy
    inside = np.zeros((len(course.heights), height, width), dtype=bool)
    for frame, own in zip(stored, whole.PerFrameFunctionalGroupsSequence, strict=True):
        if whole.SegmentationType == "LABELMAP":
            layer = frame == number
        else:
            groups = own if "SegmentIdentificationSequence" in own else shared
            if groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber != number:
                continue
            layer = frame / whole.get("MaximumFractionalValue", 1) >= FRACTION
        position = own.get("PlanePositionSequence") or shared.PlanePositionSequence
        place = course.slice_at(position[0].ImagePositionPatient)
        if place is None or layer.shape != (height, width):
            return None
        inside[place] |= layer
    return inside


def _segment(path: Path, inside: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64]) -> Segment:
    """From highdicom's order, in which the first axis counts slices, the second rows, the third columns."""
    columns = affine[:3, :3][:, ::-1]
    spacing = np.linalg.norm(columns, axis=0)
    if not (np.isfinite(affine).all() and spacing.all()):
        raise _unusable(path, f"affine {affine.tolist()}")
    depth, height, width = inside.shape
    direction = tuple((columns / spacing).ravel().tolist())
    return Segment(Grid((width, height, depth), vector(spacing), vector(affine[:3, 3]), direction), inside)


def _unusable(path: Path, found: str) -> MaskError:
    return MaskError(
        "The DICOM segmentation cannot be used.",
        case=path,
        found=found,
        expected="a DICOM SEG whose frames lie on one CT series",
        remedy="Export it again, or export the segmentation as a label map (.nii.gz or .nrrd).",
    )
