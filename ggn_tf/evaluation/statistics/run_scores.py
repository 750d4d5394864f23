"""The scores of one run as typed data, and `scores.json`, whose format only this module knows.

In `scores.json` the level of the stages is absent where a run has one stage.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ggn_tf.errors import RecordError, RunError
from ggn_tf.evaluation.statistics.score_records import FoldScores, RepeatedScore, Retest, SubgroupScore
from ggn_tf.evaluation.statistics.set_thresholds import PredictionSets
from ggn_tf.json_records import added_later, from_json, read_document, to_json, with_digest, without_digest
from ggn_tf.protocol import SelectionScore


@dataclass(frozen=True)
class Estimate:
    """A score, or a difference of two scores, with its interval.

    Attributes:
        value: The score; None where it is undefined.
        low, high: Interval over patients at 95 %; None where there is none.
        reason: Why the value or its interval is None, for a reader.
        left_out: Number of bootstrap replicates on which the score is undefined; the interval leaves them out.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = added_later(None)
    left_out: int = added_later(0)


@dataclass(frozen=True)
class StageScores:
    """The scores of one stage on one set; None where the stage or the task does not have the score.

    Attributes:
        accuracy: Share of nodules that were classified correctly.
        average_f1: F1, averaged over the classes with each class's number of nodules as its weight.
        mcc: Multi-class Matthews correlation coefficient (R_K).
        auc: Area under the ROC curve of the second class against the first; of more than two classes the mean over the
            classes, each against the rest.
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


INTERVAL_WIDTH = 0.1
LAYERS, SHARE = "layers", "share"
METRICS: tuple[str, ...] = tuple(field.name for field in fields(StageScores))


@dataclass(frozen=True)
class SetScores:
    """The scores of a run on one set.

    Attributes:
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
    """

    by_set: Mapping[str, SetScores]
    replicates: int
    seed: int
    level: float

    @property
    def test(self) -> SetScores | None:
        """Scores on the test set."""
        return self.by_set.get("test")


@dataclass(frozen=True)
class TrainedStage:
    """A finished stage of a training.

    Attributes:
        best_epoch: The epoch whose weights were kept.
        ended: Why training stopped, for a reader.
    """

    stage: str
    epochs: int | None
    best_epoch: int | None
    ended: str | None


@dataclass(frozen=True)
class FirstWeights:
    """The source of a run's first weights, as in `StartedFrom`."""

    kind: str
    name: str
    sha256: str
    patients_checked: bool


@dataclass(frozen=True)
class TrainedRun:
    """What was trained.

    Attributes:
        task: Its classes with commas between, as `Task.parse` reads them.
        split: Number of the split; None for a cross-validation.
        seed: Seed of the training, or of the first of several.
        select_on: The set whose scores selected the weights.
        dataset: Name of the dataset's folder.
        start_from: The source of the first weights; None for the initial ones of the seed.
        select_by: Score that selected the weights of stages with a classifier.
    """

    task: str
    model: str
    split: int | None
    seed: int
    precision: str
    select_on: str
    dataset_fingerprint: str
    dataset: str
    versions: Mapping[str, str]
    stages: tuple[TrainedStage, ...]
    start_from: FirstWeights | None = added_later(None)  # noqa: RUF009 - a field, which is made once per class
    select_by: SelectionScore = added_later("accuracy")  # noqa: RUF009 - a field, which is made once per class


