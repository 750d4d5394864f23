"""What the predicted masks and joint training change in a cascade's predictions (paper Fig. 6)."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from ggn_tf.evaluation.statistics import bootstrap
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.scores import class_indices, few_in_class, gives_dice, gives_probabilities
from ggn_tf.runs.stages import CLASSIFY, JOINT


class BudgetLine(NamedTuple):
    """A score with predicted and with reference masks, None where undefined; the cost is reference minus predicted."""

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
    """Compare a classifier's predictions with predicted and with reference masks."""
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
    few = few_in_class(predicted)
    cases = predicted[["case", "label", "dice"]].assign(predicted=true_class[0], reference=true_class[1])
    return ErrorBudget(
        both_right=int((right[0] & right[1]).sum()),
        mask_fault=int((~right[0] & right[1]).sum()),
        mask_luck=int((right[0] & ~right[1]).sum()),
        both_wrong=int((~right[0] & ~right[1]).sum()),
        lines=[_line(name, both, resampling, few if name == "AUC" else None) for name, both in scores.items()],
        cases=cases,
    )


def _line(name: str, sides: list[np.ndarray], resampling: bootstrap.Resampling, few: str | None) -> BudgetLine:
    predicted, reference = sides
    cost = reference - predicted
    if np.isnan(cost[0]):
        return BudgetLine(name, None, None, None, None)
    interval = None if few else resampling.difference_interval(cost)
    return BudgetLine(name, float(predicted[0]), float(reference[0]), float(cost[0]), interval)


JOINS = ["case", "model", "repeat", "split"]


class JointChange(NamedTuple):
    """Before and after joint training.

    Attributes:
        changes: One row per nodule and repeat: case, patient, label, `score_before`, `score_after`, `score_change`, and
            `dice_before`, `dice_after`, `dice_change`, NaN without masks.
        correlation: Spearman's correlation of both changes; None where either is constant or absent.
    """

    changes: pd.DataFrame
    correlation: float | None

    @property
    def quadrants(self) -> pd.DataFrame:
        """Number of nodules by change of Dice (rows) and of the score (columns): `fell`, `stayed`, `rose`."""
        names = {-1: "fell", 0: "stayed", 1: "rose"}
        signs = {name: np.sign(self.changes[f"{name}_change"]).map(names) for name in ("dice", "score")}
        order = list(names.values())
        return pd.crosstab(signs["dice"], signs["score"]).reindex(index=order, columns=order, fill_value=0)


def paired_stages(rows: pd.DataFrame) -> JointChange | None:
    """Match the predictions of the stages `classify` (segmenter frozen) and `joint` on one set; None without both."""
    before, after = (rows[rows["stage"] == stage] for stage in (CLASSIFY.name, JOINT.name))
    before, after = (
        part[part["model"].isin(set(other["model"]))] for part, other in ((before, after), (after, before))
    )
    if before.empty or after.empty or not (gives_probabilities(before) and gives_probabilities(after)):
        return None
    sides = [_scored(part, name) for part, name in ((before, "before"), (after, "after"))]
    both = sides[0].merge(sides[1].drop(columns=["patient", "label"]), on=JOINS)
    for name in ("score", "dice"):
        both[f"{name}_change"] = both[f"{name}_after"] - both[f"{name}_before"]
    changing = [both[name].nunique() > 1 for name in ("dice_change", "score_change")]
    with_masks = gives_dice(before) and gives_dice(after)
    correlation = (
        float(spearmanr(both["dice_change"], both["score_change"])[0]) if with_masks and all(changing) else None
    )
    return JointChange(both, correlation)


def _scored(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    true_class = probabilities(rows)[np.arange(len(rows)), class_indices(rows)[0]]
    kept = rows[[*JOINS, "patient", "label"]]
    return kept.assign(**{f"score_{name}": true_class, f"dice_{name}": rows["dice"]})
