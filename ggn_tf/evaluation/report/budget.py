"""The error budget of the cascade: how much of its error a better mask would take away."""

from functools import partial

import pandas as pd

from ggn_tf.evaluation.budget import BudgetLine, ErrorBudget, error_budget
from ggn_tf.evaluation.evidence import Evidence
from ggn_tf.evaluation.figures.budget import draw_budget
from ggn_tf.evaluation.report.blocks import Cell, Drawing, Estimate, Prose, Section, Table


def budget_section(evidence: Evidence, reference: pd.DataFrame | None) -> Section | None:
    """The scores of one stage with the predicted and with the reference masks.

    Args:
        evidence: Of one run.
        reference: From `predict_with_reference`; None where the model has no mask to exchange.
    """
    if reference is None:
        return None
    stage = reference["stage"].iloc[0]
    predicted = evidence.rows[evidence.rows["stage"] == stage]
    budget = error_budget(predicted, reference, evidence.replicates, evidence.seed)
    cases = budget.cases
    drawing = Drawing(
        f"{evidence.prefix}error-budget",
        "The probability of the true class with the predicted mask and with the reference mask; above the diagonal the "
        f"predicted mask cost certainty. Stage {stage}. {evidence.caption}",
        partial(
            draw_budget,
            cases["predicted"].to_numpy(),
            cases["reference"].to_numpy(),
            cases["dice"].to_numpy(),
            f"Error budget, {evidence.set_name} set{evidence.mark}",
        ),
    )
    scores = Table(
        ["score", "predicted mask", "reference mask", "cost of the mask"],
        [_row(line) for line in budget.lines],
        f"Stage {stage}, {evidence.set_name} set, n = {evidence.size}; in brackets {evidence.interval}",
    )
    return Section(
        f"{evidence.prefix}error-budget",
        "Error budget",
        [Prose(_explanation(budget)), scores, _counts(budget), drawing],
    )


def _explanation(budget: ErrorBudget) -> str:
    wrong = budget.mask_fault + budget.both_wrong
    return (
        "The same classifier, given the reference mask instead of the cascade's own. It was trained on predicted "
        f"masks, so the reference is not always the better input. Of {wrong} wrong answers {budget.mask_fault} come "
        f"right with the reference mask; {budget.both_wrong} stay wrong and are the classifier's own. "
        f"{budget.mask_luck} right answers turn wrong."
    )


def _counts(budget: ErrorBudget) -> Table:
    return Table(
        ["nodules", "right with reference mask", "wrong with reference mask"],
        [
            ["right with predicted mask", str(budget.both_right), str(budget.mask_luck)],
            ["wrong with predicted mask", str(budget.mask_fault), str(budget.both_wrong)],
        ],
    )


def _row(line: BudgetLine) -> list[Cell]:
    if line.predicted is None or line.reference is None or line.cost is None:
        return [line.name, "undefined", "undefined", "undefined"]
    interval = "" if line.interval is None else f"[{line.interval[0]:+.3f}, {line.interval[1]:+.3f}]"
    return [line.name, f"{line.predicted:.3f}", f"{line.reference:.3f}", Estimate(f"{line.cost:+.3f}", interval)]
