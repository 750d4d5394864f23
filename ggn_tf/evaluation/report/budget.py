"""The error budget of the cascade: how many of its errors a better mask would remove."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ggn_tf.evaluation.report.blocks import Drawing, Prose, Section
from ggn_tf.evaluation.report.cells import Cell, Number, Table
from ggn_tf.evaluation.report.figure_style import FAINT, WIDTH_INCHES, new_figure
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.statistics.error_budget import BudgetLine, ErrorBudget, error_budget


def budget_section(data: ReportData, reference: pd.DataFrame | None) -> Section | None:
    """The scores of one stage with the predicted and with the reference masks.

    Args:
        data: The predictions of one run.
        reference: From `predict_with_reference`; None if the model has no mask to exchange.
    """
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
        [_row(line) for line in budget.lines],
        f"Stage {stage}, {data.set_name} set, n = {data.size}; in brackets {data.interval}",
    )
    return Section(
        f"{data.prefix}error-budget",
        "Error budget",
        [Prose(_explanation(budget)), scores, _counts(budget), drawing],
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


def _row(line: BudgetLine) -> list[Cell]:
    low, high = line.interval or (None, None)
    cost = Number(line.cost, low, high, signed=True)
    return [line.name, Number(line.predicted), Number(line.reference), cost]


def draw_budget(predicted: np.ndarray, reference: np.ndarray, dice: np.ndarray, title: str) -> Figure:
    """Draw one mark per nodule; its colour is the Dice of the predicted mask.

    Args:
        predicted: Probability of the true class with the predicted mask [N].
        reference: The same with the reference mask [N].
        dice: Dice of the predicted mask [N].
        title: Title of the figure.
    """
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