@dataclass(frozen=True)
class SiteDifference:
    """A score on another site's nodules minus the same score on the run's own test set.

    Attributes:
        test, external: The score on either set.
        difference: `external` minus `test`.
        low, high: Percentile interval over the patients of both sites; None where a site has too few.
    """

    stage: str
    metric: str
    test: float
    external: float
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ExtentScore:
    """How well the extent of the CT alone distinguishes a class from the rest.

    Attributes:
        measure: `layers`, the number of the patch's layers along z inside the CT; or `share`, of its voxels.
        class_name: The class against the rest; of two classes only the second.
        value: Area under the ROC curve, above 0.5 where the class has the larger extent; None with one class only.
        low, high: Percentile interval over patients, for all classes together at 95 %; None where no patch or every
            patch of one class is padded alike, so that there is none.
        revealing: Whether it differs from 0.5: the interval excludes it, or the classes are perfectly separated, so
            that there is no interval.
    """

    set_name: str
    measure: str
    class_name: str
    value: float | None
    low: float | None
    high: float | None
    revealing: bool

    @property
    def estimate(self) -> Estimate:
        """The area with its interval."""
        return Estimate(self.value, self.low, self.high)


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one run.

    Attributes:
        sites: Differences between another site and the test set; empty without another site.
        external_dataset: Name of the other site's dataset folder.
        extent: What the extent of the CT alone predicts; empty where this was not computed.
        further: The scores of `score_further` on every set.
        sensitivity: The least sensitivity of their operating point; None for none.
        subgroups: The scores of the last stage's nodules, grouped by columns of the case table.
        interval_width: Width of an interval for which the number of patients is reported.
        retest: The test-retest analysis; None where this was not requested.
        sets: The prediction sets of the last stage; None where it does not classify, or nothing sets the thresholds.
        crossval: The folds of a cross-validation, whose `scores` are means over them; None for a run.
    """

    scores: Scores
    run: TrainedRun
    sites: tuple[SiteDifference, ...] = ()
    external_dataset: str | None = None
    extent: tuple[ExtentScore, ...] = ()
    further: tuple[RepeatedScore, ...] = ()
    sensitivity: float | None = None
    subgroups: tuple[SubgroupScore, ...] = ()
    interval_width: float = INTERVAL_WIDTH
    retest: Retest | None = None
    sets: PredictionSets | None = None
    crossval: FoldScores | None = None


SCORES_FILE = "scores.json"


def write_scores_file(evaluation: Evaluation, path: Path) -> None:
    """Write an evaluation as `scores.json`, with its digest."""
    text = json.dumps(with_digest(evaluation_document(evaluation)), indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_scores_file(path: Path) -> Evaluation:
    """Read a `scores.json`; raises RunError where the file cannot be read, or is not a `scores.json`."""
    try:
        return _evaluation(without_digest(read_document(path)))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecordError) as error:
        raise RunError(
            "The run's scores cannot be read.",
            case=path,
            found=f"{type(error).__name__}: {error}",
            expected="the scores.json of an evaluation",
            remedy="Evaluate the run again, or delete the file.",
        ) from error


def evaluation_document(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON types, in the order of the file."""
    document = scores_document(evaluation.scores)
    if evaluation.external_dataset is not None:
        document["sites"] = [asdict(site) for site in evaluation.sites]
        document["external_dataset"] = evaluation.external_dataset
    if evaluation.extent:
        document["field_of_view"] = [asdict(score) for score in evaluation.extent]
    document["interval_width"] = evaluation.interval_width
    if evaluation.sensitivity is not None:
        document["least_sensitivity"] = evaluation.sensitivity
    for name in ("further", "subgroups"):
        if getattr(evaluation, name):
            document[name] = [asdict(score) for score in getattr(evaluation, name)]
    if evaluation.retest is not None:
        document["test_retest"] = to_json(evaluation.retest)
    if evaluation.sets is not None:
        document["prediction_sets"] = to_json(evaluation.sets)
    if evaluation.crossval is not None:
        document["cross_validation"] = to_json(evaluation.crossval)
    return {**document, "run": asdict(evaluation.run)}


def scores_document(scores: Scores) -> dict[str, Any]:
    """Scores as JSON types."""
    document: dict[str, Any] = {}
    for name, part in scores.by_set.items():
        stages = {stage: stage_document(score) for stage, score in part.stages.items()}
        document[name] = stages if len(stages) > 1 else next(iter(stages.values()))
    document["counts"] = {
        name: {"nodules": part.nodules, "patients": part.patients, "classes": dict(part.nodules_by_class)}
        for name, part in scores.by_set.items()
    }
    document["bootstrap"] = {
        "unit": "patient",
        "interval": "BCa",
        "replicates": scores.replicates,
        "seed": scores.seed,
        "level": scores.level,
    }
    return document


def stage_document(scores: StageScores) -> dict[str, Any]:
    """The scores of one stage as JSON types; `reason` and `left_out` only where there is something to report."""
    return {name: _entry(estimate) for name, estimate in scores.by_metric().items()}


def _entry(estimate: Estimate) -> dict[str, Any]:
    entry = asdict(estimate)
    always = ("value", "low", "high")
    return {name: value for name, value in entry.items() if name in always or value}


def _evaluation(document: Mapping[str, Any]) -> Evaluation:
    run, bootstrap = from_json(TrainedRun, document["run"]), document["bootstrap"]
    sets = {name: _set_scores(document, name, [part.stage for part in run.stages]) for name in document["counts"]}
    sites = tuple(from_json(SiteDifference, site) for site in document.get("sites", ()))
    scores = Scores(sets, bootstrap["replicates"], bootstrap["seed"], bootstrap["level"])
    extent = tuple(from_json(ExtentScore, score) for score in document.get("field_of_view", ()))
    further = tuple(from_json(RepeatedScore, score) for score in document.get("further", ()))
    subgroups = tuple(from_json(SubgroupScore, score) for score in document.get("subgroups", ()))
    return Evaluation(
        scores,
        run,
        sites,
        document.get("external_dataset"),
        extent,
        further,
        document.get("least_sensitivity"),
        subgroups,
        document.get("interval_width", INTERVAL_WIDTH),
        from_json(Retest, document["test_retest"]) if "test_retest" in document else None,
        from_json(PredictionSets, document["prediction_sets"]) if "prediction_sets" in document else None,
        from_json(FoldScores, document["cross_validation"]) if "cross_validation" in document else None,
    )


def _set_scores(document: Mapping[str, Any], name: str, stages: Sequence[str]) -> SetScores:
    counts, part = document["counts"][name], document[name]
    by_stage = part if len(stages) > 1 else {stages[0]: part}
    scores = {
        stage: StageScores(**{metric: from_json(Estimate, entry) for metric, entry in entries.items()})
        for stage, entries in by_stage.items()
    }
    return SetScores(counts["nodules"], counts["patients"], counts["classes"], scores)
