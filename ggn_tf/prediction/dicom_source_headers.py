"""Headers of a CT series as an object that is derived from it needs them: complete, and the same in every slice."""

from collections.abc import Callable, Sequence
from pathlib import Path

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.config import RAISE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.valuerep import DA, DS, DT, IS, TM, validate_value

from ggn_tf.cases.dicom.slices import Slice
from ggn_tf.cases.volumes import Volume

# Attributes that every DICOM object has, empty where they are unknown (type 2 of the patient and study modules).
# Tools that remove names from headers often remove the attribute as well.
_MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
# The representations whose values are checked, and their types. Not texts, which identify patient and study.
_CHECKED: dict[str, Callable[[str], object]] = {"AS": str, "CS": str, "DA": DA, "DS": DS, "DT": DT, "IS": IS, "TM": TM}
# Positions, orientations and pixels, which the reader of the series has checked.
_GEOMETRY_GROUPS = (0x0020, 0x0028)
_CODE = ("CodeValue", "CodingSchemeDesignator")


def read_sources(
    volume: Volume, numbers: Sequence[int], layers: npt.NDArray[np.integer]
) -> tuple[list[Dataset], npt.NDArray[np.integer]]:
    """The headers that an object refers to, and its labels on each of their slices.

    Args:
        volume: A DICOM series.
        numbers: Indices of the slices in its stack that the object refers to.
        layers: [number, y, x], the object's labels on these slices.

    Returns:
        The headers of these slices, and the unchanged labels; or the header of the multi-frame file whose frames they
        are, and labels for every one of its frames.

    Raises:
        ValueError: No slice, or frames of several multi-frame files.
        AttributeError: A header lacks a required attribute.
    """
    slices = [volume.stack.slices[number] for number in numbers] if volume.stack else []
    if not slices:
        raise ValueError("no slice of a DICOM series that contains a nodule")
    if all(item.frame is None for item in slices):
        return [_single(item, slices[0], volume) for item in slices], layers
    if len({item.path for item in slices}) > 1:
        raise ValueError("frames of several multi-frame files")
    header = _completed(slices[0])
    # Shared values may be repeated in each frame, where highdicom does not look.
    shared = header.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence = pixel_measures(volume)
    orientation = Dataset()
    orientation.ImageOrientationPatient = _orientation(slices[0])
    shared.PlaneOrientationSequence = Items([orientation])
    frames = np.zeros((int(header.NumberOfFrames), *layers.shape[1:]), layers.dtype)
    frames[[item.frame or 0 for item in slices]] = layers
    return [header], frames


def read_headers(volume: Volume, numbers: Sequence[int]) -> list[Dataset]:
    """The header of each slice of a DICOM series, or of the multi-frame file that it is a frame of.

    Args:
        volume: A DICOM series.
        numbers: Indices of the slices in its stack.
    """
    slices = [volume.stack.slices[number] for number in numbers] if volume.stack else []
    headers: dict[Path, Dataset] = {}
    for item in slices:
        if item.path not in headers:
            headers[item.path] = _single(item, item, volume) if item.frame is None else _completed(item)
    return [headers[item.path] for item in slices]


def pixel_measures(volume: Volume) -> highdicom.PixelMeasuresSequence:
    """The spacing of the volume's grid.

    Headers often lack the spacing of the slices, and readers would use their thickness instead. Slices that are not
    parallel, aligned and uniformly spaced have no single spacing, and none is written.
    """
    width_mm, height_mm, depth_mm = volume.stored_grid.spacing_mm_xyz
    between_mm = depth_mm if volume.positions is None else None
    return highdicom.PixelMeasuresSequence((height_mm, width_mm), depth_mm, between_mm)


def _single(item: Slice, first: Slice, volume: Volume) -> Dataset:
    header = _completed(item)
    # Scanners round the last digit differently from slice to slice; highdicom sees another orientation in that.
    header.ImageOrientationPatient = _orientation(first)
    (measures,) = pixel_measures(volume)
    for name in ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"):
        header.pop(name, None)
        if name in measures:
            header[name] = measures[name]
    return header


def _completed(item: Slice) -> Dataset:
    header = pydicom.dcmread(item.path, stop_before_pixels=True)
    _remove_unusable(header)
    header.decode()
    # Can represent every text; highdicom knows not all sets of the standard, among them those of Japanese scanners.
    header.SpecificCharacterSet = "ISO_IR 192"
    for name in _MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, None)
    return header


def _remove_unusable(dataset: Dataset) -> None:
    """Remove values that are empty or not valid: of the attributes that the object copies, some must have a value."""
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
        except Exception:  # whatever pydicom raises on a value that it cannot convert
            del dataset[tag]
            continue
        if element.VR == "SQ":
            for inner in element.value:
                _remove_unusable(inner)
            element.value = [inner for inner in element.value if len(inner) and _is_whole_code(inner)]
        if element.is_empty or not _is_valid(element):
            del dataset[tag]


def _is_whole_code(item: Dataset) -> bool:
    """Whether an item of a sequence has all that a code needs (PS3.3 8.8), or is none."""
    if not any(name in item for name in (*_CODE, "CodeMeaning")):
        return True
    value = any(name in item for name in ("LongCodeValue", "URNCodeValue")) or all(name in item for name in _CODE)
    return value and "CodeMeaning" in item


def _is_valid(element: DataElement) -> bool:
    if element.keyword == "PatientSex":
        return element.value in ("M", "F", "O")
    if element.VR not in _CHECKED or element.tag.group in _GEOMETRY_GROUPS:
        return True
    try:
        for value in element.value if element.VM > 1 else [element.value]:
            validate_value(element.VR, str(value), RAISE)
            # Dates and times of the right form that do not exist.
            _CHECKED[element.VR](str(value))
    except ValueError:
        return False
    return True


def _orientation(item: Slice) -> list[str]:
    rows, columns = np.reshape(item.direction, (3, 3)).T[:2].tolist()
    return [pydicom.valuerep.format_number_as_ds(cosine) for cosine in (*rows, *columns)]
