"""Structured reports (TID 1500) with graphics, in the form in which OHIF stores measurements."""

from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

COMPREHENSIVE_3D = "1.2.840.10008.5.1.4.1.1.88.34"
GROUP, TRACKING, LENGTH, REGION = "125007", "112039", "410668003", "111030"
OHIF_LENGTH = "Cornerstone3DTools@^0.1.0:Length"


def item(kind: str, code: str | None = None, children: Sequence[Dataset] = (), **values: object) -> Dataset:
    made = Dataset()
    made.RelationshipType, made.ValueType = "CONTAINS", kind
    if code is not None:
        made.ConceptNameCodeSequence = [Dataset()]
        made.ConceptNameCodeSequence[0].CodeValue = code
        made.ConceptNameCodeSequence[0].CodingSchemeDesignator = "SCT" if code == LENGTH else "DCM"
    if children:
        made.ContentSequence = list(children)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def in_image(
    kind: str, numbers: Sequence[float], image: str, frame: int | None = None, code: str | None = None
) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", image
    if frame is not None:
        reference.ReferencedFrameNumber = frame
    picture = item("IMAGE", ReferencedSOPSequence=[reference])
    return item("SCOORD", code, [picture], GraphicType=kind, GraphicData=list(numbers))


def in_patient(kind: str, numbers: Sequence[float], frame_of_reference: str, code: str | None = None) -> Dataset:
    return item(
        "SCOORD3D", code, GraphicType=kind, GraphicData=list(numbers), ReferencedFrameOfReferenceUID=frame_of_reference
    )


def group(*graphics: Dataset, name: str = OHIF_LENGTH) -> Dataset:
    """A measurement group: each graphic below a length of its own, as OHIF stores them, image regions by themselves."""
    measured = [
        graphic if "ConceptNameCodeSequence" in graphic else item("NUM", LENGTH, [graphic]) for graphic in graphics
    ]
    return item("CONTAINER", GROUP, [item("TEXT", TRACKING, TextValue=name), *measured])


def write_marks(path: Path, *groups: Dataset, sop_class: str = COMPREHENSIVE_3D, series: str = "2.25.21") -> Path:
    """Write a report of these measurement groups, whose patient is DOE^JOHN."""
    report = item("CONTAINER", "126000", [item("CONTAINER", "126010", groups)])
    report.SOPClassUID, report.SOPInstanceUID, report.Modality = sop_class, "2.25.22", "SR"
    report.PatientName, report.SeriesInstanceUID = "DOE^JOHN", series
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.save_as(path, enforce_file_format=True)
    return path
