"""The model card of a run: what the model is and is for, its scores and its limits.

The cards of an export and of a study are made of the same parts (`templates/card_parts.md`).
"""

from functools import cache

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from ggn_tf.evaluation.report import run_tables
from ggn_tf.evaluation.report.page import ASSUMPTIONS, cell_line, fact_lines, score_cell, table_lines
from ggn_tf.evaluation.report.retest import retest_line
from ggn_tf.evaluation.statistics.run_scores import Evaluation, StageScores
from ggn_tf.shown_text import in_markdown

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
    """The card of an evaluated run, as Markdown."""
    run, scores = evaluation.run, evaluation.scores
    warning = [f"**{line}**" for line in optimism_warning(run.select_on)]
    retest = [] if evaluation.retest is None else [retest_line(evaluation.retest)]
    return render_card(
        "run_card.md",
        class_names=run.task.split(","),
        extent_warnings=run_tables.extent_warnings(evaluation.extent),
        data=run_tables.data_facts(evaluation),
        sets=run_tables.sets_table(frame),
        training=run_tables.training_facts(run),
        stages=run_tables.training_table(evaluation),
        scores=run_tables.score_tables(evaluation),
        remarks=[*warning, run_tables.interval_note(scores), *run_tables.remarks(evaluation), *retest],
    )


def render_card(template: str, **content: object) -> str:
    """Fill the template of a card, as Markdown."""
    return _environment().get_template(template).render(limits=LIMITS, **content).rstrip() + "\n"


@cache
def _environment() -> Environment:
    loader = PackageLoader("ggn_tf.evaluation.report")
    environment = Environment(
        loader=loader,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: in_markdown(value) if isinstance(value, str) else value,
    )
    environment.globals["assumptions"] = ASSUMPTIONS
    environment.filters["facts"] = lambda facts: "\n".join(fact_lines(facts))
    environment.filters["table"] = lambda table: "\n".join(table_lines(table))
    return environment


def score_lines(scores: StageScores) -> list[str]:
    """One line per score, with its interval."""
    return [f"{name}: {cell_line(score_cell(score))}" for name, score in scores.by_metric().items()]


def optimism_warning(select_on: str | None) -> list[str]:
    """A warning if the weights were selected on the test set."""
    if select_on != "test":
        return []
    return ["The weights were selected on the test set, as in the paper: these scores are optimistic."]
