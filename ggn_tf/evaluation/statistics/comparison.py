"""Comparison of systems on the same nodules: every score of every pair, with its test and Holm's correction."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.bootstrap import Resampling
from ggn_tf.evaluation.statistics.folds import resample_in_folds
from ggn_tf.evaluation.statistics.paired_tests import PairedTest, paired_test
from ggn_tf.evaluation.statistics.run_scores import METRICS
from ggn_tf.evaluation.statistics.scores import few_patients_reasons
from ggn_tf.evaluation.statistics.system_predictions import System, SystemPredictions, split_by_system

_NOTHING = {"difference": None, **dict.fromkeys(PairedTest._fields), "test": ""}

INSIDE, OUTSIDE, UNDECIDED = "inside", "outside", "undecided"

# The smallest p value of a bootstrap is about 1 / replicates, and Holm multiplies it by the size of the family.
REPLICATES = 10_000


@dataclass(frozen=True)
class Comparison:
    """System A against system B in one score.

    Attributes:
        task: Its classes with commas between.
        set: `validation` or `test`.
        metric: As in `run_scores.METRICS`.
        value_a, value_b: Mean over repeats.
        difference: A minus B.
        low, high: Interval of the difference at 95 %: Wald's for AUC, else, and of means over folds, the paired patient
            bootstrap's.
        p: Two-sided p value over patients, for these trainings.
        p_holm: `p` after Holm's correction over the family: the primary score of all pairs of this task, split and set.
            None for other scores. Without a primary score the family has all scores.
        test: Name of the test of `p`.
        training_error: Standard error of the difference over trainings; None where neither system has several. A system
            with one training counts as if it had no spread.
        low_retrained, high_retrained: Interval over patients and trainings; None without `training_error`.
        p_retrained: Two-sided p value over patients and trainings, for claims about a method.
        p_retrained_holm: `p_retrained` after Holm's correction over the same family.
        margin: The equivalence margin; None where none was given.
        equivalence: Whether the interval (over patients and trainings, if it exists) is `inside` the margin, `outside`
            it, or reaches across one of its ends: `undecided`.
    """

    model_a: str
    stage_a: str
    model_b: str
    stage_b: str
    task: str
    split: int
    set: str
    metric: str
    nodules: int
    patients: int
    repeats_a: int
    repeats_b: int
    value_a: float | None
    value_b: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    test: str
    training_error: float | None
    low_retrained: float | None
    high_retrained: float | None
    p_retrained: float | None
    p_retrained_holm: float | None
    reason: str | None
    margin: float | None = None
    equivalence: str | None = None

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """The interval for a claim about the methods: over patients and trainings, if the trainings were repeated."""
        return (self.low, self.high) if self.low_retrained is None else (self.low_retrained, self.high_retrained)


def compare_systems(
    frame: pd.DataFrame,
    pairs: Sequence[tuple[System, System]] | None = None,
    replicates: int = REPLICATES,
    *,
    primary: str | None = None,
    margin: float | None = None,
) -> list[Comparison]:
    """Compare systems on the test set by every score that both have.

    Without pairs every system is compared with each earlier one in the table. Holm's correction costs less with fewer
    pairs, which must be chosen before the scores are known.

    Args:
        frame: A predictions table.
        pairs: The planned pairs.
        replicates: Number of bootstrap replicates.
        primary: The score that the claims are about, alone in Holm's family; None for all scores. Accuracy, average F1
            and MCC are three views of the same predictions: together in a family they cost three corrections.
        margin: Largest difference that is irrelevant; None for none.

    Returns:
        Splits in ascending order, then the pairs, then the scores in the order of `run_scores.METRICS`.

    Raises:
        PredictionsError: As `split_by_system`, or a system of a pair has no predictions.
    """
    compared: list[Comparison] = []
    for _, group in itertools.groupby(split_by_system(frame, ["test"]), key=lambda part: part.split):
        systems = {part.system: part for part in group}
        chosen = pairs or [(later, earlier) for earlier, later in itertools.combinations(systems, 2)]
        _check_known(chosen, systems)
        resampling = resample_in_folds(next(iter(systems.values())).rows, replicates, seed=0)
        resampled = {system: part.resampled(resampling.weights) for system, part in systems.items()}
        family = []
        for a, b in chosen:
            family += _compare(systems[a], systems[b], resampled[a], resampled[b], resampling)
        compared += _corrected([_judged(comparison, margin) for comparison in family], primary)
    return compared


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of one family (Scandinavian Journal of Statistics 1979, 6:65); None stays None."""
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        corrected[index] = highest
    return corrected


