"""What DICOM objects take over from the CT series that they are derived from, and what those of one prediction share.

The headers of the series are complete, and the same in every slice. Shared are UIDs, the tracking of nodules, finding,
site and algorithm.
"""

import hashlib
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom.config import RAISE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.valuerep import DA, DS, DT, IS, TM, validate_value

from ggn_tf import __version__
from ggn_tf.cases.dicom.segmentation import MAKER
from ggn_tf.cases.dicom.series_writer import uid
from ggn_tf.cases.dicom.slices import Slice
from ggn_tf.cases.geometry.grid import Vector
from ggn_tf.cases.volumes import Volume
from ggn_tf.errors import VolumeError
from ggn_tf.prediction.class_codes import ClassCode

if TYPE_CHECKING:
    from ggn_tf.prediction.nodules import CtPrediction, NodulePrediction


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


@contextmanager
def refusing_headers(volume: Volume, what: str, uids: str, instead: str) -> Iterator[None]:
    """VolumeError where the headers of a series lack what an object needs that refers to it."""
    try:
        # highdicom warns about values of the series, such as names of one part.
        with warnings.catch_warnings(action="ignore"):
            yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise VolumeError(
            f"A DICOM {what} cannot refer to the series.",
            case=volume.path,
            found=str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}",
            expected=f"a series with {uids} and instance UIDs in every slice",
            remedy=f"Use {instead}, or export the series again with all of its headers.",
        ) from error


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

    `numbers` are indices of the slices in the stack.
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


# 3D Slicer shows this code by its older name, Morphologically Altered Structure.
FINDING_CATEGORY = codes.SCT.MorphologicallyAbnormalStructure
FINDING = codes.SCT.Nodule
FINDING_SITE = codes.SCT.Lung
ALGORITHM_FAMILY = codes.cid7162.ArtificialIntelligence
# Longest text of a label or meaning in DICOM (LO): characters by the standard, bytes by dciodvfy.
_LONGEST_TEXT = 64


@dataclass(frozen=True)
class TrackedNodule:
    """A nodule as every object names it: tracking identifier and tracking UID."""

    name: str
    uid: str


@dataclass(frozen=True)
class Identity:
    """The names of the objects of one prediction.

    Attributes:
        model: The model, for the algorithm's parameters.
        seed: What the UIDs of the objects are derived from.
    """

    model: str
    nodules: tuple[TrackedNodule, ...]
    seed: str

    def uid(self, kind: str) -> str:
        """The UID of an object or series of a kind: the same in a second run, so that an archive keeps one copy."""
        return uid(f"{self.seed}/{kind}")


def identify(prediction: "CtPrediction", class_codes: Mapping[str, ClassCode]) -> Identity:
    """Derive the UIDs of a prediction's objects.

    Those of the objects depend on the series, the model, the version of this program, the class codes, the warnings'
    codes, and of each nodule on its name, its given centre, how often the centre moved, whether the model found it, and
    the solid threshold; where the model's digest is not known, also on its output. The tracking UID of a nodule depends
    on the series, its given centre and the model.
    """
    served = f"{prediction.source.get('model_name', '')}/{prediction.model_version}"
    source = f"{prediction.volume.series}/{prediction.model_sha256 or served}"
    nodules, known = [], Counter[str]()
    for number, nodule in enumerate(prediction.nodules, start=1):
        key = f"{source}/{_key(nodule.given_center_mm_lps)}"
        known[key] += 1
        nodules.append(TrackedNodule(dicom_text(nodule.name) or f"nodule {number}", uid(f"{key}/{known[key]}")))
    digest = prediction.model_sha256
    content = [
        (nodule.name, nodule.moves, nodule.mask is None, nodule.measurements and nodule.measurements.solid_hu)
        for nodule in prediction.nodules
    ]
    warnings = (prediction.warnings, *(nodule.warnings for nodule in prediction.nodules))
    warned = [[warning.code for warning in each] for each in warnings]
    outputs = [] if digest else [_output_digest(nodule) for nodule in prediction.nodules]
    tracking = [nodule.uid for nodule in nodules]
    seed = (source, __version__, sorted(class_codes.items()), tracking, content, warned, outputs)
    model = f"version {prediction.model_version}" + (f", SHA-256 {digest}" if digest else "")
    return Identity(model, tuple(nodules), f"{MAKER}/{seed}")


def dicom_text(text: str) -> str:
    """Text as a value of DICOM (LO): no control characters, no backslash, which separates values, and not too long."""
    printable = "".join(" " if unicodedata.category(letter).startswith("C") else letter for letter in text)
    return printable.replace("\\", "/").strip().encode()[:_LONGEST_TEXT].decode(errors="ignore").strip()


def _output_digest(nodule: "NodulePrediction") -> str:
    """SHA-256 of what the model predicts about a nodule."""
    values = (nodule.probabilities, nodule.spread, nodule.prediction_set, nodule.typicality)
    digest = hashlib.sha256(repr(values).encode())
    if nodule.mask is not None:
        digest.update(repr((nodule.mask.GetSize(), nodule.mask.GetOrigin())).encode())
        digest.update(sitk.GetArrayViewFromImage(nodule.mask).tobytes())
    return digest.hexdigest()


def _key(center_mm_lps: Vector) -> str:
    # 0 and -0 are one centre.
    return "/".join(f"{value + 0.0:.2f}" for value in (round(value, 2) for value in center_mm_lps))
