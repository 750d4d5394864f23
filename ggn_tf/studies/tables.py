"""The paper's Tables 2 to 6, filled by a study. The paper's numbers are beside ours where the labels are its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from ggn_tf.evaluation.report.cells import Cell, Number, PValue, Table
from ggn_tf.evaluation.report.markdown import section, table_lines
from ggn_tf.evaluation.report.run_tables import METRIC_NAMES, OPTIMISTIC
from ggn_tf.evaluation.size_density_baselines import MEASURES
from ggn_tf.evaluation.statistics.comparison import Comparison
from ggn_tf.evaluation.statistics.paper_systems import JOINT, NETWORKS, RADIOMICS, TRANSFER, title_of
from ggn_tf.evaluation.statistics.published_scores import PublishedScore, published_score
from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.runs.stages import CLASSIFY
from ggn_tf.studies.grid import StudyDesign, weighted_system
from ggn_tf.studies.results import TaskResults

_CLASSIFICATION = ("accuracy", "average_f1", "mcc", "auc")
_METRICS = (*_CLASSIFICATION, "dice")
_CAPTION = (
    "Mean over repeats ± standard deviation over repeats [95 % patient-bootstrap interval of the mean], test set."
)


@dataclass(frozen=True, kw_only=True)
class ScoreTable(Table):
    """A table of a study's results.

    Attributes:
        name: Name of its file, for example `table-2`.
        title: What it shows.
        keys: Number of columns, from the left, that identify a row.
    """

    name: str
    title: str
    keys: int = 1


def tables_of(design: StudyDesign, results: Sequence[TaskResults]) -> list[ScoreTable]:
    """Every table for which the study has results.

    Args:
        design: What was compared.
        results: From `collect_results`.
    """
    scores = _TestScores(design, results)
    tables = [_systems(scores, split) for split in design.splits]
    tables += [_transfer(scores), _joint_weights(scores), _other_systems(scores)]
    tables += [_comparisons(result, split) for result in results for split in design.splits]
    if design.select_on != "validation":
        tables = [replace(table, caption=f"{OPTIMISTIC} {table.caption}") for table in tables]
    return [table for table in tables if table.rows]


def markdown(tables: Sequence[ScoreTable]) -> str:
    """All tables as one Markdown text."""
    sections = (section(table.title, [table.caption, "", *table_lines(table)]) for table in tables)
    return "\n".join(line for lines in sections for line in lines)


class _TestScores:
    """Scores of the test set, looked up as the cells of a table need them."""

    def __init__(self, design: StudyDesign, results: Sequence[TaskResults]) -> None:
        self.design = design
        self.tasks = [str(result.task) for result in results]
        self.has_published = any(published_score("accuracy", task=task, system="d", split=1) for task in self.tasks)
        self._scores = {
            (score.task, score.split, System(score.model, score.stage), score.metric): score
            for result in results
            for score in result.scores
            if score.set == "test"
        }

    def has(self, system: System, split: int | None = None) -> bool:
        return any(key[2] == system and split in (None, key[1]) for key in self._scores)

    def cell(self, task: str, split: int, system: System, metric: str) -> Number | None:
        score = self._scores.get((task, split, system, metric))
        # A system without a segmenter has no Dice; other scores without a value are printed as undefined.
        if score is None or (metric == "dice" and score.value is None):
            return None
        return Number(score.value, score.low, score.high, score.deviation)

    def headings(self, columns: Sequence[str]) -> Iterator[str]:
        """The columns, each followed by one for the paper's numbers if it has any."""
        for column in columns:
            yield from (column, "paper") if self.has_published else (column,)

    def cells(self, ours: Sequence[Cell], published: Sequence[PublishedScore | None]) -> Iterator[Cell]:
        """The cells below `headings`."""
        for cell, score in zip(ours, published, strict=True):
            yield from (cell, _published(score)) if self.has_published else (cell,)


def _published(score: PublishedScore | None) -> Number | None:
    return None if score is None else Number(score.value, deviation=score.deviation, decimals=4)


