"""The paper's Tables 2 to 6, filled by a study; the paper's numbers stand beside ours where the labels are its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ggn_tf.evaluation.report.markdown import table as markdown_table
from ggn_tf.evaluation.report.summary import NAMES, NOT_GIVEN, OPTIMISTIC
from ggn_tf.evaluation.size_density_baselines import MEASURES
from ggn_tf.evaluation.statistics.comparison import Comparison
from ggn_tf.evaluation.statistics.estimate import UNDEFINED
from ggn_tf.evaluation.statistics.paper_systems import JOINT, NETWORKS, RADIOMICS, TRANSFER, title_of
from ggn_tf.evaluation.statistics.published_scores import PublishedScore, published_score
from ggn_tf.evaluation.statistics.repeats import RepeatedScore
from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.runs.stages import CLASSIFY
from ggn_tf.study.grid import StudyDesign, weighted_system
from ggn_tf.study.results import TaskResults

_CLASSIFICATION = ("accuracy", "average_f1", "mcc", "auc")
_CAPTION = (
    "Mean over repeats ± standard deviation over repeats [95 % patient-bootstrap interval of the mean], test set."
)


@dataclass(frozen=True)
class ScoreTable:
    """A table as a person reads it.

    Attributes:
        name: Of its file, for example `table-2`.
        title: What it shows.
        caption: How to read it.
        heading: A text a column.
        rows: A text a cell.
        keys: How many columns, from the left, tell what a row is of.
    """

    name: str
    title: str
    caption: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    keys: int = 1


def tables_of(question: StudyDesign, results: Sequence[TaskResults]) -> list[ScoreTable]:
    """Every table that the study has an answer for.

    Args:
        question: What was asked.
        results: From `gather`.
    """
    found = _Found(question, results)
    tables = [_systems(found, split) for split in question.splits]
    tables += [_transfer(found), _joint_weights(found), _others(found)]
    tables += [_comparisons(result, split) for result in results for split in question.splits]
    return [_marked(table, question.select_on) for table in tables if table.rows]


class _Found:
    """Scores of the test set, looked up as a table's cell needs them."""

    def __init__(self, question: StudyDesign, results: Sequence[TaskResults]) -> None:
        self.question = question
        self.tasks = [str(result.task) for result in results]
        self._scores = {
            (score.task, score.split, System(score.model, score.stage), score.metric): score
            for result in results
            for score in result.scores
            if score.set == "test"
        }

    def has(self, system: System, split: int | None = None) -> bool:
        return any(key[2] == system and split in (None, key[1]) for key in self._scores)

    def cell(self, task: str, split: int, system: System, metric: str) -> str:
        score = self._scores.get((task, split, system, metric))
        # A system without a segmenter has no Dice; other scores without a value are undefined, and that is said.
        if score is None or (metric == "dice" and score.value is None):
            return NOT_GIVEN
        return score_text(score)


def score_text(score: RepeatedScore) -> str:
    """For example `0.846 ± 0.012 [0.754, 0.928]`; without ± for one repeat."""
    if score.value is None:
        return UNDEFINED
    deviation = "" if score.deviation is None else f" ± {score.deviation:.3f}"
    interval = "" if score.low is None else f" [{score.low:.3f}, {score.high:.3f}]"
    return f"{score.value:.3f}{deviation}{interval}"


def _printed(score: PublishedScore | None) -> str:
    if score is None:
        return NOT_GIVEN
    return f"{score.value:.4f}" + ("" if score.deviation is None else f" ± {score.deviation:.4f}")


def _systems(found: _Found, split: int) -> ScoreTable:
    """Tables 2 and 3: every network on one split."""
    networks = [network for network in NETWORKS if found.has(network.system, split)]
    rows = []
    for metric in (*_CLASSIFICATION, "dice"):
        for task in found.tasks:
            ours = [found.cell(task, split, network.system, metric) for network in networks]
            paper = [
                published_score(metric, task=task, system=network.letter, split=split, table=split + 1)
                for network in networks
            ]
            if set(ours) != {NOT_GIVEN}:
                rows.append((NAMES[metric], task, *_beside(ours, paper, found)))
    name = {1: "table-2", 2: "table-3"}.get(split, f"split-{split}")
    heading = ("score", "task", *_headings([str(network) for network in networks], found))
    title = f"All systems, split {split} (the paper's Tables 2 and 3)"
    return ScoreTable(name, title, _CAPTION, heading, tuple(rows), keys=2)


def _transfer(found: _Found) -> ScoreTable:
    rows = []
    for split in found.question.splits:
        for task in found.tasks:
            ours = [found.cell(task, split, TRANSFER, metric) for metric in _CLASSIFICATION]
            paper = [published_score(metric, task=task, system="automatic", split=split) for metric in _CLASSIFICATION]
            if set(ours) != {NOT_GIVEN}:
                rows.append((str(split), task, *_beside(ours, paper, found)))
    heading = ("split", "task", *_headings([NAMES[metric] for metric in _CLASSIFICATION], found))
    title = "The classifier of the reference masks on automatic masks (the paper's Table 4)"
    return ScoreTable("table-4", title, _CAPTION, heading, tuple(rows), keys=2)


