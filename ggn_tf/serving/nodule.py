"""One nodule: its patch to the model, and the answer in the CT's own terms."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.patches import Patch, paste_mask
from ggn_tf.errors import GgnError
from ggn_tf.files import whole_file
from ggn_tf.serving.messages import Prediction

MASK_FILE = "nodule_mask.nii.gz"
RESULT_FILE = "result.json"
_THRESHOLD = 0.5


@dataclass(frozen=True)
class NoduleAnswer:
    """What the model says of one nodule.

    Attributes:
        probabilities: By class name, in the order of the task.
        mask: uint8, 0 or 1, on the CT's own grid.
        volume_mm3: Of `mask`.
        touches_edge: The predicted nodule reaches the patch's edge, and may go on beyond it.
        center_mm_lps: The patch's centre.
        model_version: The version that answered.
    """

    probabilities: dict[str, float]
    mask: sitk.Image
    volume_mm3: float
    touches_edge: bool
    center_mm_lps: tuple[float, float, float]
    model_version: int

    @property
    def decision(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without the mask's voxels."""
        return {
            "decision": self.decision,
            "probabilities": self.probabilities,
            "nodule_volume_mm3": self.volume_mm3,
            "nodule_touches_patch_edge": self.touches_edge,
            "center_mm_lps": list(self.center_mm_lps),
            "model_version": self.model_version,
        }


def ask(patch: Patch, predict: Callable[[np.ndarray], Prediction]) -> NoduleAnswer:
    """Ask a model about a nodule.

    Args:
        patch: As cut from the CT.
        predict: `PredictionClient.predict` or `LocalModel.predict`.
    """
    prediction = predict(patch.hu[None, ..., None])
    probability_zyx = prediction.mask[0, ..., 0]
    mask = paste_mask(probability_zyx, patch.grid, patch.ct_grid, _THRESHOLD)
    voxels = int(np.count_nonzero(sitk.GetArrayViewFromImage(mask)))
    inner = probability_zyx[1:-1, 1:-1, 1:-1] >= _THRESHOLD
    return NoduleAnswer(
        probabilities=dict(zip(prediction.class_names, prediction.probabilities[0].tolist(), strict=True)),
        mask=mask,
        volume_mm3=voxels * float(np.prod(patch.ct_grid.spacing_mm_xyz)),
        touches_edge=bool(np.count_nonzero(probability_zyx >= _THRESHOLD) > np.count_nonzero(inner)),
        center_mm_lps=patch.center_mm_lps,
        model_version=prediction.model_version,
    )


def write_answer(answer: NoduleAnswer, document: dict[str, Any], folder: Path) -> None:
    """Write the predicted mask and the result; the result last, so that it never speaks of a mask that is not there.

    Args:
        answer: Its mask is written as NIfTI.
        document: The content of result.json.
        folder: Made where it does not exist; an earlier answer in it is replaced.

    Raises:
        GgnError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
            written = Path(scratch) / MASK_FILE
            sitk.WriteImage(answer.mask, str(written), useCompression=True)
            written.replace(folder / MASK_FILE)
        with whole_file(folder / RESULT_FILE) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except (OSError, RuntimeError) as error:
        raise GgnError(
            "The answer cannot be written.", case=folder, found=error, remedy="Name another folder with -o."
        ) from error
