"""The Dice of every nodule, and what joint training changed of it (paper Fig. 6)."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from ggn_tf.evaluation.figures.style import COLOURS, FAINT, WIDTH_INCHES, new_figure

_MARKS = ("o", "^", "s", "D")


def draw_dice(systems: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw the Dice of every nodule, a row a system, above it the quartiles.

    Args:
        systems: For each its values [N].
        title: What it shows.
    """
    figure, axes = new_figure(WIDTH_INCHES, 1.5 + 0.95 * len(systems))
    for index, values in enumerate(systems.values()):
        dice = np.sort(values)
        axes.scatter(dice, index + 0.16 + 0.24 * _spread(len(dice)), s=12, alpha=0.6, linewidths=0, color=COLOURS[0])
        axes.boxplot(
            dice,
            positions=[index - 0.14],
            orientation="horizontal",
            widths=0.2,
            whis=(5, 95),
            showfliers=False,
            manage_ticks=False,
            medianprops={"color": COLOURS[1], "linewidth": 2.4},
        )
    axes.set_yticks(range(len(systems)), [f"{name}\nmean {values.mean():.3f}" for name, values in systems.items()])
    axes.set_ylim(len(systems) - 0.45, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    axes.set_xlabel("Dice of a nodule")
    axes.set_title(title, loc="left")
    return figure


def draw_change(dice: np.ndarray, score: np.ndarray, label: np.ndarray, classes: tuple[str, ...], title: str) -> Figure:
    """Draw the change of Dice against the change of the class score, a mark a nodule.

    Args:
        dice: After minus before joint training [N].
        score: Of the true class's probability, after minus before [N].
        label: Class index [N].
        classes: Their names.
        title: What it shows.
    """
    figure, axes = new_figure(WIDTH_INCHES, WIDTH_INCHES)
    axes.axhline(0, color=FAINT, linewidth=1)
    axes.axvline(0, color=FAINT, linewidth=1)
    for index, name in enumerate(classes):
        chosen = label == index
        axes.scatter(
            dice[chosen],
            score[chosen],
            s=22,
            alpha=0.7,
            linewidths=0,
            marker=_MARKS[index % len(_MARKS)],
            color=COLOURS[index % len(COLOURS)],
            label=f"{name} (n = {chosen.sum()})",
        )
    for values, set_limits in ((dice, axes.set_xlim), (score, axes.set_ylim)):
        reach = 1.08 * max(float(np.abs(values).max()), 0.05)
        set_limits(-reach, reach)
    axes.grid(visible=True)
    axes.set_xlabel("Change of Dice")
    axes.set_ylabel("Change of the true class's probability")
    axes.set_title(title, loc="left")
    figure.legend(loc="outside lower left", ncols=min(len(classes), 2))
    return figure


def _spread(points: int) -> np.ndarray:
    """Heights in [0, 1] that keep neighbouring points apart and are the same at every run (golden ratio sequence)."""
    heights: np.ndarray = (np.arange(points) * 0.618034) % 1.0
    return heights
