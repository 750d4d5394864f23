"""The reliability curve: how often a probability comes true."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from ggn_tf.evaluation.calibration import ReliabilityBin
from ggn_tf.evaluation.figures.style import COLOURS, FAINT, FEW, WIDTH_INCHES, look, new_figure


def draw_reliability(curves: Mapping[str, Sequence[ReliabilityBin]], labels: tuple[str, str], title: str) -> Figure:
    """Draw the curves of all systems, of a few systems with the interval of every bin.

    Args:
        curves: Of each system its bins.
        labels: Of the axes: what is predicted, and what is observed.
        title: What it shows.
    """
    figure, axes = new_figure(WIDTH_INCHES, WIDTH_INCHES + 0.3 + 0.2 * len(curves))
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (1, 3)))
    for index, (name, bins) in enumerate(curves.items()):
        for each in bins:
            if len(curves) <= FEW and each.low is not None and each.high is not None:
                axes.plot([each.predicted] * 2, [each.low, each.high], color=COLOURS[index % len(COLOURS)], alpha=0.35)
        predicted, observed = [each.predicted for each in bins], [each.observed for each in bins]
        axes.plot(predicted, observed, marker="o", markersize=4, label=name, **look(index))
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.grid(visible=True)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.set_title(title, loc="left")
    figure.legend(loc="outside lower left")
    return figure
