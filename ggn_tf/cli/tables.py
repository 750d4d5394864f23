"""Text tables."""

import sys
from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.table import Table

# Where the output is not a terminal, rich would fold the rows at 80 characters.
_WIDTH = 200


def print_table(heading: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    """Print rows as columns.

    Args:
        heading: Titles of the columns.
        rows: Cells.
        left: How many columns are aligned left; the others, numbers, are aligned right.
    """
    table = Table(box=None, pad_edge=False)
    for index, title in enumerate(heading):
        table.add_column(title, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
