"""One style for every figure, and how a figure is written: PNG and SVG, the same bytes at every run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colours, distinct for colour-blind readers; the line styles are distinct without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7A5C00", "#56B4E9", "#5B5B5B")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
INK, FAINT, GRID = "#222222", "#767676", "#E6E6E6"

# Intervals of more curves than these hide each other.
FEW = 3
# On a page a figure is about as wide as a telephone; its letters are then as large as the text around it.
WIDTH_INCHES = 4.8

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    # A dollar sign in the name of a class is a dollar sign.
    "text.parse_math": False,
    # Without a fixed salt the ids in an SVG differ between runs.
    "svg.hashsalt": "ggn-tf",
    "figure.dpi": 100,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "savefig.dpi": 200,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in this style, whatever the user's matplotlib settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)  # type: ignore[arg-type]
        yield


def new_figure(
    title: str, height_inches: float = WIDTH_INCHES, width_inches: float = WIDTH_INCHES
) -> tuple[Figure, Axes]:
    """A figure outside pyplot, which keeps no global state and needs no display."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left")
    return figure, axes


def look(index: int) -> dict[str, Any]:
    """Colour and line style of a system by its index, the same in every figure."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index % len(LINES)], "linewidth": 2.0}


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG and SVG; the path has no suffix. Returns the SVG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    svg = path.with_name(path.name + ".svg")
    # A tight box cuts nothing off, however many lines a title or a legend has.
    figure.savefig(path.with_name(path.name + ".png"), bbox_inches="tight")
    # The same layout: to compute it draws all texts.
    figure.set_layout_engine("none")
    figure.savefig(svg, bbox_inches="tight", metadata={"Date": None})
    return svg
