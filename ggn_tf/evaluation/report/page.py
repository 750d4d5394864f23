"""The page: from blocks to one HTML file with everything inside it, and the figures as files beside it."""

import base64
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from string import Template

from ggn_tf.evaluation.report.blocks import Block, Cell, Drawing, Estimate, Link, Markup, Page, Prose, Section, Table
from ggn_tf.evaluation.report.figure_style import save_figure, style

NOT_A_DEVICE = "For research. This is not a medical device: no output may guide the care of a patient."

Draw = Callable[[Drawing], str]


def write_page(page: Page, path: Path, figures: Path) -> None:
    """Write a report: one HTML file that needs no network and no other file, and its figures as PNG and SVG.

    Args:
        page: What it holds.
        path: The file.
        figures: The folder of the figures; made where there are any.
    """
    draw = partial(_drawing, figures=figures)
    template = Template(_resource("page.html"))
    html = template.substitute(
        title=escape(page.title),
        subtitle=escape(page.subtitle),
        style=_resource("page.css"),
        script=_resource("page.js"),
        summary=_blocks(page.blocks, draw),
        contents="\n".join(_entry(section) for section in page.sections),
        sections="\n".join(_section(section, draw, level=2) for section in page.sections),
        not_a_device=escape(NOT_A_DEVICE),
    )
    path.write_text(html, encoding="utf-8")


def _resource(name: str) -> str:
    return files("ggn_tf.evaluation.report").joinpath(name).read_text(encoding="utf-8")


def _entry(section: Section) -> str:
    return f'<li><a href="#{escape(section.anchor)}">{escape(section.title)}</a></li>'


def _section(section: Section, draw: Draw, level: int) -> str:
    parts = [
        f'<section id="{escape(section.anchor)}">',
        f"<h{level}>{escape(section.title)}</h{level}>",
        _blocks(section.blocks, draw),
        *(_section(part, draw, level + 1) for part in section.inner),
        "</section>",
    ]
    return "\n".join(parts)


def _blocks(blocks: Iterable[Block], draw: Draw) -> str:
    return "\n".join(_runs(blocks, draw))


def _runs(blocks: Iterable[Block], draw: Draw) -> Iterator[str]:
    """Drawings that follow each other become one row of figures."""
    for drawings, run in groupby(blocks, key=lambda block: isinstance(block, Drawing)):
        parts = [_block(block, draw) for block in run]
        if drawings:
            yield f'<div class="figures{" many" if len(parts) > 2 else ""}">'
        yield from parts
        if drawings:
            yield "</div>"


def _block(block: Block, draw: Draw) -> str:
    match block:
        case Prose(text, warning):
            return f'<p class="warning">{escape(text)}</p>' if warning else f"<p>{escape(text)}</p>"
        case Table():
            return table_html(block)
        case Drawing():
            return draw(block)
        case Markup(html):
            return html


def _drawing(drawing: Drawing, figures: Path) -> str:
    """As an image, not as inline SVG: two matplotlib figures in one document share element ids."""
    with style():
        svg = save_figure(drawing.draw(), figures / drawing.name)
    data = base64.b64encode(svg.read_bytes()).decode("ascii")
    text = escape(drawing.caption)
    return f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{data}"><figcaption>{text}</figcaption></figure>'


def table_html(table: Table) -> str:
    """A table as HTML, in a frame that scrolls by itself where it is wider than the screen."""
    caption = f'<p class="caption">{escape(table.caption)}</p>\n' if table.caption else ""
    heading = f"<thead>{_row(table.heading, heading=True)}</thead>\n" if table.heading else ""
    body = "\n".join(_row(row, heading=False) for row in table.rows)
    # The focus lets a keyboard scroll it.
    label = escape(table.caption or "Table")
    opening = "<table>" if table.heading else '<table class="facts">'
    return (
        f'{caption}<div class="scroll" tabindex="0" role="group" aria-label="{label}">{opening}\n{heading}'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _row(cells: Iterable[Cell], *, heading: bool) -> str:
    first, *rest = (_cell(cell) for cell in cells)
    tag, scope = ("th", "col") if heading else ("td", "row")
    other = f'<{tag} scope="col">' if heading else f"<{tag}>"
    return f'<tr><th scope="{scope}">{first}</th>' + "".join(f"{other}{cell}</{tag}>" for cell in rest) + "</tr>"


def _cell(cell: Cell) -> str:
    match cell:
        case Link(text, anchor):
            return f'<a href="#{escape(anchor)}">{escape(text)}</a>'
        case Estimate(value, interval):
            return f"{escape(value)} <small>{escape(interval)}</small>" if interval else escape(value)
        case _:
            return escape(cell)
