"""Scores of a run (paper section 3.3) with patient-bootstrap intervals, from its predictions table."""

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, matthews_corrcoef, roc_auc_score

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics import bootstrap
from ggn_tf.evaluation.statistics.bootstrap import draw_weights, percentile_interval
from ggn_tf.evaluation.statistics.predictions_table import (
    EXTERNAL,
    PREDICTED_SETS,
    RUN_KEY,
    check_predictions,
    probabilities,
    table_classes,
)
from ggn_tf.evaluation.statistics.run_scores import Estimate, Scores, SetScores, SiteDifference, StageScores

SCORED_SETS = tuple(name for name in PREDICTED_SETS if name != "train")
REPLICATES = 2000


def confusion(frame: pd.DataFrame) -> np.ndarray:
    """The confusion matrix, int64 [C, C], of rows with probabilities; its rows are true classes, as in Fig. 4."""
    label, predicted = class_indices(frame)
    matrix: np.ndarray = confusion_matrix(label, predicted, labels=np.arange(len(table_classes(frame))))
    return matrix


def class_indices(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The true and the most probable class of each row, int64 [N] both; the first of equally probable classes."""
    classes = table_classes(frame)
    label = frame["label"].map({name: index for index, name in enumerate(classes)}).to_numpy(dtype=np.int64)
    return label, probabilities(frame).argmax(axis=1)


def gives_probabilities(frame: pd.DataFrame) -> bool:
    """Whether the rows of a stage have probabilities; those of the stage `segment` have none."""
    return not bool(np.isnan(probabilities(frame)).any())


def gives_dice(frame: pd.DataFrame) -> bool:
    """Whether the rows of a stage have a Dice; those of a model without a segmenter have none."""
    return not bool(frame["dice"].isna().any())


def score_predictions(
    frame: pd.DataFrame, class_names: tuple[str, ...], seed: int = 0, replicates: int = REPLICATES
) -> Scores:
    """Score one run on its validation set, its test set and, where it was predicted, another site's set.

    Every score has the bias-corrected and accelerated interval of the patient bootstrap at 95 %.

    Raises:
        PredictionsError: The table is wrong, of other classes, or of several runs.
    """
    checked = check_predictions(frame)
    _check_one_run(checked, class_names)
    by_set = {
        name: _score_set(checked[checked["set"] == name], class_names, seed, replicates)
        for name in SCORED_SETS
        if (checked["set"] == name).any()
    }
    return Scores(by_set, replicates, seed, bootstrap.LEVEL)


def score_values(frame: pd.DataFrame) -> dict[str, tuple[float | None, str | None]]:
    """The scores of one stage on one set, from scikit-learn, in the order of `METRICS`; None with its reason."""
    dice = (float(frame["dice"].mean()), None) if gives_dice(frame) else (None, "the model gives no mask")
    return {**(_classification_values(frame) if gives_probabilities(frame) else {}), "dice": dice}


def resampled_scores(frame: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The scores [B] of one stage on resampled nodules, with the count of each row [B, N]; NaN where undefined."""
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
            remedy="Score each of them separately.",
        )


def _score_set(frame: pd.DataFrame, class_names: tuple[str, ...], seed: int, replicates: int) -> SetScores:
    nodules = frame.drop_duplicates("case")
    return SetScores(
        nodules=len(nodules),
        patients=int(nodules["patient"].nunique()),
        nodules_by_class={name: int((nodules["label"] == name).sum()) for name in class_names},
        stages={str(stage): _score_stage(rows, seed, replicates) for stage, rows in frame.groupby("stage", sort=False)},
    )


def _score_stage(frame: pd.DataFrame, seed: int, replicates: int) -> StageScores:
    resampling = bootstrap.resample(frame["patient"].to_numpy(dtype=str), replicates, seed)
    resampled = resampled_scores(frame, resampling.weights)
    return StageScores(
        **{
            name: _estimate(value, reason, resampled[name], resampling)
            for name, (value, reason) in score_values(frame).items()
        }
    )


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


def _estimate(
    value: float | None, reason: str | None, resampled: np.ndarray, resampling: bootstrap.Resampling
) -> Estimate:
    if value is None:
        return Estimate(None, reason=reason)
    left_out = int(np.isnan(resampling.drawn(resampled)).sum())
    interval = resampling.interval(resampled)
    if interval is None:
        return Estimate(value, reason=resampling.no_interval_reason(resampled), left_out=left_out)
    return Estimate(value, *interval, left_out=left_out)


def differences(frame: pd.DataFrame, seed: int, replicates: int) -> list[SiteDifference]:
    """External scores minus test scores, with intervals over the patients, drawn separately, of both sites."""
    rows = []
    for stage, part in frame.groupby("stage", sort=False):
        sites = [part[part["set"] == name] for name in ("test", EXTERNAL)]
        if any(site.empty for site in sites):
            # A small split can have no test nodule of the task.
            continue
        patients = min(int(site["patient"].nunique()) for site in sites)
        values = [score_values(site) for site in sites]
        drawn = [
            resampled_scores(site, draw_weights(site["patient"].to_numpy(dtype=str), replicates, seed + number))
            for number, site in enumerate(sites)
        ]
        for metric in values[0]:
            test, external = (value[metric][0] for value in values)
            spread = drawn[1][metric] - drawn[0][metric]
            spread = spread[~np.isnan(spread)]
            if test is None or external is None or spread.size == 0:
                continue
            low, high = percentile_interval(spread, patients)
            rows.append(SiteDifference(str(stage), metric, test, external, external - test, low, high))
    return rows
