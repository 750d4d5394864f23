"""What a page is made of: sections of blocks. Each kind of block has a template; tables are in `cells`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from matplotlib.figure import Figure


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
    """A figure that is drawn when the page is written, one at a time.

    Attributes:
        name: File name of the PNG and SVG, without suffix.
        caption: What it shows, of which set, and the number of nodules.
        draw: Draws it.
    """

    template: ClassVar[str] = "figures.html"

    name: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading.

    Attributes:
        anchor: Its address in the page.
        title: Its heading.
        blocks: From top to bottom; consecutive drawings are placed side by side where there is room.
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
