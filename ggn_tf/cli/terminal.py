"""Tables on stdout; progress on stderr: a bar on a terminal, in a log only the lines of what is finished."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ggn_tf.shown_text import one_line

if TYPE_CHECKING:
    import ggn_tf


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
        table.add_row(*map(_as_shown, row))
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _as_shown(cell: str) -> str:
    """The text with the escapes that the output will contain, as the column's width depends on them."""
    encoding = sys.stdout.encoding or "utf-8"
    return one_line(cell).encode(encoding, "backslashreplace").decode(encoding)


# An item of a study takes minutes to hours; the rate of the last half minute says nothing about it.
_STUDY_RATE_S = 6 * 3600


class _Bars:
    """Bars that appear with the first progress, so that what is printed before stays above them."""

    def __init__(self, *columns: TextColumn | BarColumn | MofNCompleteColumn, rate_s: float = 30.0) -> None:
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self._bars = Progress(
            *columns, *times, speed_estimate_period=rate_s, transient=True, console=Console(stderr=True)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars.live.is_started:
            self._bars.stop()

    def _print(self, line: str) -> None:
        self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)


class CountBar(_Bars):
    """A bar that counts a step's units."""

    def __init__(self) -> None:
        super().__init__(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = self._bars.add_task("", total=None)

    def show(self, progress: "ggn_tf.Progress") -> None:
        """Draw a step's progress."""
        self._bars.start()
        step = progress.step.capitalize()
        self._bars.update(self._bar, description=step, completed=progress.done, total=progress.total)


class EpochBars(_Bars):
    """A bar within an epoch, and a line after it."""

    def __init__(self) -> None:
        loss = TextColumn("{task.fields[loss]}")
        super().__init__(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), loss)
        self._bar = self._bars.add_task("", total=None, loss="")

    def show(self, progress: "ggn_tf.TrainingProgress") -> None:
        """Draw a training's progress."""
        self._bars.start()
        if progress.scores:
            scores = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in progress.scores.items())
            self._print(f"{progress.stage:<9} epoch {progress.epoch:>3}  {scores}")
            return
        if progress.loss is None:
            self._bars.reset(self._bar, total=progress.steps, description=f"{progress.stage} epoch {progress.epoch}")
        loss = "" if progress.loss is None else f"loss {progress.loss:.4f}"
        self._bars.update(self._bar, completed=progress.step, loss=loss)


class StudyBars(_Bars):
    """A bar for the study and one for each item at work; a line after each item."""

    def __init__(self) -> None:
        share, what = TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.fields[what]}")
        super().__init__(TextColumn("{task.description}"), BarColumn(), share, what, rate_s=_STUDY_RATE_S)
        self._whole = self._bars.add_task("study", total=1.0, what="")
        self._at_work: dict[str, TaskID] = {}

    def show(self, progress: "ggn_tf.StudyProgress") -> None:
        """Draw a study's progress."""
        from ggn_tf.api.study import REPORT_ITEM

        self._bars.start()
        if progress.item == REPORT_ITEM:
            self._print(progress.what)
            return
        if progress.share == 1.0 and progress.item not in self._at_work:
            # Finished by an earlier call, within no time: the first count is not part of the rate.
            self._bars.reset(self._whole)
        count = f"{progress.items_done} of {progress.items}"
        self._bars.update(self._whole, completed=progress.work_done, what=f"{count} done")
        if progress.share < 1.0:
            if progress.item not in self._at_work:
                self._at_work[progress.item] = self._bars.add_task(f"  {progress.item}", total=1.0, what="")
            self._bars.update(self._at_work[progress.item], completed=progress.share, what=progress.what)
        elif progress.item in self._at_work:
            self._bars.remove_task(self._at_work.pop(progress.item))
            self._print(f"{progress.items_done:>4} of {progress.items}  {progress.item}")
