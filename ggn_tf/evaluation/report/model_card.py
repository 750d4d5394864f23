"""The model card of a run: what the model is and is for, its scores and its limits.

The parts that every card shares are here; the cards of an export and of a study add theirs.
"""

from collections.abc import Sequence

import pandas as pd

from ggn_tf.evaluation.report.cells import cell_line, score_cell
from ggn_tf.evaluation.report.markdown import fact_lines, section, table_lines
from ggn_tf.evaluation.report.run_tables import (
    data_facts,
    interval_note,
    score_notes,
    score_tables,
    sets_table,
    training_facts,
    training_table,
)
from ggn_tf.evaluation.statistics.run_scores import Evaluation, StageScores

METHOD = "Method: Wang et al. 2021, doi:10.1016/j.compmedimag.2020.101814."

LIMITS = (
    "It does not find nodules: a radiologist has found them, and their centres are given.",
    "It returns probabilities for any patch, also for one of a vessel or a solid nodule.",
    "It knows only the classes of its task; a nodule of another kind is assigned to one of them.",
    "Its probabilities follow the class frequencies of the training data and are not calibrated; the report shows the "
    "calibration error.",
    "The scores apply to nodules like those of the dataset: its scanners, patients and readers. Its performance on "
    "others is unknown until it is tested on them.",
    "Small groups of nodules were tested with few: see the report's table by size, texture and slice spacing.",
)


def run_card(evaluation: Evaluation, frame: pd.DataFrame) -> str:
    """The card of an evaluated run, as Markdown.

    Args:
        evaluation: Its scores, and what was trained.
        frame: Its predictions, from which the nodules of the sets are counted.
    """
    run = evaluation.run
    lines = [
        *heading(run.task.split(",")),
        "",
        *intended_use(),
        "",
        *section("Data", [*fact_lines(data_facts(run)), "", *table_lines(sets_table(frame))]),
        *section("Training", [*fact_lines(training_facts(run)), "", *table_lines(training_table(run))]),
        *section("Scores", _scores(evaluation)),
        *limits(),
    ]
    return "\n".join(lines).rstrip() + "\n"


def heading(class_names: Sequence[str]) -> list[str]:
    """Title and method."""
    return [f"# Classifier of pulmonary ground-glass nodules: {', '.join(class_names)}", "", METHOD]


def intended_use() -> list[str]:
    """What the model is for, and what it is not for."""
    return [
        "## Intended use",
        "",
        "Research on ground-glass nodules that a radiologist has already found on non-contrast chest CT.",
        "",
        "**Not a medical device.** Not for diagnosis, not for a decision on a patient.",
    ]


def limits() -> list[str]:
    """The section on what the model cannot do."""
    return section("Limits", [f"- {limit}" for limit in LIMITS])


def score_lines(scores: StageScores) -> list[str]:
    """One line per score, with its interval."""
    return [f"{name}: {cell_line(score_cell(score))}" for name, score in scores.by_metric().items()]


def optimism_warning(select_on: str | None) -> list[str]:
    """A warning if the weights were selected on the test set."""
    if select_on != "test":
        return []
    return ["The weights were selected on the test set, as in the paper: these scores are optimistic."]


def _scores(evaluation: Evaluation) -> list[str]:
    lines = []
    for table in score_tables(evaluation):
        lines += [f"{table.caption}:", "", *table_lines(table), ""]
    warning = [f"**{line}**" for line in optimism_warning(evaluation.run.select_on)]
    return [*lines, " ".join([*warning, interval_note(evaluation.scores), *score_notes(evaluation.scores)])]
