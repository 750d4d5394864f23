"""Tables and their cells: data until a page, a Markdown file or a terminal prints them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ggn_tf.shown_text import one_line

if TYPE_CHECKING:
    # pandas comes with them, which the page of a prediction does not need.
    from ggn_tf.evaluation.statistics.repeated_score import RepeatedScore
    from ggn_tf.evaluation.statistics.run_scores import Estimate

NOT_GIVEN, UNDEFINED = "-", "undefined"


@dataclass(frozen=True)
class Number:
    """A number, None where undefined, with its interval, its standard deviation over repeats, and how it is printed."""

    value: float | None
    low: float | None = None
    high: float | None = None
    deviation: float | None = None
    decimals: int = 3
    signed: bool = False

    @property
    def text(self) -> str:
        """Value and deviation, for example `0.846 ± 0.012`."""
        if self.value is None:
            return UNDEFINED
        deviation = "" if self.deviation is None else f" ± {self.deviation:.{self.decimals}f}"
        return self._printed(self.value) + deviation

    @property
    def detail(self) -> str:
        """The interval, for example `[0.754, 0.928]`; empty without one."""
        if self.value is None or self.low is None or self.high is None:
            return ""
        return f"[{self._printed(self.low)}, {self._printed(self.high)}]"

    def _printed(self, number: float) -> str:
        return f"{number:{'+' if self.signed else ''}.{self.decimals}f}"


@dataclass(frozen=True)
class PValue:
    """The p of a test."""

    p: float

    @property
    def text(self) -> str:
        """Three decimals; smaller values as an upper limit."""
        return "< 0.001" if self.p < 0.001 else f"{self.p:.3f}"


@dataclass(frozen=True)
class Link:
    """A text that leads to another place of the page."""

    text: str
    anchor: str


@dataclass(frozen=True)
class Label:
    """A text and what qualifies it, in small print below it."""

    text: str
    detail: str


Cell = str | int | Number | PValue | Link | Label | None
"""None is a value that does not exist, such as the Dice of a model without masks."""


@dataclass(frozen=True)
class Table:
    """A table with a caption above it. A list of facts has no heading. The first cell of a row is its heading."""

    template: ClassVar[str] = "table.html"

    heading: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


def score_cell(score: "Estimate | RepeatedScore") -> Number:
    """A score with its interval."""
    return Number(score.value, score.low, score.high)


def cell_text(cell: Cell) -> str:
    """The large print of a cell."""
    if cell is None:
        return NOT_GIVEN
    return str(cell) if isinstance(cell, str | int) else cell.text


def cell_detail(cell: Cell) -> str:
    """The small print of a cell; mostly empty."""
    return cell.detail if isinstance(cell, Number | Label) else ""


def cell_line(cell: Cell) -> str:
    """Both on one line, for example `0.846 ± 0.012 [0.754, 0.928]`."""
    return one_line(f"{cell_text(cell)} {cell_detail(cell)}").rstrip()


UNKNOWN = "not recorded"


def section(title: str, lines: Sequence[str]) -> list[str]:
    """A section of the second level, with an empty line after it."""
    return [f"## {title}", "", *lines, ""]


def fact_lines(facts: Sequence[tuple[str, object]]) -> list[str]:
    """A list of names and values; None is printed as not recorded."""
    return [one_line(f"- {name}: {UNKNOWN if value is None else value}") for name, value in facts]


def table_lines(table: Table) -> list[str]:
    """A table without its caption; a vertical bar in a cell does not end the cell."""
    cells = [[cell_line(cell).replace("|", "\\|") for cell in row] for row in (table.heading, *table.rows)]
    ruled = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return [f"| {' | '.join(row)} |" for row in ruled]
