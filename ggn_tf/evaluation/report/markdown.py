"""Pieces of Markdown."""

from collections.abc import Sequence

UNKNOWN = "not recorded"


def section(title: str, lines: Sequence[str]) -> list[str]:
    """A part of a card, with an empty line behind it."""
    return [f"## {title}", "", *lines, ""]


def fact_lines(facts_: Sequence[tuple[str, object]]) -> list[str]:
    """A list of facts; what is None is said to be unknown."""
    return [f"- {name}: {UNKNOWN if value is None else value}" for name, value in facts_]


def table(heading_: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; a bar in a cell does not end it."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (heading_, *rows)]
    ruled = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return [f"| {' | '.join(row)} |" for row in ruled]
