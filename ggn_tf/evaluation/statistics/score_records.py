"""Scores as data: over repeated trainings, of a cross-validation, and under perturbed inputs (test-retest)."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from ggn_tf.json_records import added_later


@dataclass(frozen=True)
class RepeatedScore:
    """A score of one system on one set, over all its trainings.

    Attributes:
        model, stage: The system.
        task: Its classes with commas between.
        set: `validation`, `test` or `external`.
        metric: As in `run_scores.METRICS`.
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


@dataclass(frozen=True)
class FoldScore:
    """A score of one stage on the test set of one fold; its value is None where it is undefined, with the reason."""

    stage: str
    fold: int
    nodules: int
    patients: int
    metric: str
    value: float | None
    reason: str | None


@dataclass(frozen=True)
class PooledAuc:
    """The AUC of one stage on the out-of-fold rows of all folds together, with its interval over patients at 95 %.

    The probabilities of different models are not on one scale, so it differs from the mean over the folds.
    """

    stage: str
    value: float | None
    low: float | None
    high: float | None
    reason: str | None


@dataclass(frozen=True)
class BaselineComparison:
    """A score of a baseline fitted on each fold's training set, and its difference to the last stage that classifies.

    Attributes:
        stage: The stage that it is compared with.
        metric: As in `run_scores.METRICS`.
        value: Mean over the folds; None where it is undefined.
        low, high: Interval over patients at 95 %.
        difference: The stage's mean over the folds minus the baseline's, on the same nodules.
        difference_low, difference_high: Paired interval over patients at 95 %, not corrected for several baselines.
        p: Two-sided p value of the difference, of the paired patient bootstrap.
        reason: Why there is no value or no interval, for a reader.
        added: The score of both combined with the same weight (`folds.combine`) minus the baseline's. It also depends
            on how well the stage's probabilities are calibrated.
        added_low, added_high, added_p: Interval and p value, as those of the difference.
    """

    model: str
    stage: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p: float | None
    reason: str | None
    added: float | None = added_later(None)
    added_low: float | None = added_later(None)
    added_high: float | None = added_later(None)
    added_p: float | None = added_later(None)


@dataclass(frozen=True)
class FoldStage:
    """A finished stage of one training of a cross-validation, with fields as in `TrainedStage`."""

    fold: int
    member: int
    seed: int
    stage: str
    epochs: int | None
    best_epoch: int | None
    ended: str | None


@dataclass(frozen=True)
class FoldScores:
    """What a cross-validation adds to its means over the folds.

    Attributes:
        members: Number of trainings per fold, whose probabilities are averaged.
        baselines: The baselines; none where no stage classifies.
    """

    folds: int
    members: int
    by_fold: tuple[FoldScore, ...]
    pooled: tuple[PooledAuc, ...]
    baselines: tuple[BaselineComparison, ...] = ()
    trainings: tuple[FoldStage, ...] = ()


Kind = Literal["none", "centre_offset", "noise", "mirror", "slice_spacing"]

DICE, AUC, CHANGED = "dice", "auc", "changed"
RETEST_METRICS = (DICE, AUC, CHANGED)


@dataclass(frozen=True)
class Perturbation:
    """One change of the input of a network.

    Attributes:
        kind: `none`; `centre_offset`: the patch is around another point; `noise`: Gaussian noise is added to the CT;
            `mirror`: the patch is mirrored; `slice_spacing`: the CT is resampled to thicker slices and back.
        amount: Distance of the centre or of the slices in mm, standard deviation of the noise in HU; 0 for the others.
        axes: The mirrored axes, for example `zx`; empty for the others.
        recentred: Whether the centre was then moved to the centroid of the predicted mask.
    """

    kind: Kind
    amount: float = 0.0
    axes: str = ""
    recentred: bool = False


UNPERTURBED = Perturbation("none")


@dataclass(frozen=True)
class RetestScore:
    """A score under one perturbation.

    Attributes:
        metric: `dice`, `auc`, or `changed`: the share of nodules whose most probable class is another one than without
            the perturbation.
        value: The score; None where it is undefined.
        low, high: Interval over patients at 95 %; None where there is none.
        reason: Why the value or its interval is None, for a reader.
        difference: `value` minus the unperturbed score; None for `changed`, and of the unperturbed score itself.
        difference_low, difference_high: Paired percentile interval over patients at 95 %; None where there is none,
            also where the difference is the same in every replicate.
    """

    perturbation: Perturbation
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None


@dataclass(frozen=True)
class Retest:
    """The test-retest analysis of a run's last stage on its test set.

    Attributes:
        margin_mm: Width of what the dataset stores around each patch.
        left_out_mm: Distances of the centre that are larger than this margin.
        scores: Every perturbation in its order, the unperturbed input first, with the scores that the stage has.
        folds: Number of folds over which Dice and AUC are averaged; None for the test set of a run.
    """

    stage: str
    nodules: int
    patients: int
    margin_mm: float
    left_out_mm: tuple[float, ...]
    scores: tuple[RetestScore, ...]
    folds: int | None = added_later(None)

    def by_perturbation(self) -> dict[Perturbation, dict[str, RetestScore]]:
        """The scores by perturbation and metric."""
        rows: dict[Perturbation, dict[str, RetestScore]] = {}
        for score in self.scores:
            rows.setdefault(score.perturbation, {})[score.metric] = score
        return rows
