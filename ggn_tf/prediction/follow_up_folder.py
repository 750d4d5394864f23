"""The folder that a follow-up is written to: record, masks, overlays and page, whole or not at all."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.prediction.output_folder import OutputFolder
from ggn_tf.prediction.overlay import draw_overlay

if TYPE_CHECKING:
    # TensorFlow comes with it, and a folder that cannot be written to is rejected before that is loaded.
    from ggn_tf.prediction.follow_up import FollowedNodule, FollowUp

GROWTH_FILE, PAGE_FILE = "growth.json", "growth.html"
_SCANS = ("earlier", "later")
_FILES = frozenset({PAGE_FILE, *(f"{scan}{end}" for scan in _SCANS for end in (".png", "_mask.nii.gz"))})
_FOLDER = OutputFolder("follow-up", GROWTH_FILE, _FILES)
refuse_foreign_folder = _FOLDER.refuse_foreign


def write_follow_up(
    follow_up: "FollowUp", folder: Path, keep_ids: bool = False, shared: bool = False
) -> dict[str, Any]:
    """Write a follow-up; an earlier one is replaced as a whole.

    Arguments as of `FollowUp.write`.

    Returns:
        The content of growth.json.

    Raises:
        GgnError: The folder cannot be written.
    """
    from ggn_tf.prediction.follow_up_page import write_growth_page

    result = follow_up.to_dict(keep_ids)
    with _FOLDER.replaced(folder, shared) as fresh:
        for scan, nodule in zip(_SCANS, (follow_up.earlier, follow_up.later), strict=True):
            result["files"][f"{scan}_overlay"] = f"{scan}.png"
            draw_overlay(fresh / f"{scan}.png", f"{scan} scan", nodule.block, nodule.mask, nodule.center_mm_lps)
            result["files"][f"{scan}_mask"] = _write_mask(nodule, fresh / f"{scan}_mask.nii.gz")
        result["files"]["page"] = PAGE_FILE
        write_growth_page(follow_up, result, fresh / PAGE_FILE)
        (fresh / GROWTH_FILE).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return result


def _write_mask(nodule: "FollowedNodule", path: Path) -> str | None:
    """The mask on the CT's own grid, to be corrected and given in its place."""
    if nodule.mask is None:
        return None
    grid = nodule.volume.grid
    labels = np.zeros(grid.size_xyz[::-1], np.uint8)
    box = grid.block_of(Grid.from_image(nodule.mask))
    if box is None:
        raise ValueError("a mask that is not on its CT's grid")
    labels[box.slices_zyx] = sitk.GetArrayViewFromImage(nodule.mask)
    sitk.WriteImage(nodule.volume.stored_image(labels), str(path), useCompression=True)
    return path.name
