"""Scores of out-of-fold predictions: each score's mean over the folds, with an interval over the patients.

A fold's score compares predictions of one model with each other. Pooled over folds, those of different models are
compared, whose probabilities are not on one scale. The interval is of the mean: in each replicate patients are drawn
within each fold, each fold is scored again, and the mean is taken. It does not contain the variation over trainings.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics import bootstrap
from ggn_tf.evaluation.statistics.bootstrap import Resampling, resample
from ggn_tf.evaluation.statistics.mask_measures import MASK_COLUMNS
from ggn_tf.evaluation.statistics.predictions_table import (
    FOLD,
    check_predictions,
    probabilities,
    probability_columns,
    probability_names,
    table_classes,
)
from ggn_tf.evaluation.statistics.run_scores import Scores, StageScores
from ggn_tf.evaluation.statistics.score_records import BaselineComparison, FoldScore, PooledAuc
from ggn_tf.evaluation.statistics.scores import (
    class_indices,
    estimate_of,
    few_patients_reasons,
    gives_probabilities,
    resampled_class_auc,
    resampled_scores,
    score_set,
    score_values,
)

COMPARED = "auc"

Values = dict[str, tuple[float | None, str | None]]


class _Scored(NamedTuple):
    """The score that is compared: None with a reason where undefined, and on resampled nodules [B]."""

    value: float | None
    reason: str | None
    resampled: np.ndarray


def resample_in_folds(rows: pd.DataFrame, replicates: int, seed: int) -> Resampling:
    """Draw patients with replacement, within each fold where the rows have folds."""
    folds = rows[FOLD].to_numpy(dtype=np.int64) if FOLD in rows else None
    return resample(rows["patient"].to_numpy(dtype=str), replicates, seed, folds)


def fold_values(rows: pd.DataFrame) -> Values:
    """Each score's mean over the folds, or the score of rows without folds; None with a reason where undefined."""
    if FOLD not in rows:
        return score_values(rows)
    by_fold = {int(str(fold)): score_values(part) for fold, part in rows.groupby(FOLD)}
    return {metric: _mean_value(metric, by_fold) for metric in next(iter(by_fold.values()))}


def resampled_in_folds(
    rows: pd.DataFrame,
    weights: np.ndarray,
    score: Callable[[pd.DataFrame, np.ndarray], dict[str, np.ndarray]] = resampled_scores,
) -> dict[str, np.ndarray]:
    """Means over the folds [B] on resampled nodules with the count of each [B, N]; of rows without folds `score`'s."""
    if FOLD not in rows:
        return score(rows, weights)
    folds = rows[FOLD].to_numpy()
    by_fold = [score(rows[folds == fold], weights[:, folds == fold]) for fold in np.unique(folds)]
    return {metric: np.mean([scores[metric] for scores in by_fold], axis=0) for metric in by_fold[0]}


def score_folds(frame: pd.DataFrame, class_names: tuple[str, ...], seed: int, replicates: int) -> Scores:
    """The mean over the folds of every score, with its interval.

    Takes out-of-fold predictions of one run, with the column `fold`.

    Raises:
        PredictionsError: The table is wrong.
    """
    scored = score_set(check_predictions(frame), class_names, partial(_score_stage, seed=seed, replicates=replicates))
    return Scores({"test": scored}, replicates, seed, bootstrap.LEVEL)


def scores_by_fold(frame: pd.DataFrame) -> list[FoldScore]:
    """Every score of every fold, stage by stage."""
    return [
        FoldScore(str(stage), int(str(fold)), len(part), int(part["patient"].nunique()), metric, *value)
        for stage, rows in frame.groupby("stage", sort=False)
        for fold, part in rows.groupby(FOLD)
        for metric, value in score_values(part).items()
        if metric != "dice" or value[0] is not None
    ]


def score_pooled(frame: pd.DataFrame, seed: int, replicates: int) -> list[PooledAuc]:
    """The AUC of every stage that classifies, on the nodules of all folds together."""
    pooled = []
    for stage, rows in frame.groupby("stage", sort=False):
        if gives_probabilities(rows):
            resampling = resample_in_folds(rows, replicates, seed)
            resampled = resampled_class_auc(class_indices(rows)[0], probabilities(rows), resampling.weights)
            value, reason = score_values(rows)[COMPARED]
            reason = reason or few_patients_reasons(rows, [COMPARED]).get(COMPARED)
            found = estimate_of(COMPARED, value, reason, resampled, resampling)
            pooled.append(PooledAuc(str(stage), found.value, found.low, found.high, found.reason))
    return pooled


def compare_baselines(
    frame: pd.DataFrame, baselines: Mapping[str, pd.DataFrame], seed: int, replicates: int
) -> list[BaselineComparison]:
    """Compare the last stage that classifies with baselines on the same nodules, by the AUC's mean over the folds.

    Also compares the combination of both with the baseline alone. Takes out-of-fold predictions, and those of
    each baseline by its name.

    Raises:
        PredictionsError: A baseline has other nodules, folds or labels.
    """
    classified = [rows for _, rows in frame.groupby("stage", sort=False) if gives_probabilities(rows)]
    if not classified:
        return []
    rows = _sorted(classified[-1])
    resampling = resample_in_folds(rows, replicates, seed)
    system = _scored(rows, resampling)
    compared = []
    for name, other in baselines.items():
        baseline = _sorted(other)
        if not baseline[_IDENTITY].equals(rows[_IDENTITY]):
            raise PredictionsError(
                "A baseline has other nodules than the cross-validation.",
                case=name,
                found=f"{len(baseline)} nodules",
                expected=f"the {len(rows)} nodules of the cross-validation in the same folds",
                remedy="Repeat the evaluation.",
            )
        combined = _scored(combine(rows, baseline), resampling)
        stage = str(rows["stage"].iloc[0])
        compared.append(_compare(name, stage, system, combined, _scored(baseline, resampling), resampling))
    return compared


