"""The scores of one run: the last stage's at a glance, then every stage's on every set."""

from html import escape
from typing import Any

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
from ggn_tf.evaluation.statistics.scores import stage_scores


def scores_section(document: dict[str, Any]) -> Section:
    """All scores with their intervals.

    Args:
        document: What `scores.json` holds.
    """
    tables = []
    for name in SETS:
        if name in document:
            heading, rows = score_rows(document, name)
            tables.append(_table(heading, rows, set_title(document, name)))
    if "sites" in document:
        tables.append(_table(*site_rows(document), SITES_TITLE))
    return Section("scores", "Scores", [*tables, *(Prose(line) for line in (intervals(document), *notes(document)))])


def tiles(document: dict[str, Any]) -> list[Markup | Prose]:
    """The last stage's test scores, large; nothing for a run without a test case."""
    if "test" not in document:
        return []
    stages = tuple(entry["stage"] for entry in document["run"]["stages"])
    stage, scores = list(stage_scores(document, "test", stages).items())[-1]
    counts = document["counts"]["test"]
    shown = [(NAMES[name], scores[name]) for name in NAMES if name in scores and scores[name]["value"] is not None]
    parts = "\n".join(
        f'<div class="tile"><dt>{escape(name)}</dt><dd>{entry["value"]:.3f}<small>{_interval(entry)}</small></dd></div>'
        for name, entry in shown
    )
    chosen = " The weights were selected on this set." if document["run"]["select_on"] == "test" else ""
    told = (
        f"Test set, stage {stage}: {counts['nodules']} nodules of {counts['patients']} other patients of the "
        f"training's own dataset (internal validation).{chosen}"
    )
    return [Markup(f'<dl class="tiles">\n{parts}\n</dl>'), Prose(told)]


def _interval(entry: dict[str, Any]) -> str:
    return "no interval" if entry["low"] is None else f"{entry['low']:.3f} to {entry['high']:.3f}"


def _table(heading: list[str], rows: list[list[str]], caption: str) -> Table:
    return Table(heading, [[*map(cell_of, row)] for row in rows], caption)
