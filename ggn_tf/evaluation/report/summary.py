"""The evaluation of one run as plain text for the terminal."""

import io

from rich.console import Console
from rich.padding import Padding
from rich.table import Table as TextTable
from rich.text import Text

from ggn_tf.evaluation.report.cells import Cell, Table, cell_line
from ggn_tf.evaluation.report.run_tables import interval_note, score_notes, score_tables, selection
from ggn_tf.evaluation.statistics.run_scores import Evaluation


def summarise(evaluation: Evaluation) -> str:
    """The scores as plain text: one table per set, one row per stage, one column per score."""
    run = evaluation.run
    blocks = [
        f"{run.model}, task {run.task}, split {run.split}, seed {run.seed}\n{selection(run)}",
        *(f"{table.caption}\n{text_table(table)}" for table in score_tables(evaluation)),
        "\n".join([interval_note(evaluation.scores), *score_notes(evaluation.scores)]),
    ]
    return "\n\n".join(blocks)


def text_table(table: Table) -> str:
    """A table with aligned columns, without its caption; lines are as long as they need to be."""
    aligned = TextTable(box=None, padding=(0, 2, 0, 0), header_style="")
    for cell in table.heading:
        aligned.add_column(_text(cell))
    for row in table.rows:
        aligned.add_row(*map(_text, row))
    console = Console(file=io.StringIO(), width=10_000)
    with console.capture() as captured:
        console.print(Padding(aligned, (0, 0, 0, 2)))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _text(cell: Cell) -> Text:
    """Not as a string, in which rich would read brackets as markup."""
    return Text(cell_line(cell), no_wrap=True)
