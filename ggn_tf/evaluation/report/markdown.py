"""Parts of Markdown documents, as lines."""

from collections.abc import Sequence

from ggn_tf.evaluation.report.cells import Table, cell_line

UNKNOWN = "not recorded"


def section(title: str, lines: Sequence[str]) -> list[str]:
    """A section of the second level, with an empty line after it."""
    return [f"## {title}", "", *lines, ""]


def fact_lines(facts: Sequence[tuple[str, object]]) -> list[str]:
    """A list of names and values; None is printed as not recorded."""
    return [f"- {name}: {UNKNOWN if value is None else value}" for name, value in facts]


def table_lines(table: Table) -> list[str]:
    """A table without its caption; a vertical bar in a cell does not end the cell."""
    cells = [[cell_line(cell).replace("|", "\\|") for cell in row] for row in (table.heading, *table.rows)]
    ruled = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return [f"| {' | '.join(row)} |" for row in ruled]
