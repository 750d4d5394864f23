"""Scores of perturbed inputs beside the unperturbed ones, on the same nodules, from a table of predictions."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields, replace

import numpy as np
import pandas as pd

from ggn_tf.evaluation.statistics.bootstrap import Resampling, resampled_mean
from ggn_tf.evaluation.statistics.folds import fold_values, resample_in_folds, resampled_in_folds
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.score_records import (
    AUC,
    CHANGED,
    DICE,
    RETEST_METRICS,
    UNPERTURBED,
    Perturbation,
    RetestScore,
)
from ggn_tf.evaluation.statistics.scores import (
    class_indices,
    few_patients_reasons,
    gives_dice,
    gives_probabilities,
    resampled_class_auc,
)

PERTURBATION_COLUMNS = tuple(field.name for field in fields(Perturbation))
_EQUAL = 1e-12


def with_perturbation(rows: pd.DataFrame, perturbation: Perturbation) -> pd.DataFrame:
    """The rows, with the columns that name a perturbation."""
    return rows.assign(**dict(zip(PERTURBATION_COLUMNS, astuple(perturbation), strict=True)))


def score_retest(retested: pd.DataFrame, seed: int, replicates: int) -> tuple[RetestScore, ...]:
    """Score every perturbation, and compare it with the unperturbed input.

    Of rows with the column `fold`, Dice and AUC are means over the folds.

    Dice and AUC have the interval of `Resampling.interval`, their differences that of `difference_interval`. The share
    of changed predictions is a proportion: of none or all nodules its interval is exact, over patients.

    Args:
        retested: One row per perturbation and nodule: `case`, `patient`, `label`, `PERTURBATION_COLUMNS`, `p_<class>`
            for each class and `dice`, NaN where the stage has none. The unperturbed rows are among them.
        seed: Seed of the bootstrap.
        replicates: Number of bootstrap replicates.

    Returns:
        The scores that the stage has, perturbation by perturbation in the order of the table.
    """
    grouped = retested.groupby(list(PERTURBATION_COLUMNS), sort=False)
    parts = {_perturbation_of(rows): rows.sort_values("case", ignore_index=True) for _, rows in grouped}
    unperturbed = parts[UNPERTURBED]
    resampling = resample_in_folds(unperturbed, replicates, seed)
    few = few_patients_reasons(unperturbed, RETEST_METRICS)
    before = _values(unperturbed, unperturbed, resampling.weights)
    scores: list[RetestScore] = []
    for perturbation, rows in parts.items():
        found = before if perturbation == UNPERTURBED else _values(rows, unperturbed, resampling.weights)
        scores += _compare(perturbation, found, before, few, resampling)
    return tuple(scores)


def _perturbation_of(rows: pd.DataFrame) -> Perturbation:
    kind, amount, axes, recentred = rows[list(PERTURBATION_COLUMNS)].iloc[0].tolist()
    return Perturbation(kind, float(amount), axes, bool(recentred))


@dataclass(frozen=True)
class _Value:
    """A score with its values on resampled nodules [1 + B + P]; None with a reason."""

    value: float | None
    reason: str | None
    resampled: np.ndarray


def _values(rows: pd.DataFrame, unperturbed: pd.DataFrame, weights: np.ndarray) -> dict[str, _Value]:
    found, resampled = fold_values(rows), resampled_in_folds(rows, weights, _resampled)
    values = {metric: _Value(*found[metric], drawn) for metric, drawn in resampled.items()}
    if AUC in values:
        changed = (class_indices(rows)[1] != class_indices(unperturbed)[1]).astype(np.float64)
        values[CHANGED] = _Value(float(changed.mean()), None, resampled_mean(changed, weights))
    return values


def _resampled(rows: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
    drawn = {}
    if gives_dice(rows):
        drawn[DICE] = resampled_mean(rows["dice"].to_numpy(dtype=np.float64), weights)
    if gives_probabilities(rows):
        drawn[AUC] = resampled_class_auc(class_indices(rows)[0], probabilities(rows), weights)
    return drawn


def _compare(
    perturbation: Perturbation,
    found: dict[str, _Value],
    before: dict[str, _Value],
    few: dict[str, str],
    resampling: Resampling,
) -> Iterator[RetestScore]:
    original = perturbation == UNPERTURBED
    for metric, score in found.items():
        if metric == CHANGED and original:
            continue
        reason, interval = score.reason or few.get(metric), None
        if reason is None:
            patients = resampling.patients if metric == CHANGED else None
            interval = resampling.interval(score.resampled, proportion_of=patients)
            reason = None if interval else resampling.no_interval_reason(score.resampled)
        low, high = interval or (None, None)
        found_score = RetestScore(perturbation, metric, score.value, low, high, reason)
        if original or metric == CHANGED:
            yield found_score
        else:
            yield _with_difference(found_score, score, before[metric], None if metric in few else resampling)


def _with_difference(found: RetestScore, score: _Value, before: _Value, resampling: Resampling | None) -> RetestScore:
    """With the difference from the unperturbed score; without an interval where there is no resampling."""
    if score.value is None or before.value is None:
        return found
    spread = score.resampled - before.resampled
    varies = float(np.nanmax(spread) - np.nanmin(spread)) > _EQUAL
    low, high = (resampling and varies and resampling.difference_interval(spread)) or (None, None)
    return replace(found, difference=score.value - before.value, difference_low=low, difference_high=high)