def _systems(scores: _TestScores, split: int) -> ScoreTable:
    """Tables 2 and 3: every network on one split."""
    networks = [network for network in NETWORKS if scores.has(network.system, split)]
    rows = []
    for metric, task in product(_METRICS, scores.tasks):
        ours = [scores.cell(task, split, network.system, metric) for network in networks]
        published = [
            published_score(metric, task=task, system=network.letter, split=split, table=split + 1)
            for network in networks
        ]
        if any(ours):
            rows.append((METRIC_NAMES[metric], task, *scores.cells(ours, published)))
    return ScoreTable(
        ("score", "task", *scores.headings([str(network) for network in networks])),
        rows,
        _CAPTION,
        name={1: "table-2", 2: "table-3"}.get(split, f"split-{split}"),
        title=f"All systems, split {split} (the paper's Tables 2 and 3)",
        keys=2,
    )


def _transfer(scores: _TestScores) -> ScoreTable:
    """Table 4: one row per split and task."""
    rows = []
    for split, task in product(scores.design.splits, scores.tasks):
        ours = [scores.cell(task, split, TRANSFER, metric) for metric in _CLASSIFICATION]
        published = [published_score(metric, task=task, system="automatic", split=split) for metric in _CLASSIFICATION]
        if any(ours):
            rows.append((str(split), task, *scores.cells(ours, published)))
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
    task, split = str(design.weighted_task), design.splits[0]
    default = design.protocol.training.joint_weight
    for weight in sorted({*design.joint_weights, default}):
        system = JOINT if weight == default else System(weighted_system(weight), JOINT.stage)
        ours = [scores.cell(task, split, system, metric) for metric in _METRICS]
        published = [
            published_score(metric, task=task, system=f"d, lambda {weight}", split=split) for metric in _METRICS
        ]
        if any(ours):
            rows.append((f"{weight:g}", *scores.cells(ours, published)))
    return ScoreTable(
        ("λ", *scores.headings([METRIC_NAMES[metric] for metric in _METRICS])),
        rows if len(rows) > 1 else (),
        _CAPTION,
        name="table-5",
        title=f"Joint training with other λ, task {task}, split {split} (the paper's Table 5)",
    )


def _other_systems(scores: _TestScores) -> ScoreTable:
    """Table 6, with single measures of the reference mask beside it."""
    systems = [RADIOMICS, *(System(measure, CLASSIFY.name) for measure in MEASURES), JOINT]
    present = [system for system in systems if scores.has(system)]
    letters = ("radiologists", "svm", "d") if scores.has_published else ()
    rows: list[tuple[Cell, ...]] = []
    for metric, split, task in product(("accuracy", "auc"), scores.design.splits, scores.tasks):
        ours = [scores.cell(task, split, system, metric) for system in present]
        published = [_published(published_score(metric, task=task, system=letter)) for letter in letters]
        if any(ours):
            rows.append((METRIC_NAMES[metric], str(split), task, *ours, *published))
    paper = ("paper: radiologists", "paper: SVM", "paper: cascade") if scores.has_published else ()
    return ScoreTable(
        ("score", "split", "task", *(title_of(system) for system in present), *paper),
        rows if len(present) > 1 else (),
        _CAPTION,
        name="table-6",
        title="Beside radiomics and single measures of the reference mask (the paper's Table 6)",
        keys=3,
    )


def _comparisons(result: TaskResults, split: int) -> ScoreTable:
    """The pairs that Holm's correction covers together."""
    compared = [pair for pair in result.comparisons if pair.split == split and pair.difference is not None]
    caption = (
        "Test set. p is over patients; Holm's correction is over all pairs and scores of this table. p retrained also "
        "includes the variation between trainings: use it for conclusions about a method."
    )
    return ScoreTable(
        ("A - B", "score", "difference [95 %]", "p", "p (Holm)", "p retrained (Holm)", "test"),
        list(map(_comparison, compared)),
        caption,
        name=f"comparisons-{result.task.file_name}-split{split}",
        title=f"Paired comparisons, task {result.task}, split {split}",
        keys=2,
    )


def _comparison(pair: Comparison) -> tuple[Cell, ...]:
    a, b = title_of(System(pair.model_a, pair.stage_a)), title_of(System(pair.model_b, pair.stage_b))
    difference = Number(pair.difference, pair.low, pair.high, signed=True)
    p_values = (None if p is None else PValue(p) for p in (pair.p, pair.p_holm, pair.p_retrained_holm))
    return f"{a} - {b}", METRIC_NAMES[pair.metric], difference, *p_values, pair.test
