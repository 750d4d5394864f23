"""The Dice of every nodule, what joint training changed (paper Fig. 6), and the error budget of the cascade."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ggn_tf.evaluation.report.figure_style import COLOURS, FAINT, WIDTH_INCHES, new_figure
from ggn_tf.evaluation.report.page import Cell, Drawing, Number, Prose, Section, Table
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.statistics.cascade_changes import (
    BudgetLine,
    ErrorBudget,
    JointChange,
    error_budget,
    paired_stages,
)

_MARKS = ("o", "^", "s", "D")


def segmentation_section(data: ReportData) -> Section | None:
    """The Dice of every nodule, and its change by joint training against the change of the class score.

    None if no system gives masks. Of several repeats the mean Dice of a nodule counts.
    """
    systems = _dice_of_systems(data)
    if not systems:
        return None
    drawing = Drawing(
        f"{data.prefix}dice",
        "Dice of every nodule (points), with quartiles and median (box) and 5% to 95% (whiskers). " + data.caption,
        partial(draw_dice, systems, f"Dice, {data.set_name} set{data.mark}"),
    )
    change = paired_stages(data.rows)
    blocks = (
        _joint_blocks(change, data) if change is not None and bool(change.changes["dice_change"].notna().all()) else []
    )
    return Section(f"{data.prefix}segmentation", "Segmentation and joint training", [drawing, *blocks])


def _dice_of_systems(data: ReportData) -> dict[str, np.ndarray]:
    """The Dice [N] of every system; stages that share a segmenter are one row."""
    alike: dict[tuple[float, ...], list[str]] = {}
    for name, rows in data.segmented.items():
        alike.setdefault(tuple(rows.groupby("case")["dice"].mean()), []).append(name)
    return {",\n".join(names): np.array(dice) for dice, names in alike.items()}


def _joint_blocks(change: JointChange, data: ReportData) -> list[Drawing | Prose | Table]:
    pairs = change.changes
    classes = data.classes
    label = pairs["label"].map({name: index for index, name in enumerate(classes)}).to_numpy()
    dice, score = (pairs[f"{name}_change"].to_numpy(dtype=np.float64) for name in ("dice", "score"))
    correlation = "undefined" if change.correlation is None else f"{change.correlation:.2f}"
    repeated = " One mark per nodule and repeat." if data.repeats > 1 else ""
    drawing = Drawing(
        f"{data.prefix}joint-change",
        "Change by joint training: Dice (horizontal) and probability of the true class (vertical); above the middle "
        f"line this probability rose. Spearman correlation {correlation}.{repeated} {data.caption}",
        partial(draw_change, dice, score, label, classes, f"Joint minus frozen, {data.set_name} set{data.mark}"),
    )
    counts = change.quadrants
    rows: list[list[Cell]] = [
        [f"Dice {name}", *map(int, counts.loc[name])] for name in counts.index if counts.loc[name].any()
    ]
    unit = "nodules and repeats" if data.repeats > 1 else "nodules"
    heading = ["", *(f"class score {name}" for name in counts.columns)]
    table = Table(heading, rows, f"Joint against frozen cascade, {unit} (n = {len(pairs)})")
    means = (
        f"On average joint training changed the probability of the true class by {score.mean():+.3f} and the Dice by "
        f"{dice.mean():+.3f}. The paper reports a rise of the class score for all of its examples (section 3.4, "
        "Fig. 6); the table counts all nodules."
    )
    return [drawing, Prose(means), table]


def draw_dice(systems: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw the Dice of every nodule [N] with quartiles, one row per system."""
    figure, axes = new_figure(title, 1.5 + 0.95 * len(systems))
    for index, values in enumerate(systems.values()):
        dice = np.sort(values)
        axes.scatter(dice, index + 0.16 + 0.24 * _heights(len(dice)), s=12, alpha=0.6, linewidths=0, color=COLOURS[0])
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
    return figure


def draw_change(dice: np.ndarray, score: np.ndarray, label: np.ndarray, classes: tuple[str, ...], title: str) -> Figure:
    """Draw each nodule's change of Dice [N] and of its class score [N], both after minus before joint training."""
    figure, axes = new_figure(title)
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
    axes.set(xlabel="Change of Dice", ylabel="Change of the true class's probability")
    figure.legend(loc="outside lower left", ncols=min(len(classes), 2))
    return figure


def _heights(points: int) -> np.ndarray:
    """Reproducible heights in [0, 1] that keep neighbouring points apart: the golden ratio sequence."""
    heights: np.ndarray = (np.arange(points) * 0.618034) % 1.0
    return heights


def budget_section(data: ReportData, reference: pd.DataFrame | None) -> Section | None:
    """The scores of one stage with predicted and with reference masks; None if the model has no mask to exchange."""
    if reference is None:
        return None
    stage = reference["stage"].iloc[0]
    predicted = data.rows[data.rows["stage"] == stage]
    budget = error_budget(predicted, reference, data.replicates, data.seed)
    cases = budget.cases
    drawing = Drawing(
        f"{data.prefix}error-budget",
        "The probability of the true class with the predicted mask and with the reference mask; above the diagonal the "
        f"predicted mask lowered it. Stage {stage}. {data.caption}",
        partial(
            draw_budget,
            cases["predicted"].to_numpy(),
            cases["reference"].to_numpy(),
            cases["dice"].to_numpy(),
            f"Error budget, {data.set_name} set{data.mark}",
        ),
    )
    scores = Table(
        ["score", "predicted mask", "reference mask", "cost of the mask"],
        [_budget_row(line) for line in budget.lines],
        f"Stage {stage}, {data.set_name} set, n = {data.size}; in brackets {data.interval}",
    )
    return Section(
        f"{data.prefix}error-budget", "Error budget", [Prose(_explanation(budget)), scores, _counts(budget), drawing]
    )


def _explanation(budget: ErrorBudget) -> str:
    wrong = budget.mask_fault + budget.both_wrong
    return (
        "The same classifier with the reference mask instead of the mask that the cascade predicts. It was trained on "
        f"predicted masks, so the reference is not always the better input. Of {wrong} wrong predictions "
        f"{budget.mask_fault} are correct with the reference mask; {budget.both_wrong} remain wrong and are errors of "
        f"the classifier. {budget.mask_luck} correct predictions become wrong."
    )


def _counts(budget: ErrorBudget) -> Table:
    return Table(
        ["nodules", "correct with reference mask", "wrong with reference mask"],
        [
            ["correct with predicted mask", budget.both_right, budget.mask_luck],
            ["wrong with predicted mask", budget.mask_fault, budget.both_wrong],
        ],
    )


def _budget_row(line: BudgetLine) -> list[Cell]:
    low, high = line.interval or (None, None)
    cost = Number(line.cost, low, high, signed=True)
    return [line.name, Number(line.predicted), Number(line.reference), cost]


def draw_budget(predicted: np.ndarray, reference: np.ndarray, dice: np.ndarray, title: str) -> Figure:
    """Draw each nodule's probability of the true class with either mask [N], coloured by the predicted one's Dice."""
    figure, axes = new_figure(title, WIDTH_INCHES - 0.3)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (1, 3)))
    points = axes.scatter(
        predicted, reference, c=dice, cmap="viridis", vmin=0, vmax=1, s=24, edgecolors="white", linewidths=0.4
    )
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    axes.grid(visible=True)
    axes.set(xlabel="True class's probability, predicted mask", ylabel="True class's probability, reference mask")
    figure.colorbar(points, ax=axes, label="Dice of the predicted mask", shrink=0.75)
    return figure
