"""What a page is made of, and the page: one HTML file with everything inside it, and the figures as files beside it.

A page has sections of blocks. Each kind of block has a template. Tables are data until a page, a Markdown file or a
terminal prints them.
"""

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from ggn_tf.shown_text import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ggn_tf.evaluation.statistics.run_scores import Estimate
    from ggn_tf.evaluation.statistics.score_records import RepeatedScore


class Block(Protocol):
    """A part of a section; the template prints it under the name `block`."""

    template: ClassVar[str]


@dataclass(frozen=True)
class Prose:
    """A paragraph; `warning` gives it a conspicuous border."""

    template: ClassVar[str] = "prose.html"

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn when the page is written; the name is of its PNG and SVG, without suffix."""

    template: ClassVar[str] = "figures.html"

    name: str
    caption: str
    draw: Callable[[], "Figure"]


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading and an address; consecutive drawings are side by side where there is room."""

    anchor: str
    title: str
    blocks: Sequence[Block] = ()
    inner: Sequence["Section"] = ()


@dataclass(frozen=True)
class Page:
    """A whole report: title, a line below it, what a reader must know first, and sections in the order of reading."""

    title: str
    subtitle: str
    blocks: Sequence[Block]
    sections: Sequence[Section]


ASSUMPTIONS = (
    "What the paper leaves open, and what differs here, is listed in the documentation of ggn_tf, on the page "
    "Assumptions (docs/assumptions.md)."
)
NOT_A_DEVICE = "For research. This is not a medical device: no output may guide the care of a patient."


def write_page(page: Page, path: Path, figures: Path) -> None:
    """Write a report: one HTML file that needs no network and no other file, and its figures as PNG and SVG."""
    path.write_text(page_html(page, figures), encoding="utf-8")


def page_html(page: Page, figures: Path = Path()) -> str:
    """The HTML of a page; its figures are written to a folder."""
    template = _environment().get_template("page.html")
    return template.render(page=page, not_a_device=NOT_A_DEVICE, svg=partial(_drawn, figures=figures))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ggn_tf.evaluation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["assumptions"] = ASSUMPTIONS
    environment.filters.update(arranged=_arranged, text=cell_text, detail=cell_detail)
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    environment.tests["link"] = lambda cell: isinstance(cell, Link)
    return environment


def _arranged(blocks: Iterable[Block]) -> list[tuple[str, Block | list[Block]]]:
    """Each block with its template; consecutive drawings together, as one row of figures."""
    arranged: list[tuple[str, Block | list[Block]]] = []
    for is_drawing, run in groupby(blocks, key=lambda block: isinstance(block, Drawing)):
        if is_drawing:
            arranged.append((Drawing.template, list(run)))
        else:
            arranged += [(block.template, block) for block in run]
    return arranged


def _drawn(drawing: Drawing, figures: Path) -> bytes:
    """The SVG of a figure. The page shows it as an image: inline SVGs of matplotlib share element ids."""
    # Imported here: the page of a prediction has no figure.
    from ggn_tf.evaluation.report.figure_style import save_figure, style

    with style():
        return save_figure(drawing.draw(), figures / drawing.name).read_bytes()


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
