"""The scores of one run: the last stage's at a glance, then every stage's on every set."""

from html import escape

from ggn_tf.evaluation.report.blocks import Markup, Prose, Section, Table, cell_of
from ggn_tf.evaluation.report.summary import (
    NAMES,
    SETS,
    SITES_TITLE,
    intervals,
    notes,
    score_rows,
    set_title,
    site_rows,
)
from ggn_tf.evaluation.statistics.estimate import Estimate, format_value
from ggn_tf.evaluation.statistics.run_scores import Evaluation


def scores_section(evaluation: Evaluation) -> Section:
    """All scores with their intervals."""
    scores = evaluation.scores
    tables = [
        _table(*score_rows(scores.by_set[name]), set_title(evaluation, name)) for name in SETS if name in scores.by_set
    ]
    if evaluation.external_dataset:
        tables.append(_table(*site_rows(evaluation), SITES_TITLE))
    return Section("scores", "Scores", [*tables, *(Prose(line) for line in (intervals(scores), *notes(scores)))])


def tiles(evaluation: Evaluation) -> list[Markup | Prose]:
    """The last stage's test scores, large; nothing for a run without a test case."""
    test = evaluation.scores.test
    if test is None:
        return []
    stage, scores = list(test.stages.items())[-1]
    parts = "\n".join(
        f'<div class="tile"><dt>{escape(NAMES[name])}</dt><dd>{format_value(score)}<small>{_interval(score)}</small>'
        "</dd></div>"
        for name, score in scores.by_metric().items()
        if score.value is not None
    )
    chosen = " The weights were selected on this set." if evaluation.run.select_on == "test" else ""
    text = (
        f"Test set, stage {stage}: {test.nodules} nodules of {test.patients} other patients of the "
        f"training's own dataset (internal validation).{chosen}"
    )
    return [Markup(f'<dl class="tiles">\n{parts}\n</dl>'), Prose(text)]


def _interval(score: Estimate) -> str:
    return "no interval" if score.low is None else f"{score.low:.3f} to {score.high:.3f}"


def _table(heading: list[str], rows: list[list[str]], caption: str) -> Table:
    return Table(heading, [[*map(cell_of, row)] for row in rows], caption)
