"""A score with its interval in every group of nodules."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from ggn_tf.evaluation.figures.style import COLOURS, FAINT, WIDTH_INCHES, new_figure


class ForestRow(NamedTuple):
    """A group's score, or a heading above groups; `value` is None where there is no score, which `label` explains."""

    label: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    heading: bool = False


def draw_forest(rows: Sequence[ForestRow], whole: float, score: str, title: str) -> Figure:
    """Draw a row a group.

    Args:
        rows: From top to bottom.
        whole: The score of all nodules, a line across.
        score: Its name.
        title: What it shows.
    """
    figure, axes = new_figure(WIDTH_INCHES, 1.1 + 0.25 * len(rows))
    axes.axvline(whole, color=FAINT, linewidth=1, linestyle=(0, (4, 2)))
    for place, row in enumerate(rows):
        if row.value is None:
            continue
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place, place], color=COLOURS[0], linewidth=1.6)
        axes.plot(row.value, place, marker="o", markersize=6, color=COLOURS[0])
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.heading else "normal")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    axes.set_xlabel(score)
    # Above the labels too, which are long.
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure
