"""The scores of a cross-validation as data, as `scores.json` contains them beside the means over the folds."""

from dataclasses import dataclass


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
        model: Name of the baseline.
        stage: The stage that it is compared with.
        metric: As in `run_scores.METRICS`.
        value: Mean over the folds; None where it is undefined.
        low, high: Interval over patients at 95 %.
        difference: The stage's mean over the folds minus the baseline's, on the same nodules.
        difference_low, difference_high: Paired interval over patients at 95 %, not corrected for several baselines.
        p: Two-sided p value of the difference, of the paired patient bootstrap.
        reason: Why there is no value or no interval, for a reader.
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
        folds: Number of folds.
        members: Number of trainings per fold, whose probabilities are averaged.
        by_fold: The scores of each fold.
        pooled: The pooled AUC of each stage.
        baselines: The baselines; none where no stage classifies.
        trainings: The stages of each training.
    """

    folds: int
    members: int
    by_fold: tuple[FoldScore, ...]
    pooled: tuple[PooledAuc, ...]
    baselines: tuple[BaselineComparison, ...] = ()
    trainings: tuple[FoldStage, ...] = ()
