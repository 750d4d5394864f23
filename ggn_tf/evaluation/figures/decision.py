"""The decision curve: net benefit over the threshold probability."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from ggn_tf.evaluation.decision_curve import DecisionCurve
from ggn_tf.evaluation.figures.style import COLOURS, FEW, INK, WIDTH_INCHES, look, new_figure


def draw_decision(curves: Mapping[str, DecisionCurve], positive: str, title: str) -> Figure:
    """Draw the net benefit of all systems, of a few with intervals, of acting on every nodule and of acting on none.

    Args:
        curves: Of each system.
        positive: The class on which one acts.
        title: What it shows.
    """
    figure, axes = new_figure(WIDTH_INCHES, 4.2 + 0.2 * len(curves))
    some = next(iter(curves.values()))
    axes.plot(some.thresholds, some.treat_all, color=INK, linewidth=1, label=f"act on all as {positive}")
    axes.axhline(0, color=INK, linewidth=1, linestyle=(0, (1, 3)), label="act on none")
    for index, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        if len(curves) <= FEW:
            axes.fill_between(curve.thresholds, curve.low, curve.high, color=colour, alpha=0.1, linewidth=0)
        axes.plot(curve.thresholds, curve.net_benefit, label=name, **look(index))
    top = max(float(np.nanmax(curve.high)) for curve in curves.values()) if curves else 1.0
    axes.set(xlim=(0, 1), ylim=(-0.15 * top, 1.08 * top))
    axes.grid(visible=True)
    axes.set_xlabel(f"Threshold: probability of {positive} to act on")
    axes.set_ylabel("Net benefit, true positives a nodule")
    axes.set_title(title, loc="left")
    figure.legend(loc="outside lower left", ncols=2)
    return figure