def combine(rows: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The rows with the geometric mean of their probabilities and those of others, of the same nodules in their order.

    It is divided by its sum over the classes (logarithmic opinion pool; Genest and Zidek 1986, Statistical Science
    1:114). Of two classes it is the mean of the logits, so nothing is fitted. A probability counts as at least 1e-7:
    none is so certain that the other does not matter.
    """
    root = np.sqrt(np.maximum(probabilities(rows), 1e-7) * np.maximum(probabilities(other), 1e-7))
    return rows.assign(**probability_columns(root / root.sum(axis=1, keepdims=True), table_classes(rows)))


_IDENTITY = [FOLD, "case", "patient", "label"]


def _sorted(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values([FOLD, "case"], ignore_index=True)


def _score_stage(rows: pd.DataFrame, seed: int, replicates: int) -> StageScores:
    resampling = resample_in_folds(rows, replicates, seed)
    values, resampled = fold_values(rows), resampled_in_folds(rows, resampling.weights)
    few = few_patients_reasons(rows, values)
    return StageScores(
        **{
            name: estimate_of(name, value, reason or few.get(name), resampled[name], resampling)
            for name, (value, reason) in values.items()
        }
    )


def _mean_value(metric: str, by_fold: Mapping[int, Values]) -> tuple[float | None, str | None]:
    values: Sequence[float | None] = [scores[metric][0] for scores in by_fold.values()]
    undefined = next((fold for fold, scores in by_fold.items() if scores[metric][0] is None), None)
    if undefined is not None:
        return None, f"fold {undefined}: {by_fold[undefined][metric][1]}"
    return float(np.mean(np.array(values, np.float64))), None


def _scored(rows: pd.DataFrame, resampling: Resampling) -> _Scored:
    resampled = resampled_in_folds(rows, resampling.weights, _resampled_auc)
    return _Scored(*fold_values(rows)[COMPARED], resampled[COMPARED])


def _resampled_auc(rows: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
    return {COMPARED: resampled_class_auc(class_indices(rows)[0], probabilities(rows), weights)}


def _difference(scored: _Scored, baseline: _Scored, resampling: Resampling) -> tuple[float | None, ...]:
    """The difference, both ends of its interval, and its p value."""
    if scored.value is None or baseline.value is None:
        return None, None, None, None
    drawn = scored.resampled - baseline.resampled
    low, high = resampling.difference_interval(drawn) or (None, None)
    return scored.value - baseline.value, low, high, resampling.p_value(drawn)


def _compare(
    name: str, stage: str, system: _Scored, combined: _Scored, baseline: _Scored, resampling: Resampling
) -> BaselineComparison:
    low, high = (None if baseline.value is None else resampling.interval(baseline.resampled)) or (None, None)
    difference, difference_low, difference_high, p = _difference(system, baseline, resampling)
    added, added_low, added_high, added_p = _difference(combined, baseline, resampling)
    return BaselineComparison(
        model=name,
        stage=stage,
        metric=COMPARED,
        value=baseline.value,
        low=low,
        high=high,
        difference=difference,
        difference_low=difference_low,
        difference_high=difference_high,
        p=p,
        reason=baseline.reason or system.reason,
        added=added,
        added_low=added_low,
        added_high=added_high,
        added_p=added_p,
    )


_KEY = ["split", "stage", "case"]


def out_of_fold(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join the test rows of all folds, averaged over the members of a fold.

    Probabilities are averaged. So are Dice and the measurements of the masks, which are not those of a mean mask; what
    one of the members does not have is empty.

    Args:
        frames: The predictions table of each training; `split` is the number of its fold, `repeat` of its member.

    Returns:
        A checked predictions table of one run (set `test`, `split` and `repeat` 1) with the column `fold`: one row per
        nodule and stage, stage by stage in the order of the folds.

    Raises:
        PredictionsError: A nodule is in the test sets of two folds, or the members of a fold have different nodules.
    """
    rows = pd.concat([frame[frame["set"] == "test"] for frame in frames], ignore_index=True)
    joined = average_members(rows, _KEY, rows["repeat"].nunique())
    stages = pd.CategoricalDtype(joined["stage"].unique().tolist(), ordered=True)
    joined = joined.astype({"stage": stages}).sort_values(["stage", "split", "case"]).astype({"stage": str})
    joined = joined.assign(**{FOLD: joined["split"]}).assign(split=1, repeat=1)[[*rows.columns, FOLD]]
    return check_predictions(joined.reset_index(drop=True))


def average_members(rows: pd.DataFrame, key: list[str], members: int) -> pd.DataFrame:
    """The first row of each key, with the means over so many members; empty where one of them has no number."""
    numbers = [*probability_names(table_classes(rows)), "dice", *(name for name in MASK_COLUMNS if name in rows)]
    grouped = rows.groupby(key, sort=False)[numbers]
    mean = grouped.mean().where(grouped.count() == members)
    return rows.drop_duplicates(key, ignore_index=True).drop(columns=numbers).join(mean, on=key)
