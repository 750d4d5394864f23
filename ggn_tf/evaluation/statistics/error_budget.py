"""The error budget of a cascade: errors due to its predicted masks, and errors that remain with reference masks."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from ggn_tf.evaluation.statistics import bootstrap
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.scores import class_indices


class BudgetLine(NamedTuple):
    """A score with predicted and with reference masks.

    Attributes:
        name: Name of the score.
        predicted: With the predicted masks; None where it is undefined.
        reference: With the reference masks.
        cost: Reference minus predicted.
        interval: Patient-bootstrap interval of the cost.
    """

    name: str
    predicted: float | None
    reference: float | None
    cost: float | None
    interval: tuple[float, float] | None


class ErrorBudget(NamedTuple):
    """The predictions of all nodules with the predicted and with the reference mask.

    Attributes:
        both_right, mask_fault, mask_luck, both_wrong: Number of nodules that are correct with both masks; wrong only
            with the predicted mask; correct only with the predicted mask; wrong with both, which a better mask would
            not correct.
        lines: Accuracy, the mean probability of the true class and, for two classes, the AUC.
        cases: One row per nodule: case, label, dice, and the true class's probability as `predicted` and `reference`.
    """

    both_right: int
    mask_fault: int
    mask_luck: int
    both_wrong: int
    lines: list[BudgetLine]
    cases: pd.DataFrame


def error_budget(predicted: pd.DataFrame, reference: pd.DataFrame, replicates: int, seed: int) -> ErrorBudget:
    """Compare a classifier's predictions with predicted and with reference masks.

    Args:
        predicted: One run's predictions of one stage and set.
        reference: From `predict_with_reference`, of the same cases.
        replicates: Number of bootstrap replicates; both sides share every draw of patients.
        seed: Seed of the bootstrap.
    """
    reference = reference.set_index("case").loc[list(predicted["case"])].reset_index()
    label = class_indices(predicted)[0]
    sides = [probabilities(side) for side in (predicted, reference)]
    right = [side.argmax(axis=1) == label for side in sides]
    true_class = [side[np.arange(len(label)), label] for side in sides]
    patients = predicted["patient"].to_numpy(dtype=str)
    resampling = bootstrap.resample(patients, replicates, seed)
    weights = resampling.weights
    scores = {
        "accuracy": [bootstrap.resampled_mean(side.astype(np.float64), weights) for side in right],
        "probability of the true class": [bootstrap.resampled_mean(side, weights) for side in true_class],
    }
    if sides[0].shape[1] == 2:
        scores["AUC"] = [bootstrap.resampled_auc(label == 1, side[:, 1], weights) for side in sides]
    cases = predicted[["case", "label", "dice"]].assign(predicted=true_class[0], reference=true_class[1])
    return ErrorBudget(
        both_right=int((right[0] & right[1]).sum()),
        mask_fault=int((~right[0] & right[1]).sum()),
        mask_luck=int((right[0] & ~right[1]).sum()),
        both_wrong=int((~right[0] & ~right[1]).sum()),
        lines=[_line(name, both, resampling) for name, both in scores.items()],
        cases=cases,
    )


def _line(name: str, sides: list[np.ndarray], resampling: bootstrap.Resampling) -> BudgetLine:
    predicted, reference = sides
    cost = reference - predicted
    if np.isnan(cost[0]):
        return BudgetLine(name, None, None, None, None)
    interval = resampling.difference_interval(cost)
    return BudgetLine(name, float(predicted[0]), float(reference[0]), float(cost[0]), interval)
