"""Calibration before and after temperature scaling, and the decision curve."""

from functools import partial

import pandas as pd

from ggn_tf.evaluation.calibration import reliability_curve, score_calibration
from ggn_tf.evaluation.decision_curve import decision_curve
from ggn_tf.evaluation.evidence import Evidence
from ggn_tf.evaluation.figures.calibration import draw_reliability
from ggn_tf.evaluation.figures.decision import draw_decision
from ggn_tf.evaluation.figures.style import FEW
from ggn_tf.evaluation.repeats import RepeatedScore
from ggn_tf.evaluation.report.blocks import Block, Cell, Drawing, Estimate, Prose, Section, Table
from ggn_tf.evaluation.temperature import temper

NAMES = {
    "ece": "ECE",
    "ece_by_chance": "ECE by chance",
    "brier": "Brier score",
    "in_the_large": "observed less predicted",
    "slope": "slope",
}


def calibration_section(evidence: Evidence) -> Section | None:
    """Reliability curves and scores as the networks answer and after temperature scaling; None without classifiers.

    The temperature is fitted on each run's validation set; without one there is no scaling.
    """
    if not evidence.cells:
        return None
    blocks: list[Block] = [_curves(evidence, "as predicted", "reliability"), *_scores(evidence, "As predicted")]
    explained = (
        "ECE is the mean distance of predicted and observed shares, over bins of equal numbers. Chance alone makes it "
        "positive: the second column is what it would be on average, were the probabilities exactly right. A slope "
        "below 1 means too sure."
    )
    if not _has_validation(evidence):
        return Section(f"{evidence.prefix}calibration", "Calibration", [*blocks, Prose(explained)])
    scaled, temperatures = temper(evidence.frame)
    after = evidence.of(scaled)
    blocks.insert(1, _curves(after, "temperature scaled", "reliability-scaled"))
    blocks += _scores(after, "After temperature scaling")
    told = f"{explained} Temperatures, fitted on the validation set: {_temperatures(evidence, temperatures)}."
    return Section(f"{evidence.prefix}calibration", "Calibration", [*blocks, Prose(told)])


def decision_section(evidence: Evidence) -> Section | None:
    """Net benefit of all systems; None for more than two classes, or without classifiers."""
    curves = {name: decision_curve(cell, evidence.resampling) for name, cell in evidence.cells.items()}
    drawn = {name: curve for name, curve in curves.items() if curve is not None}
    if not drawn:
        return None
    positive = evidence.classes[1]
    drawing = Drawing(
        f"{evidence.prefix}decision-curve",
        f"Decision curve for acting on {positive}: true positives a nodule, less false ones weighed by the threshold's "
        f"odds. A system is of use where it lies above both acting on all and acting on none. "
        + (f"Shaded: pointwise {evidence.interval}. " if len(drawn) <= FEW else "")
        + evidence.caption,
        partial(draw_decision, drawn, positive, f"Decision curve, {evidence.set_name} set{evidence.mark}"),
    )
    return Section(f"{evidence.prefix}decision", "Decision curve", [drawing])


def _has_validation(evidence: Evidence) -> bool:
    """Whether every system that classifies also answered about the validation set, in every repeat."""
    by = ["model", "stage", "split", "repeat"]
    validation = set(map(tuple, evidence.frame[evidence.frame["set"] == "validation"][by].to_numpy()))
    return all(set(map(tuple, rows[by].to_numpy())) <= validation for rows in evidence.classified.values())


def _curves(evidence: Evidence, how: str, name: str) -> Drawing:
    curves = {system: reliability_curve(cell, evidence.resampling) for system, cell in evidence.cells.items()}
    two = len(evidence.classes) == 2
    positive = evidence.classes[-1]
    labels = (
        (f"Predicted probability of {positive}", f"Share of {positive}") if two else ("Highest probability", "Right")
    )
    return Drawing(
        f"{evidence.prefix}{name}",
        f"Calibration, {how}: on the dotted line a probability comes true as often as it says. Points: bins of equal "
        + (f"numbers; lines through them: {evidence.interval}. " if len(curves) <= FEW else "numbers. ")
        + evidence.caption,
        partial(draw_reliability, curves, labels, f"Calibration, {how}, {evidence.set_name} set{evidence.mark}"),
    )


def _scores(evidence: Evidence, title: str) -> list[Table]:
    scores = {
        name: {score.metric: score for score in score_calibration(cell, evidence.resampling, evidence.seed)}
        for name, cell in evidence.cells.items()
    }
    shown = [metric for metric in NAMES if any(metric in of for of in scores.values())]
    rows: list[list[Cell]] = [[name, *(_cell(of.get(metric)) for metric in shown)] for name, of in scores.items()]
    return [Table(["system", *(NAMES[metric] for metric in shown)], rows, f"{title}. {evidence.caption}")]


def _cell(score: RepeatedScore | None) -> Cell:
    if score is None or score.value is None:
        return "undefined"
    interval = "" if score.low is None else f"[{score.low:.3f}, {score.high:.3f}]"
    return Estimate(f"{score.value:.3f}", interval)


def _temperatures(evidence: Evidence, temperatures: pd.DataFrame) -> str:
    """Of every system, a value a repeat."""
    told = []
    for name, rows in evidence.classified.items():
        own = temperatures[
            (temperatures["model"] == rows["model"].iloc[0]) & (temperatures["stage"] == rows["stage"].iloc[0])
        ]
        told.append(f"{name} {', '.join(f'{value:.2f}' for value in own['temperature'])}")
    return "; ".join(told)
