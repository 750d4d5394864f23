"""What a section is made of: prose, tables, drawings and markup, none of them HTML files yet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib.figure import Figure


class Link(NamedTuple):
    """A text that leads to another place of the page."""

    text: str
    anchor: str


class Estimate(NamedTuple):
    """A value, and small below it its interval, or whatever qualifies it."""

    value: str
    interval: str


Cell = str | Link | Estimate


@dataclass(frozen=True)
class Prose:
    """A paragraph; `warning` gives it a border that nobody overlooks."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        heading: A cell a column; none for a list of facts.
        rows: Cells; the first of a row is its heading.
        caption: What it shows, above it.
    """

    heading: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn when the page is written, one at a time.

    Attributes:
        name: Of the PNG and SVG, without suffix.
        caption: What it shows and of how many.
        draw: Draws it.
    """

    name: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Markup:
    """HTML that a section wrote itself, every text in it escaped."""

    html: str


Block = Prose | Table | Drawing | Markup


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading.

    Attributes:
        anchor: Its address in the page.
        title: Its heading.
        blocks: From top to bottom; drawings that follow each other stand side by side where there is room.
        inner: Sections within it.
    """

    anchor: str
    title: str
    blocks: Sequence[Block] = ()
    inner: Sequence["Section"] = ()


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: What was evaluated.
        subtitle: A line below it.
        blocks: What a reader must know first.
        sections: In the order of reading.
    """

    title: str
    subtitle: str
    blocks: Sequence[Block]
    sections: Sequence[Section]


def cell_of(text: str) -> Cell:
    """A text as a cell; an interval in brackets at its end is shown small below it.

    >>> cell_of("0.846 [0.754, 0.928]")
    Estimate(value='0.846', interval='[0.754, 0.928]')
    """
    value, bracket, interval = text.partition(" [")
    return Estimate(value, f"[{interval}") if bracket and text.endswith("]") else text
