"""Locations of nodules that a DICOM report or segmentation marks on a CT."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ggn_tf.cases.dicom.folder import scan_series
from ggn_tf.cases.dicom.mask_references import reference_rank
from ggn_tf.cases.dicom.series import SeriesQuery
from ggn_tf.errors import GgnWarning, LocationError
from ggn_tf.pacs.points import read_points
from ggn_tf.prediction.ct_patches import in_reader
from ggn_tf.prediction.locations import Location, Mask, Point


@dataclass(frozen=True)
class DicomPoints:
    """What a DICOM object marks on a CT series.

    Attributes:
        locations: The nodules; none after an error.
        notes: What was left out.
        rank: How the object references the series, see `reference_rank`.
        error: Why it cannot be used.
    """

    locations: Sequence[Location]
    notes: Sequence[str]
    rank: int
    error: LocationError | None = None


def read_dicom_points(
    file: str | Path, ct: str | Path, *, series: str | None = None, repair: bool = False
) -> list[Location]:
    """The nodules that a DICOM SR (TID 1500) or SEG marks, for example a length that OHIF saved.

    Args:
        file: The SR, of which each measurement group is a nodule, or the SEG, of which each segment is one.
        ct: The DICOM folder of the CT.
        series: SeriesInstanceUID of the CT, where the folder contains several.
        repair: Whether slices with a gantry tilt or non-uniform spacing are accepted.

    Raises:
        LocationError: The file is damaged, marks nothing on the CT, or marks a point outside it.
        VolumeError: The folder contains no such CT.
    """
    (points,) = read_several([file], ct, series=series, repair=repair)
    if points.error is not None:
        raise points.error
    for note in points.notes:
        warnings.warn(note, GgnWarning, stacklevel=2)
    return [*points.locations]


def read_several(
    files: Sequence[str | Path], ct: str | Path, *, series: str | None = None, repair: bool = False
) -> list[DicomPoints]:
    """As `read_dicom_points`, of several files; the CT is scanned once.

    Raises:
        VolumeError: The folder contains no such CT.
    """
    return in_reader(Path(ct), _read, [*files], Path(ct), series, repair)


def _read(files: list[str | Path], ct: Path, series: str | None, repair: bool) -> list[DicomPoints]:
    slices = scan_series(ct, SeriesQuery(series), repair=repair)[0].slices
    found = []
    for file in files:
        rank = reference_rank(Path(file), slices)
        with warnings.catch_warnings(record=True) as caught:
            try:
                nodules = read_points(Path(file), slices)
            except LocationError as error:
                found.append(DicomPoints((), (), rank, error))
                continue
        locations = [
            Mask(file, nodule.segment, nodule.name)
            if nodule.center_mm_lps is None
            else Point(*nodule.center_mm_lps, name=nodule.name, ras=False)
            for nodule in nodules
        ]
        found.append(DicomPoints(locations, [str(note.message) for note in caught], rank))
    return found
