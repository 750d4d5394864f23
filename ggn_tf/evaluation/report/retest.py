"""The test-retest analysis: scores and predictions with perturbed inputs, as a table, figures, and one line."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure

from ggn_tf.evaluation.report.figure_style import look, new_figure
from ggn_tf.evaluation.report.page import Block, Cell, Drawing, Number, Prose, Section, Table, cell_line
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.statistics.score_records import (
    AUC,
    CHANGED,
    DICE,
    UNPERTURBED,
    Perturbation,
    Retest,
    RetestScore,
)

_CHANGED_NAME = "changed predictions"
_DRAWN = {DICE: "Dice", CHANGED: "Share of changed predictions"}
_OFFSET = "centre_offset"


def retest_section(data: ReportData, retest: Retest) -> Section:
    """Table and figures of the test set."""
    explained = (
        "The test set predicted again with perturbed inputs. A prediction has changed where the most probable class is "
        "another one than without the perturbation. Centres are off in a random direction, one per nodule and "
        "distance, by whole voxels; Dice is measured with the reference mask cut at the same place. Recentred: the "
        "patch is moved to the centroid of the predicted mask, at most three times. Noise is Gaussian, independent in "
        "each voxel. Slices are averaged to the given thickness, and interpolated back. In brackets "
        f"{data.interval}; a difference that is the same in every replicate has none."
    )
    blocks: list[Block] = [Prose(explained), retest_table(retest)]
    drawings = [
        Drawing(
            f"{data.prefix}retest-{metric}",
            f"{name} by the distance of the centre, with intervals. Stage {retest.stage}. {data.caption}",
            partial(draw_offsets, retest, metric, f"Centre off, {data.set_name} set{data.mark}"),
        )
        for metric, name in _DRAWN.items()
        if any(score.perturbation.amount for score in offset_scores(retest, metric, recentred=False))
    ]
    return Section(f"{data.prefix}test-retest", "Test-retest", [*blocks, *map(Prose, retest_notes(retest)), *drawings])


def retest_table(retest: Retest) -> Table:
    """One row per perturbation, with the scores that the stage has."""
    shown = [metric for metric in (DICE, AUC) if any(score.metric == metric for score in retest.scores)]
    classifies = any(score.metric == CHANGED for score in retest.scores)
    names = {DICE: "Dice", AUC: "AUC"}
    heading = ["input", *(f"{part}{names[metric]}" for metric in shown for part in ("", "change of "))]
    rows: list[list[Cell]] = []
    for perturbation, scores in retest.by_perturbation().items():
        row: list[Cell] = [perturbation_name(perturbation)]
        for metric in shown:
            row += [_value(scores.get(metric)), None if perturbation == UNPERTURBED else _change(scores.get(metric))]
        rows.append([*row, *([_value(scores.get(CHANGED))] if classifies else [])])
    whose = "the test set" if retest.folds is None else f"the test sets of {retest.folds} folds"
    means = "" if retest.folds is None else "; Dice and AUC are means over the folds"
    caption = (
        f"Test-retest, stage {retest.stage}: {retest.nodules} nodules of {retest.patients} patients of {whose}{means}"
    )
    return Table([*heading, *([_CHANGED_NAME] if classifies else [])], rows, caption)


def retest_notes(retest: Retest) -> list[str]:
    """What was left out, and why values or intervals are missing."""
    notes = []
    if retest.left_out_mm:
        distances = ", ".join(f"{distance:g}" for distance in retest.left_out_mm)
        notes.append(
            f"Centres {distances} mm off are left out: the dataset has a margin of {retest.margin_mm:g} mm around each "
            "patch."
        )
    if not any(score.metric == DICE for score in retest.scores):
        notes.append("There is no Dice and no recentring: the model gives no mask.")
    if not any(score.metric == CHANGED for score in retest.scores):
        notes.append("There is no AUC, and no prediction that could change: the stage does not classify.")
    reasons: dict[str, list[str]] = {}
    for score in (score for score in retest.scores if score.reason):
        reasons.setdefault(str(score.reason), []).append(_DRAWN.get(score.metric, "AUC"))
    return [*notes, *(f"{', '.join(dict.fromkeys(names))}: {reason}." for reason, names in reasons.items())]


def retest_line(retest: Retest) -> str:
    """The largest share of changed predictions, or the lowest Dice of a stage that does not classify, by kind."""
    classifies = any(score.metric == CHANGED for score in retest.scores)
    worst: dict[tuple[str, bool], RetestScore] = {}
    for score in (score for score in retest.scores if score.metric == (CHANGED if classifies else DICE)):
        kind = (score.perturbation.kind, score.perturbation.recentred)
        if score.perturbation != UNPERTURBED and (kind not in worst or _harm(score) > _harm(worst[kind])):
            worst[kind] = score
    found = [f"{perturbation_name(score.perturbation)} {cell_line(_value(score))}" for score in worst.values()]
    what = "share of changed predictions" if classifies else "Dice"
    return f"Test-retest of stage {retest.stage}, largest effect of each kind on the {what}: {'; '.join(found)}."


def perturbation_name(perturbation: Perturbation) -> str:
    """A perturbation for a reader."""
    amount = f"{perturbation.amount:g}"
    names = {
        "none": "unperturbed",
        _OFFSET: f"centre {amount} mm off" + (", recentred" if perturbation.recentred else ""),
        "noise": f"noise of {amount} HU",
        "mirror": f"mirrored along {', '.join(perturbation.axes)}",
        "slice_spacing": f"slices of {amount} mm",
    }
    return names[perturbation.kind]


def offset_scores(retest: Retest, metric: str, *, recentred: bool) -> list[RetestScore]:
    """A score over the distance of the centre, in ascending order, from the unperturbed one on."""
    return sorted(
        (
            score
            for score in retest.scores
            if score.metric == metric
            and score.perturbation.recentred is recentred
            and score.perturbation.kind in (_OFFSET, "none")
        ),
        key=lambda score: score.perturbation.amount,
    )


def draw_offsets(retest: Retest, metric: str, title: str) -> Figure:
    """Draw a score over the distance of the centre, without and with recentring."""
    figure, axes = new_figure(title, 3.4)
    for index, (recentred, name) in enumerate({False: "as given", True: "recentred"}.items()):
        scores = offset_scores(retest, metric, recentred=recentred)
        # Side by side, so that the intervals of both can be distinguished.
        at = [score.perturbation.amount + 0.12 * index for score in scores]
        values, low, high = (
            np.array([getattr(score, end) for score in scores], np.float64) for end in ("value", "low", "high")
        )
        if scores:
            axes.plot(at, values, marker="o", label=name, **look(index))
        axes.vlines(at, low, high, color=look(index)["color"], linewidth=1.2)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(visible=True)
    axes.set(xlabel="Distance of the centre, mm", ylabel=_DRAWN[metric])
    figure.legend(loc="outside lower left", ncols=2)
    return figure


def _value(score: RetestScore | None) -> Number | None:
    return None if score is None else Number(score.value, score.low, score.high)


def _change(score: RetestScore | None) -> Number | None:
    if score is None or score.difference is None:
        return None
    return Number(score.difference, score.difference_low, score.difference_high, signed=True)


def _harm(score: RetestScore) -> float:
    value = score.value or 0.0
    return value if score.metric == CHANGED else -value