def _joint_weights(found: _Found) -> ScoreTable:
    question, rows = found.question, []
    task, split = str(question.weighted_task), question.splits[0]
    own = question.protocol.training.joint_weight
    for weight in sorted({*question.joint_weights, own}):
        system = JOINT if weight == own else System(weighted_system(weight), JOINT.stage)
        metrics = (*_CLASSIFICATION, "dice")
        ours = [found.cell(task, split, system, metric) for metric in metrics]
        named = f"d, lambda {weight}"
        paper = [published_score(metric, task=task, system=named, split=split) for metric in metrics]
        if set(ours) != {NOT_GIVEN}:
            rows.append((f"{weight:g}", *_beside(ours, paper, found)))
    heading = ("λ", *_headings([NAMES[metric] for metric in (*_CLASSIFICATION, "dice")], found))
    title = f"Joint training with other λ, task {task}, split {split} (the paper's Table 5)"
    return ScoreTable("table-5", title, _CAPTION, heading, tuple(rows) if len(rows) > 1 else ())


def _others(found: _Found) -> ScoreTable:
    """Table 6, with what needs no learning of images beside it."""
    systems = [RADIOMICS, *(System(measure, CLASSIFY.name) for measure in MEASURES), JOINT]
    present = [system for system in systems if found.has(system)]
    rows = []
    for metric in ("accuracy", "auc"):
        for split in found.question.splits:
            for task in found.tasks:
                ours = [found.cell(task, split, system, metric) for system in present]
                paper = [published_score(metric, task=task, system=name) for name in ("radiologists", "svm", "d")]
                printed = [_printed(score) for score in paper] if _of_the_paper(found) else []
                if set(ours) != {NOT_GIVEN}:
                    rows.append((NAMES[metric], str(split), task, *ours, *printed))
    published = ("paper: radiologists", "paper: SVM", "paper: cascade") if _of_the_paper(found) else ()
    heading = ("score", "split", "task", *(title_of(system) for system in present), *published)
    title = "Beside radiomics and single measures of the reference mask (the paper's Table 6)"
    return ScoreTable("table-6", title, _CAPTION, heading, tuple(rows) if len(present) > 1 else (), keys=3)


def _comparisons(result: TaskResults, split: int) -> ScoreTable:
    """The pairs that Holm's correction takes together."""
    compared = [one for one in result.comparisons if one.split == split and one.difference is not None]
    caption = (
        "Test set. p is over patients; Holm's correction is over all pairs and scores of this table. "
        "p retrained also counts how much another training moves the difference: it is the one to read for a method."
    )
    return ScoreTable(
        f"comparisons-{result.task.file_name}-split{split}",
        f"Paired comparisons, task {result.task}, split {split}",
        caption,
        ("A - B", "score", "difference [95 %]", "p", "p (Holm)", "p retrained (Holm)", "test"),
        tuple(map(_comparison, compared)),
        keys=2,
    )


def _comparison(one: Comparison) -> tuple[str, ...]:
    interval = NOT_GIVEN if one.low is None else f"[{one.low:+.3f}, {one.high:+.3f}]"
    of_a, of_b = title_of(System(one.model_a, one.stage_a)), title_of(System(one.model_b, one.stage_b))
    p_values = (_p_value(p) for p in (one.p, one.p_holm, one.p_retrained_holm))
    return f"{of_a} - {of_b}", NAMES[one.metric], f"{one.difference:+.3f} {interval}", *p_values, one.test


def _p_value(p: float | None) -> str:
    if p is None:
        return NOT_GIVEN
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _of_the_paper(found: _Found) -> bool:
    return any(published_score("accuracy", task=task, system="d", split=1) for task in found.tasks)


def _headings(columns: Sequence[str], found: _Found) -> Iterator[str]:
    for column in columns:
        yield column
        if _of_the_paper(found):
            yield "paper"


def _beside(ours: Sequence[str], paper: Sequence[PublishedScore | None], found: _Found) -> Iterator[str]:
    for text, printed in zip(ours, paper, strict=True):
        yield text
        if _of_the_paper(found):
            yield _printed(printed)


def _marked(table: ScoreTable, select_on: str) -> ScoreTable:
    if select_on == "validation":
        return table
    return replace(table, caption=f"{OPTIMISTIC} {table.caption}")


def markdown(tables: Sequence[ScoreTable]) -> str:
    """All tables as one Markdown text."""
    return "\n".join(_markdown(table) for table in tables)


def _markdown(table: ScoreTable) -> str:
    body = "\n".join(markdown_table(table.heading, table.rows))
    return f"## {table.title}\n\n{table.caption}\n\n{body}\n"
