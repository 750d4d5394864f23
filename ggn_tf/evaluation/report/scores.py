"""The scores of one run: those of the last stage in large print, then those of every stage on every set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ggn_tf.evaluation.report.blocks import Block, Prose, Section
from ggn_tf.evaluation.report.run_tables import METRIC_NAMES, interval_note, score_notes, score_tables
from ggn_tf.evaluation.statistics.estimate import Estimate
from ggn_tf.evaluation.statistics.run_scores import Evaluation


@dataclass(frozen=True)
class Tiles:
    """Scores in large print, by their names; all have a value."""

    template: ClassVar[str] = "tiles.html"

    scores: Mapping[str, Estimate]


def scores_section(evaluation: Evaluation) -> Section:
    """All scores with their intervals."""
    remarks = [interval_note(evaluation.scores), *score_notes(evaluation.scores)]
    return Section("scores", "Scores", [*score_tables(evaluation), *map(Prose, remarks)])


def tiles(evaluation: Evaluation) -> list[Block]:
    """The test scores of the last stage; nothing for a run without a test case."""
    test = evaluation.scores.test
    if test is None:
        return []
    stage, scores = list(test.stages.items())[-1]
    defined = {METRIC_NAMES[name]: score for name, score in scores.by_metric().items() if score.value is not None}
    selected = " The weights were selected on this set." if evaluation.run.select_on == "test" else ""
    text = (
        f"Test set, stage {stage}: {test.nodules} nodules of {test.patients} other patients of the same dataset "
        f"(internal validation).{selected}"
    )
    return [Tiles(defined), Prose(text)]
