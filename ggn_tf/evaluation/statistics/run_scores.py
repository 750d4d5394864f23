"""The scores of one run as typed data, from their computation to the last print."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ggn_tf.evaluation.statistics.estimate import Estimate


@dataclass(frozen=True)
class StageScores:
    """The scores of one stage on one set; None where the stage or the task does not have the score.

    Attributes:
        accuracy: Share of nodules that were classified correctly.
        average_f1: F1, averaged over the classes with each class's number of nodules as its weight.
        mcc: Multi-class Matthews correlation coefficient (R_K).
        auc: Area under the ROC curve of the second class against the first, for two classes.
        dice: Mean Dice of the predicted masks.
    """

    accuracy: Estimate | None = None
    average_f1: Estimate | None = None
    mcc: Estimate | None = None
    auc: Estimate | None = None
    dice: Estimate | None = None

    def by_metric(self) -> dict[str, Estimate]:
        """The scores that exist, by name, in the order of `METRICS`."""
        scores = {name: getattr(self, name) for name in METRICS}
        return {name: score for name, score in scores.items() if score is not None}


METRICS: tuple[str, ...] = tuple(field.name for field in fields(StageScores))


@dataclass(frozen=True)
class SetScores:
    """The scores of a run on one set.

    Attributes:
        nodules, patients: Size of the set.
        nodules_by_class: Number of nodules of every class of the task.
        stages: Scores by stage, in the order of training.
    """

    nodules: int
    patients: int
    nodules_by_class: Mapping[str, int]
    stages: Mapping[str, StageScores]

    def __getitem__(self, stage: str) -> StageScores:
        """The scores of a stage."""
        return self.stages[stage]


@dataclass(frozen=True)
class Scores:
    """The scores of one run, with BCa intervals of the patient bootstrap.

    Attributes:
        by_set: Scores by set, in the order of `SCORED_SETS`.
        replicates: Number of bootstrap replicates.
        seed: Seed of the bootstrap.
        level: Level of the intervals.
    """

    by_set: Mapping[str, SetScores]
    replicates: int
    seed: int
    level: float

    @property
    def validation(self) -> SetScores | None:
        """Scores on the validation set."""
        return self.by_set.get("validation")

    @property
    def test(self) -> SetScores | None:
        """Scores on the test set."""
        return self.by_set.get("test")

    @property
    def external(self) -> SetScores | None:
        """Scores on another site's dataset."""
        return self.by_set.get("external")


@dataclass(frozen=True)
class TrainedStage:
    """A finished stage of a training.

    Attributes:
        stage: Its name.
        epochs: Number of epochs that were trained.
        best_epoch: The epoch whose weights were kept.
        ended: Why training stopped, for a reader.
    """

    stage: str
    epochs: int | None
    best_epoch: int | None
    ended: str | None


@dataclass(frozen=True)
class TrainedRun:
    """What was trained.

    Attributes:
        task: Its classes with commas between, as `Task.parse` reads them.
        model: Name of the model.
        split: Number of the split.
        seed: Seed of the training.
        precision: Precision of the training, for example `float32`.
        select_on: The set whose scores selected the weights.
        dataset_fingerprint: Fingerprint of the dataset's content.
        dataset: Name of the dataset's folder.
        versions: Versions of the packages, by name.
        stages: The finished stages, in the order of training.
    """

    task: str
    model: str
    split: int
    seed: int
    precision: str
    select_on: str
    dataset_fingerprint: str
    dataset: str
    versions: Mapping[str, str]
    stages: tuple[TrainedStage, ...]


@dataclass(frozen=True)
class SiteDifference:
    """A score on another site's nodules minus the same score on the run's own test set.

    Attributes:
        stage: The stage.
        metric: Name of the score, as in `METRICS`.
        test, external: The score on either set.
        difference: `external` minus `test`.
        low, high: Percentile interval over the patients of both sites.
    """

    stage: str
    metric: str
    test: float
    external: float
    difference: float
    low: float
    high: float

    @property
    def estimate(self) -> Estimate:
        """The difference with its interval."""
        return Estimate(self.difference, self.low, self.high)


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one run.

    Attributes:
        scores: Its scores.
        run: What was trained.
        sites: Differences between another site and the test set; empty without another site.
        external_dataset: Name of the other site's dataset folder.
    """

    scores: Scores
    run: TrainedRun
    sites: tuple[SiteDifference, ...] = ()
    external_dataset: str | None = None
