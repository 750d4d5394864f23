"""What a DICOM mask's header states about the CT that it was drawn on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from ggn_tf.cases.dicom.bounds import read_without_pixels
from ggn_tf.cases.dicom.slices import Slice

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_PATIENT_AND_FRAME = ["PatientID", "FrameOfReferenceUID"]


@dataclass(frozen=True)
class DicomReferences:
    """Identifiers in a mask's header; empty where it states none.

    Attributes:
        series: SeriesInstanceUIDs of referenced series.
        frames: FrameOfReferenceUIDs.
        patient: PatientID.
        structure_set: Whether the file is an RTSTRUCT.
    """

    series: frozenset[str] = frozenset()
    frames: frozenset[str] = frozenset()
    patient: str = ""
    structure_set: bool = False

    @property
    def only_series(self) -> str | None:
        """The series, if the header names exactly one."""
        return next(iter(self.series)) if len(self.series) == 1 else None

    def differences(self, ct_slice: Slice) -> tuple[str, ...]:
        """What the mask references and the CT is not, as nouns; without the identifiers, which name patients."""
        header = pydicom.dcmread(ct_slice.path, stop_before_pixels=True, specific_tags=_PATIENT_AND_FRAME)
        frame, patient = _text(header, "FrameOfReferenceUID"), _text(header, "PatientID")
        differences = {
            "series": self.series and ct_slice.series not in self.series,
            "frame of reference": self.frames and frame and frame not in self.frames,
            "patient": self.patient and patient and patient != self.patient,
        }
        return tuple(name for name, different in differences.items() if different)


def read_references(path: Path) -> DicomReferences:
    """The references of a segmentation or structure set; none if it is damaged, which is reported where it is read."""
    try:
        header = read_without_pixels(path)
        series = {_text(item, "SeriesInstanceUID") for item in _referenced_series(header)}
        frames = {_text(item, "FrameOfReferenceUID") for item in (header, *_items(header, _FRAMES))}
        regions = _items(header, "StructureSetROISequence")
        frames |= {_text(region, "ReferencedFrameOfReferenceUID") for region in regions}
        structure_set = _text(header, "SOPClassUID") == STRUCTURE_SET
        return DicomReferences(
            frozenset(series - {""}), frozenset(frames - {""}), _text(header, "PatientID"), structure_set
        )
    except Exception:  # see `errors_as`
        return DicomReferences()


def result_series(path: Path) -> set[str]:
    """The SeriesInstanceUIDs that a DICOM SEG or SR references, by its list of studies where it has one."""
    header = read_without_pixels(path)
    studies = _items(header, _EVIDENCE) or [header]
    series = (item for study in studies for item in _items(study, _SERIES))
    return {_text(item, "SeriesInstanceUID") for item in series} - {""}


def reference_rank(path: Path, slices: Sequence[Slice]) -> int:
    """How a segmentation or report references a series or its instances.

    Returns:
        2 by its content or its list of series, 1 elsewhere, 0 not at all.
    """
    wanted = {slices[0].series, *(item.uid for item in slices)}
    try:
        header = read_without_pixels(path)
        for rank, names in ((2, _CONTENT), (1, _ELSEWHERE)):
            elements = (element for name in names for item in _items(header, name) for element in item.iterall())
            if any(element.VR == "UI" and str(element.value) in wanted for element in elements):
                return rank
    except Exception:  # see `errors_as`
        return 0
    return 0


_SERIES = "ReferencedSeriesSequence"
_EVIDENCE = "CurrentRequestedProcedureEvidenceSequence"
_CONTENT = ("ContentSequence", _SERIES)
_ELSEWHERE = (_EVIDENCE, "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_FRAMES = "ReferencedFrameOfReferenceSequence"


def _referenced_series(header: Dataset) -> Iterator[Dataset]:
    yield from _items(header, _SERIES)
    for frame in _items(header, _FRAMES):
        for study in _items(frame, "RTReferencedStudySequence"):
            yield from _items(study, "RTReferencedSeriesSequence")


def _items(dataset: Dataset, name: str) -> list[Dataset]:
    return list(dataset.get(name) or ())


def _text(dataset: Dataset, name: str) -> str:
    return str(dataset.get(name) or "").strip()
