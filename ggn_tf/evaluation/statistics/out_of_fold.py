"""Out-of-fold predictions: each nodule as the trainings predicted it that did not see its patient."""

from collections.abc import Sequence

import pandas as pd

from ggn_tf.evaluation.statistics.mask_measures import MASK_COLUMNS
from ggn_tf.evaluation.statistics.predictions_table import FOLD, check_predictions, probability_names, table_classes

_KEY = ["split", "stage", "case"]


def out_of_fold(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join the test rows of all folds, averaged over the members of a fold.

    Probabilities are averaged. So are Dice and the measurements of the masks, which are not those of a mean mask; what
    one of the members does not have is empty.

    Args:
        frames: The predictions table of each training; `split` is the number of its fold, `repeat` of its member.

    Returns:
        A checked predictions table of one run (set `test`, `split` and `repeat` 1) with the column `fold`: one row per
        nodule and stage, stage by stage in the order of the folds.

    Raises:
        PredictionsError: A nodule is in the test sets of two folds, or the members of a fold have different nodules.
    """
    rows = pd.concat([frame[frame["set"] == "test"] for frame in frames], ignore_index=True)
    joined = average_members(rows, _KEY, rows["repeat"].nunique())
    stages = pd.CategoricalDtype(joined["stage"].unique().tolist(), ordered=True)
    joined = joined.astype({"stage": stages}).sort_values(["stage", "split", "case"]).astype({"stage": str})
    joined = joined.assign(**{FOLD: joined["split"]}).assign(split=1, repeat=1)[[*rows.columns, FOLD]]
    return check_predictions(joined.reset_index(drop=True))


def average_members(rows: pd.DataFrame, key: list[str], members: int) -> pd.DataFrame:
    """The first row of each key, with the means over so many members; empty where one of them has no number."""
    numbers = [*probability_names(table_classes(rows)), "dice", *(name for name in MASK_COLUMNS if name in rows)]
    grouped = rows.groupby(key, sort=False)[numbers]
    mean = grouped.mean().where(grouped.count() == members)
    return rows.drop_duplicates(key, ignore_index=True).drop(columns=numbers).join(mean, on=key)
