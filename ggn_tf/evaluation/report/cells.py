"""Tables and their cells: data until a page, a Markdown file or a terminal prints them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ggn_tf.evaluation.statistics.estimate import Estimate
from ggn_tf.evaluation.statistics.repeats import RepeatedScore

NOT_GIVEN, UNDEFINED = "-", "undefined"


@dataclass(frozen=True)
class Number:
    """A number with its interval.

    Attributes:
        value: The number; None is printed as undefined.
        low, high: Its interval; None without one.
        deviation: Standard deviation over repeats; None without one.
        decimals: How many are printed.
        signed: Whether a plus sign is printed, as for differences.
    """

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
    """A table.

    Attributes:
        heading: One cell per column; empty for a list of facts.
        rows: The first cell of a row is its heading.
        caption: What the table shows, printed above it.
    """

    template: ClassVar[str] = "table.html"

    heading: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


def score_cell(score: Estimate | RepeatedScore, *, signed: bool = False) -> Number:
    """A score with its interval."""
    return Number(score.value, score.low, score.high, signed=signed)


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
    return f"{cell_text(cell)} {cell_detail(cell)}".rstrip()
