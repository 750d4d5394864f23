"""Scores of a run (paper section 3.3) with patient-bootstrap intervals, from its predictions table."""

from collections.abc import Callable, Iterable
from functools import partial

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

# Of the scores in `METRICS`, which compare classes, and which count nodules.
NEED_CLASSES, PROPORTIONS = ("mcc", "auc"), ("accuracy",)
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
    score_stage = partial(_score_stage, seed=seed, replicates=replicates)
    by_set = {
        name: score_set(checked[checked["set"] == name], class_names, score_stage)
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
    scores["auc"] = resampled_class_auc(label, probabilities(frame), weights)
    return {**scores, **dice}


def resampled_class_auc(label: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC [B] of the second class, or of more than two classes the mean of each against the rest (macro average)."""
    classes = probability.shape[1]
    judged = [1] if classes == 2 else range(classes)
    areas = [bootstrap.resampled_auc(label == index, probability[:, index], weights) for index in judged]
    mean: np.ndarray = np.mean(areas, axis=0)
    return mean


def few_patients_reasons(frame: pd.DataFrame, metrics: Iterable[str]) -> dict[str, str]:
    """Why scores of one stage on one set have no interval and no p value: too few patients, in all or of a class."""
    patients = int(frame["patient"].nunique())
    if patients < bootstrap.LEAST_PATIENTS:
        return dict.fromkeys(metrics, bootstrap.few_patients(patients))
    rare = few_in_class(frame)
    return dict.fromkeys((name for name in metrics if name in NEED_CLASSES), rare) if rare else {}


def few_in_class(frame: pd.DataFrame) -> str | None:
    """The reason where a class of the task has nodules of fewer than five patients."""
    counts = {name: int(frame.loc[frame["label"] == name, "patient"].nunique()) for name in table_classes(frame)}
    rarest = min(counts, key=lambda name: counts[name])
    if counts[rarest] >= bootstrap.LEAST_IN_CLASS:
        return None
    return f"{counts[rarest]} patients with {rarest}, fewer than {bootstrap.LEAST_IN_CLASS}, so there is no interval"


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


def score_set(
    frame: pd.DataFrame, class_names: tuple[str, ...], score_stage: Callable[[pd.DataFrame], StageScores]
) -> SetScores:
    """The size of a set, and the scores of each of its stages as `score_stage` computes them from its rows."""
    nodules = frame.drop_duplicates("case")
    return SetScores(
        nodules=len(nodules),
        patients=int(nodules["patient"].nunique()),
        nodules_by_class={name: int((nodules["label"] == name).sum()) for name in class_names},
        stages={str(stage): score_stage(rows) for stage, rows in frame.groupby("stage", sort=False)},
    )


def _score_stage(frame: pd.DataFrame, seed: int, replicates: int) -> StageScores:
    resampling = bootstrap.resample(frame["patient"].to_numpy(dtype=str), replicates, seed)
    resampled, values = resampled_scores(frame, resampling.weights), score_values(frame)
    few = few_patients_reasons(frame, values)
    return StageScores(
        **{
            name: estimate_of(name, value, reason or few.get(name), resampled[name], resampling)
            for name, (value, reason) in values.items()
        }
    )


def _classification_values(frame: pd.DataFrame) -> dict[str, tuple[float | None, str | None]]:
    label, predicted = class_indices(frame)
    classes = table_classes(frame)
    one_class = f"all nodules are {frame['label'].iloc[0]}" if len(np.unique(label)) == 1 else None
    absent = [name for name in classes if not bool((frame["label"] == name).any())]
    no_auc = one_class or (f"no nodule is {absent[0]}" if absent else None)
    values: dict[str, tuple[float | None, str | None]] = {
        "accuracy": (float(accuracy_score(label, predicted)), None),
        "average_f1": (float(f1_score(label, predicted, average="weighted", zero_division=0.0)), None),
        "mcc": (None if one_class else float(matthews_corrcoef(label, predicted)), one_class),
    }
    values["auc"] = (None if no_auc else _auc(label, probabilities(frame)), no_auc)
    return values


def _auc(label: np.ndarray, probability: np.ndarray) -> float:
    if probability.shape[1] == 2:
        return float(roc_auc_score(label == 1, probability[:, 1]))
    return float(np.mean([roc_auc_score(label == index, scores) for index, scores in enumerate(probability.T)]))


def estimate_of(
    name: str, value: float | None, reason: str | None, resampled: np.ndarray, resampling: bootstrap.Resampling
) -> Estimate:
    """A score with its interval, from its values on resampled nodules; none where there is a reason against it."""
    if value is None or reason is not None:
        return Estimate(value, reason=reason)
    left_out = resampling.left_out(resampled)
    interval = resampling.interval(resampled, proportion_of=resampling.patients if name in PROPORTIONS else None)
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
            few = [few_patients_reasons(site, [metric]) for site in sites]
            low, high = (None, None) if any(few) else percentile_interval(spread, patients)
            rows.append(SiteDifference(str(stage), metric, test, external, external - test, low, high))
    return rows
