"""The paper's Tables 2 to 6, filled with the results of a study.

The paper's numbers are beside ours where the labels are its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ggn_tf.evaluation.baselines import MEASURES
from ggn_tf.evaluation.report.further_scores import interval_of
from ggn_tf.evaluation.report.page import Cell, Number, PValue, Table, section, table_lines
from ggn_tf.evaluation.report.run_tables import METRIC_NAMES, OPTIMISTIC, UNCHECKED
from ggn_tf.evaluation.statistics import paper_systems as paper
from ggn_tf.evaluation.statistics.comparison import Comparison
from ggn_tf.evaluation.statistics.system_predictions import System, split_by_system
from ggn_tf.models.names import STARTED, base_model
from ggn_tf.runs.stages import CLASSIFY, STAGES
from ggn_tf.shown_text import in_markdown
from ggn_tf.studies.ablations import VARIANTS, Variant
from ggn_tf.studies.analysis import TaskResults
from ggn_tf.studies.design import StudyDesign, weighted_system

_CLASSIFICATION = ("accuracy", "average_f1", "mcc", "auc")
_METRICS = (*_CLASSIFICATION, "dice")
_CAPTION = (
    "Mean over repeats ± standard deviation over repeats [95 % interval of the mean], test set. With three repeats or "
    "more the interval is over patients and trainings, with fewer over patients only."
)

_OUT_OF_FOLD = (
    "Out of fold: each nodule is predicted by trainings that did not see its patient. Every score and difference is a "
    "mean over the folds, and patients are drawn within each fold. p of AUC is of the paired bootstrap."
)

_PUBLISHED = "paper: best of 5, selected on test"
_BEST = (
    "The best of the repeats is the training with the highest accuracy on the test set, with all its scores, as in the "
    "paper: it is optimistic a second time, and no estimate for other patients."
)


@dataclass(frozen=True, kw_only=True)
class ScoreTable(Table):
    """A table of a study's results, with the name of its file; the first `keys` columns identify a row."""

    name: str
    title: str
    keys: int = 1


def tables_of(design: StudyDesign, results: Sequence[TaskResults]) -> list[ScoreTable]:
    """Every table for which the study has results."""
    scores = _TestScores(design, results)
    tables = [_systems(scores, split) for split in design.scored_splits]
    tables += [_transfer(scores), _joint_weights(scores), _other_systems(scores), _ablations(scores)]
    tables += [_comparisons(design, result, split) for result in results for split in design.scored_splits]
    if design.folds is not None:
        tables = [replace(table, caption=f"{_OUT_OF_FOLD} {table.caption}") for table in tables]
    if design.select_on != "validation":
        caption = f"{OPTIMISTIC} {_BEST}" if scores.has_best else OPTIMISTIC
        tables = [replace(table, caption=f"{caption} {table.caption}") for table in tables]
    return [table for table in tables if table.rows]


def markdown(tables: Sequence[ScoreTable]) -> str:
    """All tables as one Markdown text."""
    sections = (section(table.title, [table.caption, "", *table_lines(table)]) for table in tables)
    return in_markdown("\n".join(line for lines in sections for line in lines))


class _TestScores:
    def __init__(self, design: StudyDesign, results: Sequence[TaskResults]) -> None:
        self.design = design
        self.tasks = [str(result.task) for result in results]
        self.has_published = design.folds is None and any(
            paper.published_score("accuracy", task=task, system="d", split=1) for task in self.tasks
        )
        self._scores = {
            (score.task, score.split, System(score.model, score.stage), score.metric): score
            for result in results
            for score in result.scores
            if score.set == "test"
        }
        self._unchecked = {model for result in results for model in result.unchecked}
        self.has_best = design.select_on == "test" and design.repeats > 1
        self._best = {
            (predictions.task, predictions.split, predictions.system): best_repeat(predictions.values())
            for result in (results if self.has_best else ())
            for predictions in split_by_system(result.predictions, ["test"])
        }

    def shown(self, split: int) -> str:
        """A scored split in a cell below "split"."""
        return str(split) if self.design.folds is None else "out of fold"

    def started_text(self, model: str) -> str:
        """From which run a model starts, with a note where that may have learned of test patients."""
        note = f"; {UNCHECKED}" if model in self._unchecked else ""
        return f"started from {model.partition(STARTED)[2]}{note}"

    def has(self, system: System, split: int | None = None) -> bool:
        return any(key[2] == system and split in (None, key[1]) for key in self._scores)

    def cell(self, task: str, split: int, system: System, metric: str) -> Number | None:
        score = self._scores.get((task, split, system, metric))
        # A system without a segmenter has no Dice; other scores without a value are printed as undefined.
        if score is None or (metric == "dice" and score.value is None):
            return None
        return Number(score.value, *interval_of(score), score.deviation)

    def cells_of(
        self, task: str, split: int, system: System, metric: str, published: paper.PublishedScore | None
    ) -> Iterator[Cell]:
        """The cells below `headings`: our score, the best of the repeats, and the paper's score."""
        yield self.cell(task, split, system, metric)
        if self.has_best:
            best = self._best.get((task, split, system), {}).get(metric)
            yield None if best is None else Number(best)
        if self.has_published:
            yield _published(published)

    def left_out(self, split: int | None = None) -> str:
        """The end of a caption: how many replicates the intervals leave out."""
        counts = [
            f"{METRIC_NAMES[metric]} of {paper.title_of(system)}, task {task}, split {number}: {score.left_out}"
            for (task, number, system, metric), score in self._scores.items()
            if score.left_out and split in (None, number)
        ]
        return (
            f" Bootstrap replicates without a value, which the interval leaves out: {'; '.join(counts)}."
            if counts
            else ""
        )

    def headings(self, columns: Sequence[str]) -> Iterator[str]:
        """The columns, each followed by one for the best of the repeats and one for the paper's numbers, if any."""
        for column in columns:
            yield column
            if self.has_best:
                yield f"best of {self.design.repeats}, selected on test"
            if self.has_published:
                yield _PUBLISHED


