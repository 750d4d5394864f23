"""Changes by joint training: Dice and probability of the true class of every nodule (paper Fig. 6)."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.scores import class_indices, gives_dice, gives_probabilities
from ggn_tf.runs.stages import CLASSIFY, JOINT

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
    """Match the predictions of the stages `classify` (segmenter frozen) and `joint`.

    Args:
        rows: Predictions on one set; models without both stages are ignored.

    Returns:
        None where no model has both stages.
    """
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
