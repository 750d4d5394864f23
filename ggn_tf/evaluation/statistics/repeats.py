"""Scores over repeats: how much a score moves with another training, and with other patients.

The two are different questions. The standard deviation over repeats is of the trainings, on the same patients; the
interval is of the patients, with the same trainings, and is that of the mean over repeats. Neither contains the other.
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
        model, stage: What answered.
        task: Its classes with commas between.
        split: Its number.
        set: `validation`, `test` or `external`.
        metric: As in `run_scores.METRICS`.
        repeats: How many trainings.
        nodules, patients: How many.
        value: The mean over repeats; None where the score is undefined.
        deviation: The standard deviation over repeats (of a sample: n - 1); None with one.
        low, high: The patient bootstrap's interval of the mean over repeats at 95 %.
        reason: Why a value or its interval is None.
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
    """Score every system of a predictions table, all repeats of it together.

    Args:
        frame: The predictions of one task; models, stages, splits and repeats as the rows say.
        set_names: Which sets.
        seed: Of the bootstrap. Systems on the same patients share its draws.
        replicates: Of the bootstrap.

    Returns:
        In the order of `split_by_system`, in each cell in the order of `run_scores.METRICS`.

    Raises:
        PredictionsError: As `split_by_system`.
    """
    cells = split_by_system(frame, set_names)
    return [score for cell in cells for score in score_system(cell, resample(cell.patients, replicates, seed))]


def score_system(cell: SystemPredictions, resampling: Resampling) -> list[RepeatedScore]:
    """Score one cell.

    Args:
        cell: The repeats of one system.
        resampling: Of its patients.
    """
    resampled = cell.resampled(resampling.weights)
    return [
        repeated_score(cell, metric, values, resampled[metric], resampling, reason)
        for metric, (values, reason) in cell.values().items()
    ]


def repeated_score(
    cell: SystemPredictions,
    metric: str,
    values: np.ndarray | None,
    resampled: np.ndarray,
    resampling: Resampling,
    reason: str | None = None,
) -> RepeatedScore:
    """One score of a cell.

    Args:
        cell: The repeats of one system.
        metric: The score's name.
        values: Of every repeat [R]; None where it is undefined.
        resampled: The mean over repeats on resampled nodules.
        resampling: Of the patients.
        reason: Why `values` is None.
    """
    low, high = (None, None) if values is None else resampling.interval(resampled) or (None, None)
    if low is None and reason is None:
        reason = resampling.without_interval(resampled)
    return RepeatedScore(
        **cell.system._asdict(),
        task=cell.task,
        split=cell.split,
        set=cell.set_name,
        metric=metric,
        repeats=len(cell.repeats),
        nodules=len(cell.rows),
        patients=resampling.patients,
        value=None if values is None else float(values.mean()),
        deviation=None if values is None or len(values) < 2 else float(np.std(values, ddof=1)),
        low=low,
        high=high,
        reason=reason,
    )


def table_of(rows: Sequence[object]) -> pd.DataFrame:
    """Scores or comparisons as a table, a column a field, None as NaN in columns of numbers.

    Args:
        rows: Dataclasses of one kind.
    """
    return pd.DataFrame([dataclasses.asdict(row) for row in rows])  # type: ignore[call-overload]
