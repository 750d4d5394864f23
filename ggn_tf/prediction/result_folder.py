"""The folder that answers are written to: result, masks and overlays, whole or not at all."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.volumes import Volume
from ggn_tf.errors import GgnError, VolumeError
from ggn_tf.files import replaced_folder
from ggn_tf.prediction.overlay import draw_overlay
from ggn_tf.prediction.patch_warnings import PredictionWarning

if TYPE_CHECKING:
    # TensorFlow comes with it, and a folder that cannot be written to is refused before that is loaded.
    from ggn_tf.prediction.nodules import CtPrediction

RESULT_FILE = "result.json"
MASK_FILE = "nodule_mask.nii.gz"
SEGMENTATION_FILE = "nodule_mask.seg.dcm"
OVERLAYS = "overlays"
_DISPLACED = PredictionWarning(
    "segmentation_on_slices",
    "The DICOM SEG lies on the series' own slices, as they stand. Programs that take slices to be straight and even, "
    f"3D Slicer among them, show it out of place; {MASK_FILE} is in its place everywhere.",
)
_OURS = {RESULT_FILE, MASK_FILE, SEGMENTATION_FILE, OVERLAYS}


def refuse_foreign_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier answer, before any work is done.

    Raises:
        GgnError: It is a file, or holds something that this module did not write.
    """
    if not folder.exists():
        return
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else {"a file"}
    if not folder.is_dir() or found - _OURS or (found and RESULT_FILE not in found):
        raise GgnError(
            "The answer cannot be written.",
            case=folder,
            found=", ".join(sorted(found)[:5]),
            expected="a folder that does not exist, is empty, or holds an earlier answer",
            remedy="Name another folder with -o.",
        )


def write_results(answers: "CtPrediction", volume: Volume, document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write everything that is known about the nodules; an earlier answer is replaced as a whole.

    Args:
        answers: Their masks become one label map in NIfTI and, on a DICOM series, also a DICOM SEG.
        volume: The CT.
        document: What result.json says besides the files.
        folder: Made where it does not exist.

    Returns:
        The content of result.json.

    Raises:
        GgnError: The folder cannot be written.
    """
    refuse_foreign_folder(folder)
    try:
        with replaced_folder(folder) as fresh:
            sitk.WriteImage(answers.labels, str(fresh / MASK_FILE), useCompression=True)
            segmentation, warnings = _write_segmentation(answers, volume, fresh)
            _draw_overlays(answers, fresh / OVERLAYS)
            told = {
                **document,
                "mask": MASK_FILE,
                "segmentation": segmentation,
                "overlays": sorted(f"{OVERLAYS}/{path.name}" for path in (fresh / OVERLAYS).iterdir()),
                "warnings": [warning.to_dict() for warning in warnings],
            }
            (fresh / RESULT_FILE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    except (OSError, RuntimeError) as error:
        raise GgnError(
            "The answer cannot be written.", case=folder, found=error, remedy="Name another folder with -o."
        ) from error
    return told


def _write_segmentation(
    answers: "CtPrediction", volume: Volume, folder: Path
) -> tuple[str | None, list[PredictionWarning]]:
    """A DICOM SEG where the CT is a DICOM series and there is a nodule to write."""
    if volume.stack is None:
        return None, []
    if not np.any(sitk.GetArrayViewFromImage(answers.labels)):
        return None, [PredictionWarning("no_segmentation", "No DICOM SEG: no nodule was found.")]
    # Imported here: half a second that only a DICOM series is worth.
    from ggn_tf.prediction.dicom_seg_writer import write_segmentation

    names = [nodule.name for nodule in answers.nodules]
    model = f"version {answers.model_version}"
    try:
        write_segmentation(volume, answers.labels, names, folder / SEGMENTATION_FILE, model)
    except VolumeError as error:
        (folder / SEGMENTATION_FILE).unlink(missing_ok=True)
        return None, [PredictionWarning("no_segmentation", f"{error.what} {error.found}")]
    return SEGMENTATION_FILE, [_DISPLACED] if volume.course else []


def _draw_overlays(answers: "CtPrediction", folder: Path) -> None:
    folder.mkdir()
    for number, nodule in enumerate(answers.nodules, start=1):
        title = f"{number} {nodule.name}, {nodule.decision}"
        # Through the point that was asked about: a mask that runs away would draw its own centroid along.
        path = folder / f"nodule-{number:03d}.png"
        draw_overlay(path, title, nodule.block, nodule.mask, nodule.center_mm_lps)
