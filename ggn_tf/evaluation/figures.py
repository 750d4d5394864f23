"""Figures of a run (paper Fig. 4 and 5): confusion matrices, ROC curves and the Dice of every nodule, PNG and SVG."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from ggn_tf.evaluation.scores import class_indices, confusion, gives_dice, gives_probabilities
from ggn_tf.evaluation.table import probabilities, table_classes

# Okabe and Ito's colours, told apart by colour-blind readers too; the line styles tell them apart without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
LINES = ("-", "--", "-.", ":")
INK = "#222222"

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    # A dollar sign in a class's name is a dollar sign.
    "text.parse_math": False,
    # Without a fixed salt the ids in an SVG are drawn anew at every run.
    "svg.hashsalt": "ggn-tf",
    "figure.dpi": 100,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
    "savefig.dpi": 150,
}


def write_figures(frame: pd.DataFrame, folder: Path, select_on: str, set_name: str = "test") -> dict[str, Path]:
    """Draw every figure of one run's set.

    Args:
        frame: A checked predictions table of one run.
        folder: Made where it does not exist; `<name>.png` and `<name>.svg` are written.
        select_on: The set that selected the weights; figures of the same set say so.
        set_name: Of the nodules that are drawn.

    Returns:
        For each figure its caption and SVG file, in the order of reading; a PNG of the same name lies beside each.
        Nothing for an empty set.
    """
    part = frame[frame["set"] == set_name]
    stages = {str(stage): rows for stage, rows in part.groupby("stage", sort=False)}
    classified = {stage: rows for stage, rows in stages.items() if gives_probabilities(rows)}
    segmented = {stage: rows for stage, rows in stages.items() if gives_dice(rows)}
    subject = f"{set_name} set" + ("\nweights selected on this set" if select_on == set_name else "")
    written = {}
    with _style():
        for stage, rows in classified.items():
            figure = draw_confusion(rows, f"Stage {stage}, {subject}")
            written[f"Confusion matrix, stage {stage}"] = _save(figure, folder / f"confusion-{stage}")
        if classified and len(table_classes(frame)) == 2:
            written["ROC curves"] = _save(draw_roc(classified, f"ROC, {subject}"), folder / "roc")
        if segmented:
            written["Dice of every nodule"] = _save(draw_dice(segmented, f"Dice, {subject}"), folder / "dice")
    return written


def draw_confusion(frame: pd.DataFrame, title: str) -> Figure:
    """Draw a confusion matrix: counts, and shares of each row, which the colour shows.

    Args:
        frame: Rows of one stage and set, with probabilities.
        title: Its first line.
    """
    classes, matrix = table_classes(frame), confusion(frame)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 2.4 + 1.15 * len(classes)
    figure, axes = _new_figure(side + 0.4, side)
    axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=2)
    for (row, column), count in np.ndenumerate(matrix):
        ink = "white" if share[row, column] > 0.68 else INK
        place: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
        axes.text(column + 0.5, row + 0.42, str(count), fontsize=18, **place)
        axes.text(column + 0.5, row + 0.68, f"{share[row, column]:.0%}", fontsize=12, **place)
    names = [name.replace("+", "+\n") if len(name) > 8 else name for name in classes]
    middle = np.arange(len(classes)) + 0.5
    axes.set_xticks(middle, names)
    axes.set_yticks(middle, [f"{name}\n(n = {n})" for name, n in zip(names, matrix.sum(1), strict=True)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.set_xlabel("Predicted class", labelpad=8)
    axes.set_ylabel("True class", labelpad=8)
    axes.set_title(f"{title}\n{np.trace(matrix)} of {matrix.sum()} nodules right", loc="left")
    return figure


def draw_roc(stages: dict[str, pd.DataFrame], title: str) -> Figure:
    """Draw the ROC curves of all stages, the AUC in the legend.

    Args:
        stages: For each stage its rows of one set, two classes; the second class is the positive one.
        title: What it shows.
    """
    figure, axes = _new_figure(6.4, 6.4)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=(0, (1, 3)))
    positive = table_classes(next(iter(stages.values())))[1]
    for index, (stage, rows) in enumerate(stages.items()):
        label, _ = class_indices(rows)
        score = probabilities(rows)[:, 1]
        look: dict[str, Any] = {
            "color": COLOURS[index % len(COLOURS)],
            "linestyle": LINES[index % len(LINES)],
            "linewidth": 2.2,
        }
        if len(np.unique(label)) == 2:
            false, true, _ = roc_curve(label, score, drop_intermediate=False)
            axes.plot(false, true, label=f"{stage}: AUC {roc_auc_score(label, score):.3f}", **look)
        else:
            axes.plot([], [], label=f"{stage}: no AUC, one class only", **look)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel(f"False positive rate (1 − specificity) for {positive}")
    axes.set_ylabel(f"True positive rate (sensitivity) for {positive}")
    axes.set_title(f"{title}\n{len(next(iter(stages.values())))} nodules", loc="left")
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", frameon=False)
    return figure


def draw_dice(stages: dict[str, pd.DataFrame], title: str) -> Figure:
    """Draw the Dice of every nodule, a row a stage, above it the quartiles.

    Args:
        stages: For each stage its rows of one set, with Dice.
        title: What it shows.
    """
    figure, axes = _new_figure(8.0, 1.7 + 1.15 * len(stages))
    for index, rows in enumerate(stages.values()):
        dice = np.sort(rows["dice"].to_numpy(dtype=np.float64))
        axes.scatter(dice, index + 0.16 + 0.24 * _spread(len(dice)), s=16, alpha=0.6, linewidths=0, color=COLOURS[0])
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
    means = {stage: rows["dice"].mean() for stage, rows in stages.items()}
    axes.set_yticks(range(len(stages)), [f"{stage}\nmean {mean:.3f}" for stage, mean in means.items()])
    axes.set_ylim(len(stages) - 0.45, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("Dice of a nodule (box: quartiles and median; whiskers: 5% to 95%)")
    axes.set_title(f"{title}\n{len(next(iter(stages.values())))} nodules", loc="left")
    return figure


def _new_figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    """A figure outside pyplot: nothing global is kept, and no display is looked for."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _spread(points: int) -> np.ndarray:
    """Heights in [0, 1] that keep neighbouring points apart and are the same at every run (golden ratio sequence)."""
    heights: np.ndarray = (np.arange(points) * 0.618034) % 1.0
    return heights


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)  # type: ignore[arg-type]
        yield


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".png"))
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    return path.with_suffix(".svg")
