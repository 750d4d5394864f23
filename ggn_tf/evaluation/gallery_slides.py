"""Selection of the gallery's nodules, with the masks and Grad-CAM of the run's models (paper Fig. 6)."""

from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd

from ggn_tf.dataset.pipeline import normalise_hu
from ggn_tf.dataset.records import Dataset, read_patches_uint8
from ggn_tf.evaluation.grad_cam import explain_patches
from ggn_tf.evaluation.statistics.joint_changes import paired_stages
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.scores import class_indices, gives_dice, gives_probabilities
from ggn_tf.models.names import SEGMENTATION
from ggn_tf.protocol import MASK_THRESHOLD
from ggn_tf.runs.run_folder import RunFolder

CASES = 24
_AT_ONCE = 8

GAINED, LOST = "joint training raised its class score", "joint training lowered its class score"
WRONG, WORST_MASK, CORRECT = "confident wrong prediction", "low Dice", "confident correct prediction"


@dataclass(frozen=True)
class Slides:
    """A nodule as the gallery shows it.

    Attributes:
        case_id: Its id in the dataset.
        reason: Why it was chosen.
        gray: uint8 [S, S, S], z, y, x, Hounsfield units in the method's window.
        reference: bool [S, S, S].
        masks: Mask of each stage that changes the segmenter, bool [S, S, S].
        heat: float32 [S, S, S] in [0, 1], Grad-CAM for the prediction of the last stage; None without a classifier.
    """

    case_id: str
    reason: str
    gray: np.ndarray
    reference: np.ndarray
    masks: dict[str, np.ndarray]
    heat: np.ndarray | None


def choose_cases(rows: pd.DataFrame, count: int = CASES) -> dict[str, str]:
    """Choose the most informative nodules by a rule.

    In turns: the largest rise of the true class's probability by joint training, its largest fall, the most confident
    wrong prediction, the lowest Dice. Without joint training the most confident correct prediction replaces the first
    two. Ties are broken by case id. A nodule is shown once, under the first reason that chose it.

    Args:
        rows: One run's predictions on one set.
        count: Largest number of nodules.

    Returns:
        For each case the reason, in the order of choice.
    """
    queues = {reason: list(order.sort_index().sort_values(kind="stable").index) for reason, order in _orders(rows)}
    chosen: dict[str, str] = {}
    while any(queues.values()) and len(chosen) < count:
        for reason, queue in queues.items():
            case = next((case for case in queue if case not in chosen), None)
            queue[:] = queue[queue.index(case) + 1 :] if case is not None else []
            if case is not None and len(chosen) < count:
                chosen[case] = reason
    return chosen


def collect_slides(run: RunFolder, dataset: Dataset, rows: pd.DataFrame, chosen: dict[str, str]) -> list[Slides]:
    """Compute masks and Grad-CAM of the chosen cases with the run's models.

    Args:
        run: The run.
        dataset: Its dataset.
        rows: Its predictions on the set of the cases.
        chosen: From `choose_cases`.

    Raises:
        RunError: A stage's model cannot be read.
        DatasetError: A case's patch is damaged.
    """
    if not chosen:
        return []
    hu, reference = read_patches_uint8(dataset, list(chosen))
    low, high = dataset.protocol.window_hu
    patch = np.asarray(normalise_hu(hu, (low, high)))
    segmenting, last = _segmenting(rows), _last_classified(rows)
    masks: dict[str, np.ndarray] = {}
    heat = None
    # One model at a time, each loaded once.
    for stage in dict.fromkeys([*segmenting, *([] if last is None else [str(last["stage"].iloc[0])])]):
        model = run.load_model(stage)
        if stage in segmenting:
            masks[stage] = _masks(model, patch)
        if last is not None and stage == last["stage"].iloc[0]:
            predicted = pd.Series(class_indices(last)[1], index=pd.Index(last["case"]))[list(chosen)]
            heat = explain_patches(model, patch, reference.astype(np.float32), predicted.to_numpy())
    gray = np.rint((patch[..., 0] + 1) * 127.5).astype(np.uint8)
    return [
        Slides(
            case_id=case,
            reason=reason,
            gray=gray[index],
            reference=reference[index, ..., 0] > 0,
            masks={stage: mask[index] for stage, mask in masks.items()},
            heat=None if heat is None else heat[index],
        )
        for index, (case, reason) in enumerate(chosen.items())
    ]


def _orders(rows: pd.DataFrame) -> list[tuple[str, "pd.Series[float]"]]:
    """For each reason one number per case; the smallest comes first."""
    orders: list[tuple[str, pd.Series[float]]] = []
    pair = paired_stages(rows)
    last = _last_classified(rows)
    if last is not None:
        label, predicted = class_indices(last)
        probability = probabilities(last)
        cases = pd.Index(last["case"])
        true_class = pd.Series(probability[np.arange(len(last)), label], index=cases)
        highest = pd.Series(probability.max(axis=1), index=cases)
        if pair is not None:
            change = pair.changes.set_index("case")["score_change"]
            orders += [(GAINED, -change[change > 0]), (LOST, change[change < 0])]
        else:
            orders += [(CORRECT, -true_class[predicted == label])]
        orders += [(WRONG, -highest[predicted != label])]
    segmented = [part for _, part in rows.groupby("stage", sort=False) if gives_dice(part)]
    if segmented:
        orders += [(WORST_MASK, segmented[-1].set_index("case")["dice"])]
    return orders


def _last_classified(rows: pd.DataFrame) -> pd.DataFrame | None:
    parts = [part for _, part in rows.groupby("stage", sort=False) if gives_probabilities(part)]
    return parts[-1] if parts else None


def _segmenting(rows: pd.DataFrame) -> list[str]:
    """The first and the last stage with masks: those between repeat the first one's, whose segmenter is frozen."""
    stages = [str(stage) for stage, part in rows.groupby("stage", sort=False) if gives_dice(part)]
    return list(dict.fromkeys([stages[0], stages[-1]])) if stages else []


def _masks(model: keras.Model, patch: np.ndarray) -> np.ndarray:
    """The segmenter's masks, bool [N, S, S, S], a few patches at a time to limit memory."""
    network = next((layer for layer in model.layers if layer.name == SEGMENTATION), model)
    parts = [network(patch[start : start + _AT_ONCE], training=False) for start in range(0, len(patch), _AT_ONCE)]
    soft = np.concatenate([part["mask"] if isinstance(part, dict) else part for part in parts])
    mask: np.ndarray = soft[..., 0] >= MASK_THRESHOLD
    return mask
