"""The confusion matrix (paper Fig. 4)."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ggn_tf.evaluation.figures.style import INK, new_figure


def draw_confusion(matrix: np.ndarray, classes: tuple[str, ...], title: str) -> Figure:
    """Draw a confusion matrix: counts, and shares of each row, which the colour shows.

    Args:
        matrix: [C, C]; element (i, j) counts nodules of class i that were taken for class j, or is their mean over
            repeats.
        classes: The names of the classes.
        title: What it shows.
    """
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 2.0 + 0.95 * len(classes)
    figure, axes = new_figure(side + 0.3, side)
    axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=2)
    for (row, column), count in np.ndenumerate(matrix):
        ink = "white" if share[row, column] > 0.68 else INK
        place: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
        axes.text(column + 0.5, row + 0.42, _count(count), fontsize=16, **place)
        axes.text(column + 0.5, row + 0.68, f"{share[row, column]:.0%}", **place)
    names = [name.replace("+", "+\n") if len(name) > 8 else name for name in classes]
    middle = np.arange(len(classes)) + 0.5
    axes.set_xticks(middle, names)
    axes.set_yticks(middle, [f"{name}\n(n = {_count(n)})" for name, n in zip(names, matrix.sum(1), strict=True)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.set_xlabel("Predicted class", labelpad=6)
    axes.set_ylabel("True class", labelpad=6)
    right = f"{_count(np.trace(matrix))} of {_count(matrix.sum())} nodules right"
    axes.set_title(f"{title}\n{right}", loc="left")
    return figure


def _count(value: float) -> str:
    """A whole number as it is; a mean over repeats with one decimal."""
    return f"{value:.0f}" if abs(value - round(value)) < 1e-9 else f"{value:.1f}"
