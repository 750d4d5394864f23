"""Calibration before and after temperature scaling, and the decision curve."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ggn_tf.evaluation.report.figure_style import COLOURS, FAINT, FEW, INK, WIDTH_INCHES, look, new_figure
from ggn_tf.evaluation.report.page import UNDEFINED, Block, Cell, Drawing, Prose, Section, Table, score_cell
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.statistics.calibration import (
    ReliabilityBin,
    reliability_curve,
    scale_by_temperature,
)
from ggn_tf.evaluation.statistics.curves import DecisionCurve, decision_curve

SCORE_NAMES = {
    "ece": "ECE",
    "ece_by_chance": "ECE by chance",
    "brier": "Brier score",
    "in_the_large": "observed less predicted",
    "slope": "slope",
    "intercept": "intercept",
}


def calibration_section(data: ReportData) -> Section | None:
    """Reliability curves and scores, as predicted and after temperature scaling; None if nothing classifies.

    The temperature is fitted on each run's validation set. Without one nothing is scaled.
    """
    if not data.cells:
        return None
    blocks: list[Block] = [_curves(data, "as predicted", "reliability"), *_scores(data, "As predicted")]
    explained = (
        "ECE is the mean distance between predicted and observed shares, over bins of equal numbers. Chance alone "
        "makes it positive: the second column is its mean if the probabilities were exactly right. A slope below 1 "
        "means overconfidence; an intercept below 0 means that the probabilities are too high. Some slopes are "
        "undefined, and some bootstrap replicates have none, because the probabilities separate the classes. "
        + _left_out(data)
    )
    if not _has_validation(data):
        return Section(f"{data.prefix}calibration", "Calibration", [*blocks, Prose(explained)])
    scaled, temperatures = scale_by_temperature(data.frame)
    after = replace(data, frame=scaled)
    blocks.insert(1, _curves(after, "temperature scaled", "reliability-scaled"))
    blocks += _scores(after, "After temperature scaling")
    explained += f" Temperatures, fitted on the validation set: {_temperatures(data, temperatures)}."
    return Section(f"{data.prefix}calibration", "Calibration", [*blocks, Prose(explained)])


def decision_section(data: ReportData) -> Section | None:
    """Net benefit of all systems; None for more than two classes, or if nothing classifies."""
    curves = {name: decision_curve(cell, data.resampling) for name, cell in data.cells.items()}
    drawn = {name: curve for name, curve in curves.items() if curve is not None}
    if not drawn:
        return None
    positive = data.classes[1]
    drawing = Drawing(
        f"{data.prefix}decision-curve",
        f"Decision curve for acting on {positive}: true positives per nodule, minus false positives weighted by the "
        "odds of the threshold. A system is useful where its curve is above acting on all and acting on none. "
        + (f"Shaded: pointwise {data.interval}. " if len(drawn) <= FEW else "")
        + data.caption,
        partial(draw_decision, drawn, positive, f"Decision curve, {data.set_name} set{data.mark}"),
    )
    return Section(f"{data.prefix}decision", "Decision curve", [drawing])


def _has_validation(data: ReportData) -> bool:
    """Whether every system that classifies has also predicted the validation set, in every repeat."""
    key = ["model", "stage", "split", "repeat"]
    validation = set(map(tuple, data.frame[data.frame["set"] == "validation"][key].to_numpy()))
    return all(set(map(tuple, rows[key].to_numpy())) <= validation for rows in data.classified.values())


def _curves(data: ReportData, how: str, name: str) -> Drawing:
    curves = {system: reliability_curve(cell, data.resampling) for system, cell in data.cells.items()}
    positive = data.classes[-1]
    if len(data.classes) == 2:
        labels = (f"Predicted probability of {positive}", f"Share of {positive}")
    else:
        labels = ("Highest probability", "Share of correct predictions")
    return Drawing(
        f"{data.prefix}{name}",
        f"Calibration, {how}: on the dotted line predicted and observed shares are equal. Points: bins of equal "
        + (f"numbers; vertical lines: {data.interval}. " if len(curves) <= FEW else "numbers. ")
        + data.caption,
        partial(draw_reliability, curves, labels, f"Calibration, {how}, {data.set_name} set{data.mark}"),
    )


def _scores(data: ReportData, title: str) -> list[Table]:
    scores = data.calibration
    shown = [metric for metric in SCORE_NAMES if any(metric in by_metric for by_metric in scores.values())]
    rows: list[list[Cell]] = [
        [name, *(score_cell(by_metric[metric]) if metric in by_metric else UNDEFINED for metric in shown)]
        for name, by_metric in scores.items()
    ]
    return [Table(["system", *(SCORE_NAMES[metric] for metric in shown)], rows, f"{title}. {data.caption}")]


def _left_out(data: ReportData) -> str:
    counts = (
        f"{name} {scores['slope'].left_out} of {data.replicates}"
        for name, scores in data.calibration.items()
        if "slope" in scores and scores["slope"].left_out
    )
    found = "; ".join(counts)
    return f"Replicates without a slope: {found}." if found else "Every replicate has a slope."


def _temperatures(data: ReportData, temperatures: pd.DataFrame) -> str:
    listed = []
    for name, rows in data.classified.items():
        model, stage = rows["model"].iloc[0], rows["stage"].iloc[0]
        fitted = temperatures[(temperatures["model"] == model) & (temperatures["stage"] == stage)]
        listed.append(f"{name} {', '.join(f'{value:.2f}' for value in fitted['temperature'])}")
    return "; ".join(listed)


def draw_reliability(curves: Mapping[str, Sequence[ReliabilityBin]], labels: tuple[str, str], title: str) -> Figure:
    """Draw the curves of all systems, of a few with the bins' intervals; labels of the predicted, then the observed."""
    figure, axes = new_figure(title, WIDTH_INCHES + 0.3 + 0.2 * len(curves))
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (1, 3)))
    for index, (name, bins) in enumerate(curves.items()):
        for point in bins:
            if len(curves) <= FEW and point.low is not None and point.high is not None:
                axes.plot(
                    [point.predicted] * 2, [point.low, point.high], color=COLOURS[index % len(COLOURS)], alpha=0.35
                )
        predicted, observed = [point.predicted for point in bins], [point.observed for point in bins]
        axes.plot(predicted, observed, marker="o", markersize=4, label=name, **look(index))
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.grid(visible=True)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    figure.legend(loc="outside lower left")
    return figure


