"""Confusion matrices (paper Fig. 4), ROC curves (paper Fig. 5), and the wrong predictions."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ggn_tf.evaluation.report.figure_style import COLOURS, FAINT, INK, WIDTH_INCHES, look, new_figure
from ggn_tf.evaluation.report.page import Cell, Drawing, Link, Number, Prose, Section, Table
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.statistics.curves import RocCurve, roc_curve_with_band
from ggn_tf.evaluation.statistics.predictions_table import probabilities, probability_columns, table_classes
from ggn_tf.evaluation.statistics.scores import class_indices, confusion


def confusion_section(data: ReportData) -> Section | None:
    """One matrix per system, its mean over repeats. None if nothing classifies."""
    drawings = [
        Drawing(
            f"{data.prefix}confusion-{_file_name(name)}",
            f"Confusion matrix, {name}. Rows are true classes; percentages are of the row. {data.caption}",
            partial(draw_confusion, mean_confusion(rows), data.classes, f"{name}, {data.set_name} set{data.mark}"),
        )
        for name, rows in data.classified.items()
    ]
    averaged = [Prose(f"Counts are means over {data.repeats} repeats.")] if data.repeats > 1 else []
    return Section(f"{data.prefix}confusion", "Confusion matrices", [*averaged, *drawings]) if drawings else None


def roc_section(data: ReportData) -> Section | None:
    """The curves of all systems in one figure; None for more than two classes, or if nothing classifies."""
    if len(data.classes) != 2 or not data.classified:
        return None
    curves = {name: roc_curve_with_band(rows, data.replicates, data.seed) for name, rows in data.classified.items()}
    positive = data.classes[1]
    drawing = Drawing(
        f"{data.prefix}roc",
        f"ROC curves for {positive}. Shaded: pointwise percentiles; in brackets the interval of the AUC; "
        f"{data.interval}. {data.caption}",
        partial(draw_roc, curves, positive, f"ROC, {data.set_name} set{data.mark}"),
    )
    return Section(f"{data.prefix}roc", "ROC curves", [drawing])


def mean_confusion(rows: pd.DataFrame) -> np.ndarray:
    """The confusion matrix [C, C] of a system, its mean over repeats."""
    return np.mean([confusion(repeat) for _, repeat in rows.groupby("repeat")], axis=0)


def _file_name(system: str) -> str:
    kept = "".join(letter if letter.isalnum() else "-" for letter in system.lower())
    return "-".join(part for part in kept.split("-") if part)


def draw_confusion(matrix: np.ndarray, classes: tuple[str, ...], title: str) -> Figure:
    """Draw a confusion matrix [C, C], rows being true classes: counts, and shares of each row as colours."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 2.0 + 0.95 * len(classes)
    correct = f"{_count(np.trace(matrix))} of {_count(matrix.sum())} nodules correct"
    figure, axes = new_figure(f"{title}\n{correct}", side, side + 0.3)
    axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=2)
    for (row, column), count in np.ndenumerate(matrix):
        ink = "white" if share[row, column] > 0.68 else INK
        centred: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
        axes.text(column + 0.5, row + 0.42, _count(count), fontsize=16, **centred)
        axes.text(column + 0.5, row + 0.68, f"{share[row, column]:.0%}", **centred)
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
    return figure


def _count(value: float) -> str:
    """A count without decimals; a mean over repeats with one."""
    return f"{value:.0f}" if abs(value - round(value)) < 1e-9 else f"{value:.1f}"


def draw_roc(curves: Mapping[str, RocCurve], positive: str, title: str) -> Figure:
    """Draw the curves of all systems, with their areas in the legend."""
    figure, axes = new_figure(title, WIDTH_INCHES + 0.3 + 0.2 * len(curves))
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
    axes.set(xlabel=f"False positive rate for {positive}", ylabel=f"Sensitivity for {positive}")
    axes.grid(visible=True)
    figure.legend(loc="outside lower left")
    return figure


SHOWN = 40


def failures_section(data: ReportData, shown_cases: Collection[str] = frozenset()) -> Section | None:
    """The wrong predictions of the main system, sorted by confidence; None if nothing classifies."""
    name = data.main_system
    if name is None:
        return None
    rows = data.classified[name]
    wrong = wrong_predictions(rows)
    summary = Prose(f"{name}: {len(wrong)} of {rows['case'].nunique()} nodules are wrong. {data.caption}")
    if wrong.empty:
        return Section(f"{data.prefix}failures", "Failures", [summary])
    heading = ["case", "true class", "prediction", "its probability", "Dice"]
    cells: list[list[Cell]] = [
        [
            Link(case, f"{data.prefix}case-{case}") if case in shown_cases else case,
            label,
            prediction,
            Number(probability),
            None if np.isnan(dice) else Number(dice),
        ]
        for case, label, dice, prediction, probability in wrong.head(SHOWN).itertuples(index=False)
    ]
    if data.nodules is not None:
        heading.append("longest diameter, mm")
        for row, case in zip(cells, wrong["case"], strict=False):
            row.append(Number(data.nodules[case].longest_diameter_mm, decimals=1))
    table = Table(heading, cells, f"The {len(cells)} most confident wrong predictions of {len(wrong)}")
    return Section(f"{data.prefix}failures", "Failures", [summary, table])


def wrong_predictions(rows: pd.DataFrame) -> pd.DataFrame:
    """The wrong predictions of a system, the most confident first: case, label, dice, prediction, probability."""
    classes = table_classes(rows)
    columns = list(probability_columns(probabilities(rows), classes))
    mean = rows.groupby(["case", "label"], as_index=False)[[*columns, "dice"]].mean()
    label, predicted = class_indices(mean)
    table = mean[["case", "label", "dice"]].assign(
        prediction=[classes[index] for index in predicted],
        probability=probabilities(mean)[np.arange(len(mean)), predicted],
    )
    return table[label != predicted].sort_values(["probability", "case"], ascending=[False, True])
