"""Scores over repeated trainings.

The standard deviation over repeats describes other trainings on the same patients; the interval of the mean over
repeats describes other patients with the same trainings. Neither contains the other.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ggn_tf.evaluation.statistics.bootstrap import Resampling, resample
from ggn_tf.evaluation.statistics.scores import REPLICATES, SCORED_SETS
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions, split_by_system


@dataclass(frozen=True)
class RepeatedScore:
    """A score of one system on one set, over all its trainings.

    Attributes:
        model, stage: The system.
        task: Its classes with commas between.
        split: Number of the split.
        set: `validation`, `test` or `external`.
        metric: As in `run_scores.METRICS`.
        repeats: Number of trainings.
        nodules, patients: Size of the set.
        value: The mean over repeats; None where the score is undefined.
        deviation: The standard deviation over repeats (of a sample: n - 1); None with one.
        low, high: Patient-bootstrap interval of the mean over repeats at 95 %.
        reason: Why the value or its interval is None, for a reader.
    """

    model: str
    stage: str
    task: str
    split: int
    set: str
    metric: str
    repeats: int
    nodules: int
    patients: int
    value: float | None
    deviation: float | None
    low: float | None
    high: float | None
    reason: str | None


def score_repeats(
    frame: pd.DataFrame, set_names: Sequence[str] = SCORED_SETS, seed: int = 0, replicates: int = REPLICATES
) -> list[RepeatedScore]:
    """Score every system over all its repeats, in the order of `split_by_system`, then of `run_scores.METRICS`."""
    return [
        score
        for system in split_by_system(frame, set_names)
        for score in score_system(system, resample(system.patients, replicates, seed))
    ]


def score_system(predictions: SystemPredictions, resampling: Resampling) -> list[RepeatedScore]:
    """Score one system on one set."""
    resampled = predictions.resampled(resampling.weights)
    return [
        repeated_score(predictions, metric, values, resampled[metric], resampling, reason)
        for metric, (values, reason) in predictions.values().items()
    ]


def repeated_score(
    predictions: SystemPredictions,
    metric: str,
    values: np.ndarray | None,
    resampled: np.ndarray,
    resampling: Resampling,
    reason: str | None = None,
) -> RepeatedScore:
    """Summarise a score, None with a reason or [R] of all repeats; `resampled` is the mean over repeats [1 + B + P]."""
    low, high = (None, None) if values is None else resampling.interval(resampled) or (None, None)
    if low is None and reason is None:
        reason = resampling.no_interval_reason(resampled)
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
    )


def table_of(rows: Sequence[object]) -> pd.DataFrame:
    """Scores or comparisons as a table: one column per field, None as NaN in columns of numbers."""
    return pd.DataFrame([dataclasses.asdict(row) for row in rows])  # type: ignore[call-overload]
