"""Locations of nodules that a DICOM report or segmentation marks on a CT."""

import warnings
from pathlib import Path

from ggn_tf.cases.dicom.folder import scan_series
from ggn_tf.cases.dicom.series import SeriesQuery
from ggn_tf.errors import GgnWarning
from ggn_tf.pacs.points import MarkedNodule, read_points
from ggn_tf.prediction.ct_patches import in_reader
from ggn_tf.prediction.locations import Location, Mask, Point


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
    nodules, notes = in_reader(Path(ct), _read, Path(file), Path(ct), series, repair)
    for note in notes:
        warnings.warn(note, GgnWarning, stacklevel=2)
    return [
        Mask(file, nodule.segment, nodule.name)
        if nodule.center_mm_lps is None
        else Point(*nodule.center_mm_lps, name=nodule.name)
        for nodule in nodules
    ]


def _read(file: Path, ct: Path, series: str | None, repair: bool) -> tuple[list[MarkedNodule], list[str]]:
    stack, _ = scan_series(ct, SeriesQuery(series), repair=repair)
    with warnings.catch_warnings(record=True) as notes:
        nodules = read_points(file, stack.slices)
    return nodules, [str(note.message) for note in notes]
