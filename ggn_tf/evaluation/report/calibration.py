"""Calibration before and after temperature scaling, and the decision curve."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ggn_tf.evaluation.report.blocks import Block, Cell, Drawing, Estimate, Prose, Section, Table
from ggn_tf.evaluation.report.figure_style import COLOURS, FAINT, FEW, INK, WIDTH_INCHES, look, new_figure
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.statistics.calibration import ReliabilityBin, reliability_curve, score_calibration
from ggn_tf.evaluation.statistics.decision_curve import DecisionCurve, decision_curve
from ggn_tf.evaluation.statistics.repeats import RepeatedScore
from ggn_tf.evaluation.statistics.temperature import scale_by_temperature

NAMES = {
    "ece": "ECE",
    "ece_by_chance": "ECE by chance",
    "brier": "Brier score",
    "in_the_large": "observed less predicted",
    "slope": "slope",
}


def calibration_section(data: ReportData) -> Section | None:
    """Reliability curves and scores as the networks answer and after temperature scaling; None without classifiers.

    The temperature is fitted on each run's validation set; without one there is no scaling.
    """
    if not data.cells:
        return None
    blocks: list[Block] = [_curves(data, "as predicted", "reliability"), *_scores(data, "As predicted")]
    explained = (
        "ECE is the mean distance of predicted and observed shares, over bins of equal numbers. Chance alone makes it "
        "positive: the second column is what it would be on average, were the probabilities exactly right. A slope "
        "below 1 means too sure."
    )
    if not _has_validation(data):
        return Section(f"{data.prefix}calibration", "Calibration", [*blocks, Prose(explained)])
    scaled, temperatures = scale_by_temperature(data.frame)
    after = data.of(scaled)
    blocks.insert(1, _curves(after, "temperature scaled", "reliability-scaled"))
    blocks += _scores(after, "After temperature scaling")
    told = f"{explained} Temperatures, fitted on the validation set: {_temperatures(data, temperatures)}."
    return Section(f"{data.prefix}calibration", "Calibration", [*blocks, Prose(told)])


def decision_section(data: ReportData) -> Section | None:
    """Net benefit of all systems; None for more than two classes, or without classifiers."""
    curves = {name: decision_curve(cell, data.resampling) for name, cell in data.cells.items()}
    drawn = {name: curve for name, curve in curves.items() if curve is not None}
    if not drawn:
        return None
    positive = data.classes[1]
    drawing = Drawing(
        f"{data.prefix}decision-curve",
        f"Decision curve for acting on {positive}: true positives a nodule, less false ones weighed by the threshold's "
        f"odds. A system is of use where it lies above both acting on all and acting on none. "
        + (f"Shaded: pointwise {data.interval}. " if len(drawn) <= FEW else "")
        + data.caption,
        partial(draw_decision, drawn, positive, f"Decision curve, {data.set_name} set{data.mark}"),
    )
    return Section(f"{data.prefix}decision", "Decision curve", [drawing])


def _has_validation(data: ReportData) -> bool:
    """Whether every system that classifies also answered about the validation set, in every repeat."""
    by = ["model", "stage", "split", "repeat"]
    validation = set(map(tuple, data.frame[data.frame["set"] == "validation"][by].to_numpy()))
    return all(set(map(tuple, rows[by].to_numpy())) <= validation for rows in data.classified.values())


def _curves(data: ReportData, how: str, name: str) -> Drawing:
    curves = {system: reliability_curve(cell, data.resampling) for system, cell in data.cells.items()}
    two = len(data.classes) == 2
    positive = data.classes[-1]
    labels = (
        (f"Predicted probability of {positive}", f"Share of {positive}") if two else ("Highest probability", "Right")
    )
    return Drawing(
        f"{data.prefix}{name}",
        f"Calibration, {how}: on the dotted line a probability comes true as often as it says. Points: bins of equal "
        + (f"numbers; lines through them: {data.interval}. " if len(curves) <= FEW else "numbers. ")
        + data.caption,
        partial(draw_reliability, curves, labels, f"Calibration, {how}, {data.set_name} set{data.mark}"),
    )


def _scores(data: ReportData, title: str) -> list[Table]:
    scores = {
        name: {score.metric: score for score in score_calibration(cell, data.resampling, data.seed)}
        for name, cell in data.cells.items()
    }
    shown = [metric for metric in NAMES if any(metric in of for of in scores.values())]
    rows: list[list[Cell]] = [[name, *(_cell(of.get(metric)) for metric in shown)] for name, of in scores.items()]
    return [Table(["system", *(NAMES[metric] for metric in shown)], rows, f"{title}. {data.caption}")]


def _cell(score: RepeatedScore | None) -> Cell:
    if score is None or score.value is None:
        return "undefined"
    interval = "" if score.low is None else f"[{score.low:.3f}, {score.high:.3f}]"
    return Estimate(f"{score.value:.3f}", interval)


def _temperatures(data: ReportData, temperatures: pd.DataFrame) -> str:
    """Of every system, a value a repeat."""
    told = []
    for name, rows in data.classified.items():
        own = temperatures[
            (temperatures["model"] == rows["model"].iloc[0]) & (temperatures["stage"] == rows["stage"].iloc[0])
        ]
        told.append(f"{name} {', '.join(f'{value:.2f}' for value in own['temperature'])}")
    return "; ".join(told)


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
