"""The folder that a prediction is written to: result, masks, overlays and page, whole or not at all."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.mask_references import result_series
from ggn_tf.cases.geometry.grid import SAME_GRID_MM, Grid
from ggn_tf.cases.volume_files.headers import read_header
from ggn_tf.errors import GgnError, VolumeError
from ggn_tf.prediction.class_codes import ClassCode
from ggn_tf.prediction.ct_patches import in_reader
from ggn_tf.prediction.output_folder import OutputFolder
from ggn_tf.prediction.overlay import draw_overlay
from ggn_tf.prediction.patch_warnings import NO_DECISION, PredictionWarning

if TYPE_CHECKING:
    # TensorFlow comes with it, and a folder that cannot be written to is rejected before that is loaded.
    from ggn_tf.prediction.nodules import CtPrediction

_Result = TypeVar("_Result")

RESULT_FILE = "result.json"
MASK_FILE = "nodule_mask.nii.gz"
SEGMENTATION_FILE = "nodule_mask.seg.dcm"
REPORT_FILE = "nodules.sr.dcm"
VOLUMETRIC_REPORT_FILE = "nodules_volumetric.sr.dcm"
OVERLAYS = "overlays"
PAGE_FILE = "answer.html"
_NAMES = {MASK_FILE, SEGMENTATION_FILE, REPORT_FILE, VOLUMETRIC_REPORT_FILE, OVERLAYS, PAGE_FILE}
_FOLDER = OutputFolder(
    "result", RESULT_FILE, frozenset(_NAMES), {OVERLAYS: re.compile(r"nodule-\d{3,}\.png", re.ASCII)}
)
refuse_foreign_folder = _FOLDER.refuse_foreign
_ON_SLICES = PredictionWarning(
    "segmentation_on_slices",
    "The DICOM SEG is on the series' own slices, which are not parallel, aligned and uniformly spaced. Programs that "
    f"assume that they are, 3D Slicer among them, show it out of place; {MASK_FILE} is in its place everywhere.",
)


def write_results(
    prediction: "CtPrediction",
    folder: Path,
    keep_ids: bool = False,
    shared: bool = False,
    class_codes: Mapping[str, ClassCode] | None = None,
    volumetric: bool = False,
) -> dict[str, Any]:
    """Write everything that is known about the nodules; an earlier result is replaced as a whole.

    Arguments as of `CtPrediction.write`; its masks become one label map in NIfTI and, on a DICOM series, also a DICOM
    SEG with a DICOM SR.

    Returns:
        The content of result.json.

    Raises:
        GgnError: The folder cannot be written, or contains the result of another CT.
    """
    refuse_other_ct(folder, Grid.from_image(prediction.labels), prediction.volume.series)
    with _FOLDER.replaced(folder, shared) as fresh:
        sitk.WriteImage(prediction.labels, str(fresh / MASK_FILE), useCompression=True)
        objects, warnings = _write_dicom(prediction, fresh, class_codes or {}, volumetric)
        known = prediction.to_dict(keep_ids)
        result = {
            **known,
            "mask": MASK_FILE,
            **objects,
            "overlays": _draw_overlays(prediction, fresh / OVERLAYS),
            "page": PAGE_FILE,
            "warnings": [*known["warnings"], *(warning.to_dict() for warning in warnings)],
        }
        # Imported here: the page's template engine is worth it only where something is written.
        from ggn_tf.prediction.answer_page import write_answer

        write_answer(prediction, result, datetime.now(UTC).date(), fresh / PAGE_FILE)
        (fresh / RESULT_FILE).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def refuse_other_ct(folder: Path, grid: Grid, series: str | None = None) -> None:
    """Raise GgnError where a folder cannot be replaced by a result on a grid, whatever the order of the axes.

    `series` is the CT's SeriesInstanceUID; an earlier DICOM SEG or SR of another series is refused, too.
    """
    refuse_foreign_folder(folder)
    earlier = _read_earlier(folder / MASK_FILE, read_header)
    if earlier is not None and not _same_box(earlier, grid):
        raise _other_ct(
            folder, "a CT in another place or of another extent", f"a mask on {earlier}", f"a result on {grid}"
        )
    # Without a nodule a result has no SEG.
    objects = (SEGMENTATION_FILE, REPORT_FILE) if series else ()
    known = {uid for name in objects for uid in _read_earlier(folder / name, result_series) or ()}
    if known and series not in known:
        raise _other_ct(
            folder, "another DICOM series", f"a result of series {', '.join(sorted(known))}", f"series {series}"
        )


def _read_earlier(path: Path, read: Callable[[Path], _Result]) -> _Result | None:
    # A pipe would be waited for, and a link leads to a file that is not ours.
    if path.is_symlink() or not path.is_file():
        return None
    try:
        return in_reader(path, read, path)
    except (GgnError, OSError, MemoryError):
        return None


def _same_box(earlier: Grid, later: Grid) -> bool:
    before, after = (
        np.stack([corners.min(axis=0), corners.max(axis=0)])
        for corners in (earlier.corners_mm_lps(), later.corners_mm_lps())
    )
    return np.allclose(before, after, rtol=0, atol=SAME_GRID_MM)


def _other_ct(folder: Path, what: str, found: str, expected: str) -> GgnError:
    return GgnError(
        f"The folder contains the result of {what}.",
        case=folder,
        found=found,
        expected=f"{expected}, or a folder that does not exist or is empty",
        remedy="Name another folder, or delete this one if it is of the same CT.",
        arguments=("output",),
    )


def _write_dicom(
    prediction: "CtPrediction", folder: Path, class_codes: Mapping[str, ClassCode], volumetric: bool
) -> tuple[dict[str, str | None], list[PredictionWarning]]:
    """SEG and SR of a DICOM series, by their names in the result, and why one of them is missing."""
    volume = prediction.volume
    objects: dict[str, str | None] = {"segmentation": None, "structured_report": None, "volumetric_report": None}
    if volume.stack is None:
        return objects, []
    # Imported here: half a second that only a DICOM series is worth.
    from ggn_tf.prediction.dicom_headers import identify
    from ggn_tf.prediction.dicom_seg_writer import write_segmentation
    from ggn_tf.prediction.dicom_sr_writer import write_planar_report, write_volumetric_report

    identity = identify(prediction, class_codes)
    warnings: list[PredictionWarning] = []

    def attempt(name: str, file: str, write: Callable[[Path], None]) -> bool:
        try:
            write(folder / file)
        except VolumeError as error:
            (folder / file).unlink(missing_ok=True)
            warnings.append(PredictionWarning(f"no_{name}", f"{error.what} {error.found}"))
            return False
        objects[name] = file
        return True

    if not np.any(sitk.GetArrayViewFromImage(prediction.labels)):
        warnings.append(PredictionWarning("no_segmentation", f"No DICOM SEG: {NO_DECISION}."))
    elif attempt(
        "segmentation", SEGMENTATION_FILE, lambda path: write_segmentation(volume, prediction.labels, identity, path)
    ):
        warnings += [_ON_SLICES] if volume.positions else []
    reported = (prediction, class_codes, identity)
    attempt("structured_report", REPORT_FILE, lambda path: write_planar_report(*reported, path))
    if volumetric and objects["segmentation"] is not None:
        segmentation = folder / SEGMENTATION_FILE
        attempt(
            "volumetric_report",
            VOLUMETRIC_REPORT_FILE,
            lambda path: write_volumetric_report(*reported, path, segmentation),
        )
    return objects, warnings


def _draw_overlays(prediction: "CtPrediction", folder: Path) -> list[str]:
    folder.mkdir()
    names = []
    for number, nodule in enumerate(prediction.nodules, start=1):
        title = f"{number} {nodule.name}, {nodule.decision or NO_DECISION}"
        names.append(f"nodule-{number:03d}.png")
        # Through the given location: a mask that leaks would draw its own centroid along.
        draw_overlay(folder / names[-1], title, nodule.block, nodule.mask, nodule.center_mm_lps)
    return [f"{OVERLAYS}/{name}" for name in names]
