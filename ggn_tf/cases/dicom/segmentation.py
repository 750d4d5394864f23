"""DICOM segmentations (SEG), read with highdicom."""

from functools import partial
from pathlib import Path

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom

from ggn_tf.cases.dicom.repair import SlicePositions
from ggn_tf.cases.geometry.grid import Grid, vector
from ggn_tf.cases.geometry.segment import Segment, errors_as, pick_segment
from ggn_tf.errors import MaskError

# In a fractional segmentation, the probability or the filled fraction from which a voxel belongs to the nodule.
FRACTION = 0.5
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


def is_structure_set(path: Path) -> bool:
    """Whether a DICOM file is an RTSTRUCT; a damaged one is not."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except Exception:  # see `errors_as`
        return False
    return str(header.get("SOPClassUID", "")) == STRUCTURE_SET


def referenced_series(path: Path) -> str | None:
    """The SeriesInstanceUID of the CT that a segmentation or structure set names; None if it names none or several."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        series = [*header.get("ReferencedSeriesSequence", ())]
        for frame in header.get("ReferencedFrameOfReferenceSequence", ()):
            for study in frame.get("RTReferencedStudySequence", ()):
                series.extend(study.get("RTReferencedSeriesSequence", ()))
        found = {str(item.SeriesInstanceUID) for item in series}
    except Exception:  # see `errors_as`; the damage is reported where the mask is read
        return None
    return found.pop() if len(found) == 1 else None


def read_dicom_segment(path: Path, segment: str | None, positions: SlicePositions | None = None) -> Segment:
    """Read one segment of a DICOM segmentation.

    Args:
        path: A binary, fractional (then from 0.5 on) or label map segmentation.
        segment: The segment's label, or its number. None where there is only one.
        positions: The true positions of the CT's slices, if they were repaired: frames on them are moved with them.

    Raises:
        MaskError: The file is damaged or not a segmentation, its frames do not make a volume, or it is not clear which
            segment is meant.
    """
    unusable = partial(_unusable, path)
    with errors_as(unusable):
        kind = str(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).get("SOPClassUID"))
        if kind not in _SEGMENTATIONS:
            raise unusable(f"SOP class {pydicom.uid.UID(kind).name}")
        whole = highdicom.seg.segread(path)
        labels = {number: whole.get_segment_description(number).segment_label for number in whole.segment_numbers}
        number = pick_segment(path, labels, segment)
        on_slices = None if positions is None else _on_slices(whole, number, positions)
        if positions is not None and on_slices is not None:
            return Segment(positions.grid, positions.straighten(on_slices), shifted=True)
        volume = whole.get_volume(segment_numbers=[number], skip_overlap_checks=True)
    return _segment(path, np.asarray(volume.array)[..., 0] >= FRACTION, np.asarray(volume.affine))


def _on_slices(
    whole: highdicom.seg.Segmentation, number: int, positions: SlicePositions
) -> npt.NDArray[np.bool_] | None:
    """A segment on the slices of a stack, [slice, y, x]; None if a frame is on none of them."""
    stored = whole.pixel_array.reshape(-1, whole.Rows, whole.Columns)
    (shared,) = whole.SharedFunctionalGroupsSequence
    width, height = positions.size_xy
    inside = np.zeros((len(positions.heights), height, width), dtype=bool)
    for frame, groups in zip(stored, whole.PerFrameFunctionalGroupsSequence, strict=True):
        if whole.SegmentationType == "LABELMAP":
            layer = frame == number
        else:
            identity = groups if "SegmentIdentificationSequence" in groups else shared
            if identity.SegmentIdentificationSequence[0].ReferencedSegmentNumber != number:
                continue
            layer = frame / whole.get("MaximumFractionalValue", 1) >= FRACTION
        position = groups.get("PlanePositionSequence") or shared.PlanePositionSequence
        index = positions.slice_at(position[0].ImagePositionPatient)
        if index is None or layer.shape != (height, width):
            return None
        inside[index] |= layer
    return inside


def _segment(path: Path, inside: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64]) -> Segment:
    """A segment from highdicom's axis order: slices, rows, columns."""
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
        expected="a DICOM SEG whose frames are on one CT series",
        remedy="Export it again, or export the segmentation as a label map (.nii.gz or .nrrd).",
    )
