"""ROC curves of all systems with their bootstrap bands (paper Fig. 5)."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from ggn_tf.evaluation.figures.style import COLOURS, FAINT, WIDTH_INCHES, look, new_figure
from ggn_tf.evaluation.roc import RocCurve


def draw_roc(curves: Mapping[str, RocCurve], positive: str, title: str) -> Figure:
    """Draw the curves of all systems, the area in the legend.

    Args:
        curves: Of each system.
        positive: The name of the positive class.
        title: What it shows.
    """
    figure, axes = new_figure(WIDTH_INCHES, WIDTH_INCHES + 0.3 + 0.2 * len(curves))
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (1, 3)))
    for index, (name, curve) in enumerate(curves.items()):
        if curve.auc is None:
            axes.plot([], [], label=f"{name}: no AUC, one class only", **look(index))
            continue
        interval = "" if curve.interval is None else f" [{curve.interval[0]:.3f}, {curve.interval[1]:.3f}]"
        rate, colour = curve.false_positive_rate, COLOURS[index % len(COLOURS)]
        axes.fill_between(rate, curve.low, curve.high, color=colour, alpha=0.12, linewidth=0)
        # The curve begins at the origin, however steeply.
        axes.plot([0, *rate], [0, *curve.sensitivity], label=f"{name}: AUC {curve.auc:.3f}{interval}", **look(index))
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel(f"False positive rate for {positive}")
    axes.set_ylabel(f"Sensitivity for {positive}")
    axes.set_title(title, loc="left")
    axes.grid(visible=True)
    figure.legend(loc="outside lower left")
    return figure