def draw_decision(curves: Mapping[str, DecisionCurve], positive: str, title: str) -> Figure:
    """Draw the net benefit of all systems, of a few with intervals, of acting on every nodule and on none."""
    figure, axes = new_figure(title, 4.2 + 0.2 * len(curves))
    first = next(iter(curves.values()))
    axes.plot(first.thresholds, first.treat_all, color=INK, linewidth=1, label=f"act on all as {positive}")
    axes.axhline(0, color=INK, linewidth=1, linestyle=(0, (1, 3)), label="act on none")
    for index, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        if len(curves) <= FEW:
            axes.fill_between(curve.thresholds, curve.low, curve.high, color=colour, alpha=0.1, linewidth=0)
        axes.plot(curve.thresholds, curve.net_benefit, label=name, **look(index))
    tops = (curve.net_benefit if np.isnan(curve.high).all() else curve.high for curve in curves.values())
    top = max(float(np.nanmax(values)) for values in tops) if curves else 1.0
    axes.set(xlim=(0, 1), ylim=(-0.15 * top, 1.08 * top))
    axes.grid(visible=True)
    axes.set(xlabel=f"Threshold: probability of {positive} to act on", ylabel="Net benefit, true positives per nodule")
    figure.legend(loc="outside lower left", ncols=2)
    return figure