def best_repeat(values: Mapping[str, tuple[np.ndarray | None, str | None]]) -> dict[str, float]:
    """The scores of the repeat with the highest accuracy, the first of equal ones; nothing where it is undefined."""
    accuracy, _ = values.get("accuracy", (None, None))
    if accuracy is None:
        return {}
    best = int(np.argmax(accuracy))
    return {metric: float(found[best]) for metric, (found, _) in values.items() if found is not None}


def _published(score: paper.PublishedScore | None) -> Number | None:
    return None if score is None else Number(score.value, deviation=score.deviation, decimals=4)


_TABLES = {1: "table-2", 2: "table-3"}


def _systems(scores: _TestScores, split: int) -> ScoreTable:
    networks = [network for network in paper.NETWORKS if scores.has(network.system, split)]
    rows = []
    for metric, task in product(_METRICS, scores.tasks):
        cells: list[Cell] = []
        for network in networks:
            published = paper.published_score(metric, task=task, system=network.letter, split=split, table=split + 1)
            cells += scores.cells_of(task, split, network.system, metric, published)
        if any(scores.cell(task, split, network.system, metric) for network in networks):
            rows.append((METRIC_NAMES[metric], task, *cells))
    return ScoreTable(
        ("score", "task", *scores.headings([str(network) for network in networks])),
        rows,
        _CAPTION + scores.left_out(split),
        name=_TABLES.get(split, f"split-{split}") if scores.design.folds is None else "folds",
        title=f"All systems, {scores.design.part_name(split)} (the paper's Tables 2 and 3)",
        keys=2,
    )


def _transfer(scores: _TestScores) -> ScoreTable:
    rows = []
    for split, task in product(scores.design.scored_splits, scores.tasks):
        cells: list[Cell] = []
        for metric in _CLASSIFICATION:
            published = paper.published_score(metric, task=task, system="automatic", split=split)
            cells += scores.cells_of(task, split, paper.TRANSFER, metric, published)
        if any(scores.cell(task, split, paper.TRANSFER, metric) for metric in _CLASSIFICATION):
            rows.append((scores.shown(split), task, *cells))
    return ScoreTable(
        ("split", "task", *scores.headings([METRIC_NAMES[metric] for metric in _CLASSIFICATION])),
        rows,
        _CAPTION,
        name="table-4",
        title="The classifier of the reference masks on automatic masks (the paper's Table 4)",
        keys=2,
    )


def _joint_weights(scores: _TestScores) -> ScoreTable:
    """Table 5: one row per weight, if there are several."""
    design, rows = scores.design, []
    task, split = str(design.weighted_task), design.scored_splits[0]
    default = design.protocol.training.joint_weight
    for weight in sorted({*design.joint_weights, default}):
        system = paper.JOINT if weight == default else System(weighted_system(weight), paper.JOINT.stage)
        cells: list[Cell] = []
        for metric in _METRICS:
            published = paper.published_score(metric, task=task, system=f"d, lambda {weight}", split=split)
            cells += scores.cells_of(task, split, system, metric, published)
        if any(scores.cell(task, split, system, metric) for metric in _METRICS):
            rows.append((f"{weight:g}", *cells))
    return ScoreTable(
        ("λ", *scores.headings([METRIC_NAMES[metric] for metric in _METRICS])),
        rows if len(rows) > 1 else (),
        _CAPTION,
        name="table-5",
        title=f"Joint training with other λ, task {task}, {design.part_name(split)} (the paper's Table 5)",
    )


