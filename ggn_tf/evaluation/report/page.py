"""What a page is made of, and the page: one HTML file with everything inside it, and the figures as files beside it.

A page has sections of blocks. Each kind of block has a template; tables are in `cells`.
"""

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from ggn_tf.evaluation.report.cells import Link, cell_detail, cell_text

if TYPE_CHECKING:
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
    environment.filters.update(arranged=_arranged, base64=_base64, text=cell_text, detail=cell_detail)
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


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
