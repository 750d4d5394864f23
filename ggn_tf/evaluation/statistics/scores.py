"""Scores of a run (paper section 3.3), each with its patient-bootstrap interval, from the predictions table alone."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, matthews_corrcoef, roc_auc_score

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics import bootstrap
from ggn_tf.evaluation.statistics.predictions_table import (
    EXTERNAL,
    RUN_KEY,
    check_predictions,
    probabilities,
    table_classes,
)

SCORED_SETS = ("validation", "test", EXTERNAL)
REPLICATES = 2000
METRICS = ("accuracy", "average_f1", "mcc", "auc", "dice")


def confusion(frame: pd.DataFrame) -> np.ndarray:
    """The confusion matrix of rows that have probabilities.

    Args:
        frame: Rows of one stage and set.

    Returns:
        int64 [C, C]; element (i, j) counts nodules of class i that were taken for class j, as in the paper's Fig. 4.
    """
    label, predicted = class_indices(frame)
    matrix: np.ndarray = confusion_matrix(label, predicted, labels=np.arange(len(table_classes(frame))))
    return matrix


def class_indices(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The true and the most probable class of each row, int64 [N] both; of equal probabilities the first counts."""
    classes = table_classes(frame)
    label = frame["label"].map({name: index for index, name in enumerate(classes)}).to_numpy(dtype=np.int64)
    return label, probabilities(frame).argmax(axis=1)


def gives_probabilities(frame: pd.DataFrame) -> bool:
    """Whether the rows of a stage have probabilities: the stage `segment` gives none."""
    return not bool(np.isnan(probabilities(frame)).any())


def gives_dice(frame: pd.DataFrame) -> bool:
    """Whether the rows of a stage have a Dice: a model without a segmenter gives none."""
    return not bool(frame["dice"].isna().any())


def score_predictions(
    frame: pd.DataFrame, class_names: tuple[str, ...], seed: int = 0, replicates: int = REPLICATES
) -> dict[str, Any]:
    """Score one run.

    Accuracy; `average_f1`, weighted by each class's number of nodules; `mcc`, the multi-class R_K statistic; `auc` of
    the second class against the first, where there are two; the mean `dice`. The interval is the patient
    bootstrap's at 95 %, bias-corrected and accelerated.

    Args:
        frame: The predictions of one model, split and repeat.
        class_names: The task's, in the order of the outputs.
        seed: Of the bootstrap.
        replicates: Of the bootstrap.

    Returns:
        JSON types: `{"validation": ..., "test": {"joint": {"accuracy": {"value", "low", "high"}, ...}}, "counts":
        {"test": {"nodules", "patients", "classes"}}, "bootstrap": ...}`. The level of the stages is absent where there
        is one. An undefined value is None beside a `reason`; `left_out` counts replicates without a value, if any.

    Raises:
        PredictionsError: The table is wrong, of other classes, or of several runs.
    """
    checked = check_predictions(frame)
    _check_one_run(checked, class_names)
    scored = {name: checked[checked["set"] == name] for name in SCORED_SETS if (checked["set"] == name).any()}
    stages = list(dict.fromkeys(checked["stage"]))
    scores: dict[str, Any] = {}
    for set_name, part in scored.items():
        levels = {stage: _score_stage(part[part["stage"] == stage], seed, replicates) for stage in stages}
        scores[set_name] = levels if len(stages) > 1 else levels[stages[0]]
    return {
        **scores,
        "counts": {set_name: _counts(part, class_names) for set_name, part in scored.items()},
        "bootstrap": {
            **{"unit": "patient", "interval": "BCa"},
            **{"replicates": replicates, "seed": seed, "level": bootstrap.LEVEL},
        },
    }


def score_values(frame: pd.DataFrame) -> dict[str, tuple[float | None, str | None]]:
    """The scores of one run's stage and set, from scikit-learn.

    Args:
        frame: Its rows.

    Returns:
        For each score that the rows could have, in the order of `METRICS`, its value, or None and the reason.
    """
    dice = (float(frame["dice"].mean()), None) if gives_dice(frame) else (None, "the model gives no mask")
    return {**(_classification_values(frame) if gives_probabilities(frame) else {}), "dice": dice}