def _other_systems(scores: _TestScores) -> ScoreTable:
    """Table 6, with single measures of the reference mask beside it."""
    systems = [paper.RADIOMICS, *(System(measure, CLASSIFY.name) for measure in MEASURES), paper.JOINT]
    present = [system for system in systems if scores.has(system)]
    letters = ("radiologists", "svm", "d") if scores.has_published else ()
    rows: list[tuple[Cell, ...]] = []
    for metric, split, task in product(("accuracy", "auc"), scores.design.scored_splits, scores.tasks):
        ours = [scores.cell(task, split, system, metric) for system in present]
        published = [_published(paper.published_score(metric, task=task, system=letter)) for letter in letters]
        if any(ours):
            rows.append((METRIC_NAMES[metric], scores.shown(split), task, *ours, *published))
    printed = (
        ("paper: radiologists", "paper: SVM", "paper: cascade, best of 5, selected on test")
        if scores.has_published
        else ()
    )
    return ScoreTable(
        ("score", "split", "task", *(paper.title_of(system) for system in present), *printed),
        rows if len(present) > 1 else (),
        _CAPTION,
        name="table-6",
        title="Beside radiomics and single measures of the reference mask (the paper's Table 6)",
        keys=3,
    )


def _ablations(scores: _TestScores) -> ScoreTable:
    """Each variant below the paper's system from which it differs in one thing."""
    started = [
        Variant("", System(base_model(model), stage.name), model, scores.started_text(model))
        for model in scores.design.models
        if STARTED in model
        for stage in STAGES[base_model(model)]
    ]
    present = [variant for variant in (*VARIANTS, *started) if scores.has(variant.system)]
    rows: list[tuple[Cell, ...]] = []
    for split, task in product(scores.design.scored_splits, scores.tasks):
        for base in dict.fromkeys(variant.base for variant in present):
            title = paper.title_of(base)
            systems = {title: base} | {
                f"{title}: {variant.title}": variant.system for variant in present if variant.base == base
            }
            for name, system in systems.items():
                cells = [scores.cell(task, split, system, metric) for metric in _METRICS]
                if any(cells):
                    rows.append((scores.shown(split), task, name, *cells))
    return ScoreTable(
        ("split", "task", "system", *(METRIC_NAMES[metric] for metric in _METRICS)),
        rows,
        _CAPTION,
        name="ablations",
        title="Ablations: where the paper leaves a choice, and other first weights",
        keys=3,
    )


def _comparisons(design: StudyDesign, result: TaskResults, split: int) -> ScoreTable:
    """The pairs that Holm's correction covers together."""
    compared = [pair for pair in result.comparisons if pair.split == split and pair.difference is not None]
    margin = next((pair.margin for pair in compared if pair.margin is not None), None)
    heading = ["A - B", "score", "difference [95 %]", "over", "p", "p (Holm)", "test over patients"]
    return ScoreTable(
        (*heading, *([] if margin is None else [f"margin {margin:g}"])),
        [_comparison(pair, with_margin=margin is not None) for pair in compared],
        f"{_COMPARED} {_family(compared)} {'' if margin is None else _EQUIVALENCE}".rstrip(),
        name=f"comparisons-{result.task.file_name}-{design.part_file(split)}",
        title=f"Paired comparisons, task {result.task}, {design.part_name(split)}",
        keys=2,
    )


_COMPARED = (
    "Test set. Interval and p are over patients and trainings, for claims about the methods, where the trainings were "
    "repeated three times or more. Otherwise they are over patients only, for these trainings, and support no claim "
    "about the methods. Over patients, p of accuracy is of McNemar's exact test and its interval is of the "
    "bootstrap: they can disagree; p of average F1 and MCC is below 0.05 in up to 7 % of studies without a difference. "
    "A p above 0.05 does not show that two systems are equal."
)
_EQUIVALENCE = (
    "Margin: inside, the difference is smaller than the margin; outside, it is larger; undecided, the interval "
    "contains an end of the margin, so that neither was shown."
)


def _family(compared: Sequence[Comparison]) -> str:
    """What Holm's correction covers."""
    metrics = {pair.metric for pair in compared if pair.p_holm is not None}
    if len(metrics) == 1:
        score = METRIC_NAMES[metrics.pop()]
        return (
            f"Holm's correction covers the primary score, {score}, of all pairs of this table; other scores are "
            "secondary and not corrected. Tables of other tasks and splits are further families; splits share nodules."
        )
    return "Holm's correction covers all pairs and scores of this table."


def _comparison(pair: Comparison, *, with_margin: bool) -> tuple[Cell, ...]:
    a, b = paper.title_of(System(pair.model_a, pair.stage_a)), paper.title_of(System(pair.model_b, pair.stage_b))
    retrained = pair.low_retrained is not None
    difference = Number(pair.difference, *pair.interval, signed=True)
    found = (pair.p_retrained, pair.p_retrained_holm) if retrained else (pair.p, pair.p_holm)
    p_values = (None if p is None else PValue(p) for p in found)
    over = "patients, trainings" if retrained else pair.reason or "patients"
    judged = [pair.equivalence] if with_margin else []
    return f"{a} - {b}", METRIC_NAMES[pair.metric], difference, over, *p_values, pair.test, *judged
