"""A score over repeated trainings, as data."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ggn_tf.json_records import added_later


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
        left_out: Number of bootstrap replicates on which the score is undefined; the interval leaves them out.
        low_retrained, high_retrained: Interval over patients and trainings at 95 %; None with fewer than three
            trainings.
        class_name: The class, of a score of one class; else empty.
        threshold: Lowest probability of the second class that counts as that class, of a score at an operating point,
            the mean over repeats; None where the most probable class counts.
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
    left_out: int = added_later(0)
    low_retrained: float | None = added_later(None)
    high_retrained: float | None = added_later(None)
    class_name: str = added_later("")
    threshold: float | None = added_later(None)


@dataclass(frozen=True, kw_only=True)
class SubgroupScore(RepeatedScore):
    """A score of one system on a part of one set, for example the longest diameter's group `6 to < 8 mm`."""

    characteristic: str
    group: str


def table_of(rows: Sequence[object]) -> pd.DataFrame:
    """Scores or comparisons as a table: one column per field, None as NaN in columns of numbers."""
    return pd.DataFrame([dataclasses.asdict(row) for row in rows])  # type: ignore[call-overload]