def resampled_scores(frame: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The same scores on resampled sets of nodules.

    Args:
        frame: Rows of one run's stage and set.
        weights: How often each row counts [B, N].

    Returns:
        For each score [B]; NaN where it is undefined.
    """
    dice = {"dice": bootstrap.resampled_mean(frame["dice"].to_numpy(dtype=np.float64), weights)}
    if not gives_probabilities(frame):
        return dice
    classes = len(table_classes(frame))
    label, predicted = class_indices(frame)
    matrices = bootstrap.resampled_confusion(label, predicted, classes, weights)
    scores = {
        "accuracy": bootstrap.resampled_accuracy(matrices),
        "average_f1": bootstrap.resampled_average_f1(matrices),
        "mcc": bootstrap.resampled_mcc(matrices),
    }
    if classes == 2:
        scores["auc"] = bootstrap.resampled_auc(label == 1, probabilities(frame)[:, 1], weights)
    return {**scores, **dice}


def stage_scores(scores: dict[str, Any], set_name: str, stages: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The scores of a set, for each stage, whether or not `score_predictions` left the level out."""
    part: dict[str, Any] = scores[set_name]
    return part if len(stages) > 1 else {stages[0]: part}


def _check_one_run(frame: pd.DataFrame, class_names: tuple[str, ...]) -> None:
    if table_classes(frame) != class_names:
        raise PredictionsError(
            "The predictions are of another task.",
            found="classes " + ", ".join(table_classes(frame)),
            expected="classes " + ", ".join(class_names) + ", in this order",
            remedy="Evaluate the predictions that belong to the run.",
        )
    runs = frame[RUN_KEY].drop_duplicates()
    if len(runs) > 1:
        raise PredictionsError(
            "The predictions are of several runs.",
            found=f"{len(runs)} combinations of model, split and repeat",
            expected="one model, split and repeat",
            remedy="Score each of them by itself.",
        )


def _counts(frame: pd.DataFrame, class_names: tuple[str, ...]) -> dict[str, Any]:
    nodules = frame.drop_duplicates("case")
    classes = {name: int((nodules["label"] == name).sum()) for name in class_names}
    return {"nodules": len(nodules), "patients": int(nodules["patient"].nunique()), "classes": classes}


def _score_stage(frame: pd.DataFrame, seed: int, replicates: int) -> dict[str, Any]:
    resampling = bootstrap.resample(frame["patient"].to_numpy(dtype=str), replicates, seed)
    values = score_values(frame)
    resampled = resampled_scores(frame, resampling.weights)
    return {name: _entry(value, resampled[name], resampling, reason) for name, (value, reason) in values.items()}


def _classification_values(frame: pd.DataFrame) -> dict[str, tuple[float | None, str | None]]:
    label, predicted = class_indices(frame)
    one_class = f"all nodules are {frame['label'].iloc[0]}" if len(np.unique(label)) == 1 else None
    values: dict[str, tuple[float | None, str | None]] = {
        "accuracy": (float(accuracy_score(label, predicted)), None),
        "average_f1": (float(f1_score(label, predicted, average="weighted", zero_division=0.0)), None),
        "mcc": (None if one_class else float(matthews_corrcoef(label, predicted)), one_class),
    }
    if len(table_classes(frame)) == 2:
        auc = None if one_class else float(roc_auc_score(label == 1, probabilities(frame)[:, 1]))
        values["auc"] = (auc, one_class)
    return values


def _entry(
    value: float | None, resampled: np.ndarray, resampling: bootstrap.Resampling, reason: str | None
) -> dict[str, Any]:
    interval = None if value is None else resampling.interval(resampled)
    low, high = interval or (None, None)
    entry: dict[str, Any] = {"value": value, "low": low, "high": high}
    left_out = int(np.isnan(resampling.drawn(resampled)).sum())
    if value is None:
        return {**entry, "reason": reason}
    if interval is None:
        entry["reason"] = resampling.without_interval(resampled)
    return {**entry, "left_out": left_out} if left_out else entry
