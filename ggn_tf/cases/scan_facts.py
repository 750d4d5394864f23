"""What a scan's headers say about the patient, the day and the acquisition, for the comparison of two scans."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pydicom

from ggn_tf.cases.volumes import Volume

DATES = ("AcquisitionDate", "SeriesDate", "StudyDate")
"""In the order in which they are used: series and study may begin on another day than the scan."""
_DATE = re.compile(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})", re.ASCII)
# The first CT of a patient was in 1971; programs that remove dates write 1900 or 1970.
_FIRST_YEAR = 1971


@dataclass(frozen=True)
class ScanFacts:
    """What is readable; an empty text or None for what is not, as in every volume file.

    Attributes:
        dates: By the attribute's name, those of `DATES` that are days on which there was CT.
        sex: `M` or `F`.
        slice_spacing_mm: The distance of the slices, which volume files have too.
        contrast_agent: Whether one was given.
    """

    dates: Mapping[str, date]
    patient_id: str
    sex: str
    birth_date: date | None
    frame_of_reference: str
    kernel: str
    slice_thickness_mm: float | None
    slice_spacing_mm: float
    tube_voltage_kv: float | None
    contrast_agent: bool | None


def read_scan_facts(volume: Volume) -> ScanFacts:
    """Read the headers of a CT's first slice; a volume file has only the distance of its slices."""
    spacing_mm = volume.grid.spacing_mm_xyz[2]
    if volume.stack is None:
        return ScanFacts({}, "", "", None, "", "", None, spacing_mm, None, None)
    first = volume.stack.slices[0]
    tags = ("SeriesDate", "StudyDate", "PatientSex", "PatientBirthDate")
    header = pydicom.dcmread(first.path, stop_before_pixels=True, specific_tags=list(tags), force=True)
    known = {**dict(first.acquisition), **{tag: _text(header, tag) for tag in tags}}
    known.setdefault("AcquisitionDate", known.get("AcquisitionDateTime", "")[:8])
    days = {name: _day(known.get(name, "")) for name in DATES}
    birth = _day(known["PatientBirthDate"], first_year=1)
    return ScanFacts(
        dates={name: day for name, day in days.items() if day is not None},
        patient_id=first.patient.strip(),
        sex=known["PatientSex"] if known["PatientSex"] in ("M", "F") else "",
        birth_date=birth,
        frame_of_reference=known.get("FrameOfReferenceUID", ""),
        kernel=known.get("ConvolutionKernel", "").strip(),
        slice_thickness_mm=_positive(known.get("SliceThickness", "")),
        slice_spacing_mm=spacing_mm,
        tube_voltage_kv=_positive(known.get("KVP", "")),
        contrast_agent=volume.contrast_agent,
    )


def _text(header: pydicom.Dataset, tag: str) -> str:
    try:
        value: Any = header.get(tag)
    except Exception:  # whatever pydicom raises on a value that it cannot convert
        return ""
    return "" if value is None else str(value).strip()


def _day(text: str, first_year: int = _FIRST_YEAR) -> date | None:
    """A date in DICOM's form, or in that of its predecessor, with points."""
    found = _DATE.fullmatch(text.strip())
    try:
        day = date(*map(int, found.groups())) if found else None
    except ValueError:
        return None
    return day if day is not None and day.year >= first_year else None


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None