def _compare(
    a: SystemPredictions,
    b: SystemPredictions,
    resampled_a: dict[str, np.ndarray],
    resampled_b: dict[str, np.ndarray],
    resampling: Resampling,
) -> list[Comparison]:
    whole: dict[str, Any] = {
        **{f"{name}_a": value for name, value in a.system._asdict().items()},
        **{f"{name}_b": value for name, value in b.system._asdict().items()},
        **{"task": a.task, "split": a.split, "set": a.set_name},
        **{"nodules": len(a.rows), "patients": resampling.patients},
        **{"repeats_a": len(a.repeats), "repeats_b": len(b.repeats)},
    }
    values_a, values_b = a.values(), b.values()
    compared = []
    few = few_patients_reasons(a.rows, METRICS)
    for metric in (name for name in METRICS if name in values_a and name in values_b):
        (scores_a, reason_a), (scores_b, reason_b) = values_a[metric], values_b[metric]
        if metric == "dice" and (scores_a is None or scores_b is None):
            continue
        means: dict[str, Any] = {"value_a": _mean(scores_a), "value_b": _mean(scores_b)}
        found: dict[str, Any] = {**_NOTHING, "reason": reason_a or reason_b or few.get(metric)}
        if scores_a is not None and scores_b is not None:
            found["difference"] = float(scores_a.mean() - scores_b.mean())
        if scores_a is not None and scores_b is not None and found["reason"] is None:
            difference = resampled_a[metric] - resampled_b[metric]
            found |= paired_test(metric, a, b, scores_a, scores_b, difference, resampling)._asdict()
        compared.append(Comparison(**whole, metric=metric, **means, **found, p_holm=None, p_retrained_holm=None))
    return compared


def _mean(values: np.ndarray | None) -> float | None:
    return None if values is None else float(values.mean())


def _judged(comparison: Comparison, margin: float | None) -> Comparison:
    low, high = comparison.interval
    if margin is None or low is None or high is None:
        return dataclasses.replace(comparison, margin=margin)
    inside, outside = -margin < low and high < margin, low > margin or high < -margin
    found = INSIDE if inside else OUTSIDE if outside else UNDECIDED
    return dataclasses.replace(comparison, margin=margin, equivalence=found)


def _corrected(family: list[Comparison], primary: str | None) -> list[Comparison]:
    planned = [primary in (None, comparison.metric) for comparison in family]
    over_patients, over_both = (
        holm([getattr(one, name) if counts else None for one, counts in zip(family, planned, strict=True)])
        for name in ("p", "p_retrained")
    )
    return [
        dataclasses.replace(comparison, p_holm=p, p_retrained_holm=p_retrained)
        for comparison, p, p_retrained in zip(family, over_patients, over_both, strict=True)
    ]


def _check_known(pairs: Sequence[tuple[System, System]], systems: dict[System, SystemPredictions]) -> None:
    unknown = [system for pair in pairs for system in pair if system not in systems]
    if unknown:
        raise PredictionsError(
            "There are no predictions of a system to compare.",
            case=unknown[0],
            found=", ".join(map(str, systems)),
            expected="predictions of both systems of every pair in every split",
            remedy="Train and predict it, or leave the pair out.",
        )
