"""Scores over repeated trainings.

The standard deviation over repeats describes other trainings on the same patients; the interval of the mean over
repeats describes other patients with the same trainings. Neither contains the other.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from ggn_tf.evaluation.statistics.bootstrap import LEVEL, Resampling
from ggn_tf.evaluation.statistics.folds import resample_in_folds
from ggn_tf.evaluation.statistics.paired_tests import LEAST_TRAININGS
from ggn_tf.evaluation.statistics.run_scores import METRICS
from ggn_tf.evaluation.statistics.score_records import RepeatedScore
from ggn_tf.evaluation.statistics.scores import PROPORTIONS, REPLICATES, SCORED_SETS, few_patients_reasons
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions, split_by_system

# Trainings that vary widely would lead an interval out of a score's range. Scores that are not here have none.
_SHARES = (
    *(name for name in METRICS if name != "mcc"),
    *("sensitivity", "specificity", "ppv", "npv", "precision", "recall", "f1", "balanced_accuracy"),
    *("average_precision", "low_dice", "empty_mask", "surface_dice_1mm"),
)
_RANGES = {
    **dict.fromkeys(_SHARES, (0.0, 1.0)),
    **dict.fromkeys(("brier", "hd95_mm", "surface_distance_mm"), (0.0, math.inf)),
    "mcc": (-1.0, 1.0),
}


def score_repeats(
    frame: pd.DataFrame, set_names: Sequence[str] = SCORED_SETS, seed: int = 0, replicates: int = REPLICATES
) -> list[RepeatedScore]:
    """Score every system over all its repeats, in the order of `split_by_system`, then of `run_scores.METRICS`."""
    return [
        score
        for system in split_by_system(frame, set_names)
        for score in score_system(system, resample_in_folds(system.rows, replicates, seed))
    ]


def score_system(predictions: SystemPredictions, resampling: Resampling) -> list[RepeatedScore]:
    """Score one system on one set."""
    resampled, values = predictions.resampled(resampling.weights), predictions.values()
    few = few_patients_reasons(predictions.rows, values)
    return [
        repeated_score(
            predictions,
            metric,
            found,
            resampled[metric],
            resampling,
            reason or few.get(metric),
            proportion_of=resampling.patients if metric in PROPORTIONS else None,
        )
        for metric, (found, reason) in values.items()
    ]


def repeated_score(
    predictions: SystemPredictions,
    metric: str,
    values: np.ndarray | None,
    resampled: np.ndarray,
    resampling: Resampling,
    reason: str | None = None,
    *,
    proportion_of: int | None = None,
    **labels: Any,
) -> RepeatedScore:
    """Summarise a system's score over its repeats.

    Takes the score of every repeat [R], or None and the reason why there is no value, and the mean over repeats on
    resampled nodules [1 + B + P]. With values, the `reason` is why there is no interval. `proportion_of` is as in
    `Resampling.interval`; `labels` are `class_name` and `threshold`, of scores that have one.
    """
    interval = None
    if values is not None and reason is None:
        interval = resampling.interval(resampled, proportion_of=proportion_of)
        reason = None if interval else resampling.no_interval_reason(resampled)
    low, high = interval or (None, None)
    retrained = interval and add_trainings(interval, values)
    if retrained and metric in _RANGES:
        least, most = _RANGES[metric]
        retrained = max(retrained[0], least), min(retrained[1], most)
    low_retrained, high_retrained = retrained or (None, None)
    return RepeatedScore(
        **predictions.system._asdict(),
        task=predictions.task,
        split=predictions.split,
        set=predictions.set_name,
        metric=metric,
        repeats=len(predictions.repeats),
        nodules=len(predictions.rows),
        patients=resampling.patients,
        value=None if values is None else float(values.mean()),
        deviation=None if values is None or len(values) < 2 else float(np.std(values, ddof=1)),
        low=low,
        high=high,
        reason=reason,
        left_out=0 if values is None else resampling.left_out(resampled),
        low_retrained=low_retrained,
        high_retrained=high_retrained,
        **labels,
    )


def add_trainings(interval: tuple[float, float], values: np.ndarray | None) -> tuple[float, float] | None:
    """Add the variance of the trainings [R] to the interval of their mean over patients (MOVER, Zou and Donner 2008).

    The squared distances of either end from the mean add up. None with fewer than three trainings.
    """
    if values is None or len(values) < LEAST_TRAININGS:
        return None
    mean, degrees = float(values.mean()), len(values) - 1
    reach = float(t.ppf((1 + LEVEL) / 2, degrees) * values.std(ddof=1)) / np.sqrt(len(values))
    return mean - float(np.hypot(mean - interval[0], reach)), mean + float(np.hypot(interval[1] - mean, reach))
