"""The CTs and masks in a folder of any layout."""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.bounds import find_overrun
from ggn_tf.cases.dicom.folder import is_dicom
from ggn_tf.cases.dicom.mask_references import STRUCTURE_SET, DicomReferences, read_references
from ggn_tf.cases.dicom.plain_header import read_plain_header
from ggn_tf.cases.geometry.grid import Box
from ggn_tf.cases.reader_process import ReaderEndedError, run_in_reader
from ggn_tf.cases.volume_files.headers import read_information
from ggn_tf.cases.volume_files.nifti import is_nifti
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import GgnError

_VOLUMES = (".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd")
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7", STRUCTURE_SET)
_SOP_CLASS, _MODALITY, _SERIES, _PATIENT, _KIND = "0008|0016", "0008|0060", "0020|000e", "0010|0020", "0008|0008"
_TAGS = frozenset((_SOP_CLASS, _MODALITY, _SERIES, _PATIENT, _KIND))
# A slice of a chest CT has lung or air; a slice of a label map has few values, none of them negative.
_AIR_BELOW_HU, _MOST_LABELS = -200.0, 32


class Skipped(NamedTuple):
    """A file that is not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class FoundCt:
    """A CT.

    Attributes:
        path: A volume file, or the folder of a DICOM series.
        series: SeriesInstanceUID; None of a volume file.
        patient: PatientID of the headers; empty where there is none.
    """

    path: Path
    series: str | None = None
    patient: str = ""


@dataclass(frozen=True)
class FoundMask:
    """A file with segments, and what its header states of its CT; None for formats other than DICOM."""

    path: Path
    references: DicomReferences | None = None


@dataclass(frozen=True)
class FolderContents:
    """What a folder contains: its CTs and masks in the order of their paths, and image files that are neither."""

    cts: list[FoundCt] = field(default_factory=list)
    masks: list[FoundMask] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def scan_folder(folder: Path) -> FolderContents:
    """Find the CTs and masks in a folder and below it. Links are not followed, hidden files are ignored.

    A volume file is a mask if it is a segmentation of 3D Slicer, has 8-bit voxels, or has few values and none below
    -200 HU in its middle slice; it is a CT if it has values below.

    Raises:
        OSError: The folder cannot be read.
    """
    contents = FolderContents()
    slices: defaultdict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in _files(folder):
        if path.name.lower().endswith(_VOLUMES):
            _add_volume(contents, path)
        elif is_dicom(path):
            _add_dicom(contents, slices, path)
    for (series, patient), paths in slices.items():
        contents.cts.append(FoundCt(Path(os.path.commonpath([path.parent for path in paths])), series, patient))
    contents.cts.sort(key=lambda ct: (ct.path, ct.series or ""))
    return contents


def _files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file(follow_symlinks=False) and entry.name.upper() != "DICOMDIR":
            yield Path(entry.path)


def _add_volume(contents: FolderContents, path: Path) -> None:
    try:
        kind = run_in_reader(_volume_kind, path)
    except (GgnError, OSError, ReaderEndedError) as error:
        contents.skipped.append(Skipped(path, error.what if isinstance(error, GgnError) else str(error)))
        return
    if kind == "mask":
        contents.masks.append(FoundMask(path))
    elif kind == "ct":
        contents.cts.append(FoundCt(path))
    else:
        contents.skipped.append(Skipped(path, "neither Hounsfield units nor labels in its middle slice"))


def _volume_kind(path: Path) -> str:
    """`mask`, `ct`, or `other`."""
    if path.name.lower().endswith(".seg.nrrd"):
        return "mask"
    if not is_nifti(path) and read_information(path).GetPixelID() in (sitk.sitkUInt8, sitk.sitkInt8):
        return "mask"
    volume = open_volume(path)
    width, height, depth = volume.grid.size_xyz
    values = sitk.GetArrayFromImage(volume.read(Box((0, 0, depth // 2), (width, height, 1))))
    if values.min() < _AIR_BELOW_HU:
        return "ct"
    return "mask" if values.min() >= 0 and len(np.unique(values)) <= _MOST_LABELS else "other"


def _add_dicom(contents: FolderContents, slices: defaultdict[tuple[str, str], list[Path]], path: Path) -> None:
    tags = read_plain_header(path, _TAGS)
    if tags is None:
        try:
            tags = _read_tags(path)
        except Exception as error:  # see `errors_as`
            contents.skipped.append(Skipped(path, f"a damaged DICOM file: {str(error).splitlines()[0]}"))
            return
    if tags.get(_SOP_CLASS) in _SEGMENTATIONS:
        contents.masks.append(FoundMask(path, read_references(path)))
    elif tags.get(_MODALITY) == "CT" and "LOCALIZER" not in tags.get(_KIND, ""):
        slices[tags.get(_SERIES, ""), tags.get(_PATIENT, "")].append(path)


def _read_tags(path: Path) -> dict[str, str]:
    overrun = find_overrun(path)
    if overrun is not None:
        raise ValueError(overrun)
    numbers = {name: int(name.replace("|", ""), 16) for name in _TAGS}
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(numbers.values()))
    values = {name: header[number].value for name, number in numbers.items() if number in header}
    return {name: "\\".join(map(str, v)) if isinstance(v, list) else str(v or "").strip() for name, v in values.items()}
