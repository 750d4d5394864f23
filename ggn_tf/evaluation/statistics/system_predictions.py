"""The predictions of one system on one set of a split, with every repeat on the same nodules."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.folds import fold_values, resampled_in_folds
from ggn_tf.evaluation.statistics.predictions_table import FOLD, check_predictions, probabilities, table_classes
from ggn_tf.evaluation.statistics.run_scores import METRICS
from ggn_tf.evaluation.statistics.scores import SCORED_SETS, class_indices


class System(NamedTuple):
    """A model and the stage whose weights it has."""

    model: str
    stage: str

    def __str__(self) -> str:
        """Model and stage, as in tables."""
        return f"{self.model} {self.stage}"


@dataclass(frozen=True)
class SystemPredictions:
    """One system's predictions on one set of one split.

    Attributes:
        task: Its classes with commas between, as `Task.parse` reads them.
        set_name: `validation`, `test` or `external`.
        repeats: Rows by number of the training, sorted by case; the cases are the same in all.
    """

    system: System
    task: str
    split: int
    set_name: str
    repeats: dict[int, pd.DataFrame]

    @property
    def rows(self) -> pd.DataFrame:
        """The first repeat's rows, whose cases, patients and labels all repeats share."""
        return next(iter(self.repeats.values()))

    @property
    def patients(self) -> np.ndarray:
        """Patient of every nodule [N]."""
        return self.rows["patient"].to_numpy(dtype=str)

    @property
    def label(self) -> np.ndarray:
        """Class index of every nodule [N]."""
        return class_indices(self.rows)[0]

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities of every repeat, nodule and class, float64 [R, N, C]."""
        return np.stack([probabilities(rows) for rows in self.repeats.values()])

    def values(self) -> dict[str, tuple[np.ndarray | None, str | None]]:
        """For each score its value in every repeat [R], or None and a reason for a reader.

        Of out-of-fold predictions it is the mean over the folds.
        """
        by_repeat = [fold_values(rows) for rows in self.repeats.values()]
        gathered: dict[str, tuple[np.ndarray | None, str | None]] = {}
        for metric in (name for name in METRICS if name in by_repeat[0]):
            values = [scores[metric][0] for scores in by_repeat]
            reason = by_repeat[0][metric][1]
            gathered[metric] = (None, reason) if reason else (np.array(values, np.float64), None)
        return gathered

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """For each score its mean over the repeats [B] on resampled nodules, with the count of each [B, N]."""
        by_repeat = [resampled_in_folds(rows, weights) for rows in self.repeats.values()]
        return {metric: np.mean([scores[metric] for scores in by_repeat], axis=0) for metric in by_repeat[0]}


def split_by_system(frame: pd.DataFrame, set_names: Sequence[str] = SCORED_SETS) -> list[SystemPredictions]:
    """Split a predictions table of many runs by split, set and system.

    Returns:
        Splits in ascending order, then the sets in the given order, then the systems in the order of the table.

    Raises:
        PredictionsError: The table is wrong, or repeats or systems of a split's set have different nodules.
    """
    checked = check_predictions(frame)
    task = ",".join(table_classes(checked))
    systems = []
    for split in sorted(checked["split"].unique()):
        for set_name in set_names:
            part = checked[(checked["split"] == split) & (checked["set"] == set_name)]
            group = [
                SystemPredictions(System(*map(str, key)), task, int(split), set_name, _repeats(rows))
                for key, rows in part.groupby(["model", "stage"], sort=False)
            ]
            _check_same_nodules(group)
            systems += group
    return systems


def _repeats(rows: pd.DataFrame) -> dict[int, pd.DataFrame]:
    return {
        int(str(number)): part.sort_values("case", ignore_index=True)
        for number, part in rows.groupby("repeat", sort=True)
    }


def _check_same_nodules(systems: list[SystemPredictions]) -> None:
    for predictions in systems:
        for number, rows in predictions.repeats.items():
            if not _identity(rows).equals(_identity(systems[0].rows)):
                raise PredictionsError(
                    f"The nodules of split {predictions.split}'s {predictions.set_name} set differ between systems.",
                    case=f"{predictions.system}, repeat {number}",
                    found=_difference(rows, systems[0].rows),
                    expected=f"the cases, patients and labels of {systems[0].system}, so that scores can be compared",
                    remedy="Predict the whole set with every system, and give other splits other numbers.",
                )


def _identity(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["case", "patient", "label"]].assign(**{FOLD: rows.get(FOLD, 0)})


def _difference(rows: pd.DataFrame, others: pd.DataFrame) -> str:
    lacking = sorted(set(others["case"]) - set(rows["case"]))
    further = sorted(set(rows["case"]) - set(others["case"]))
    if lacking or further:
        return f"{len(lacking)} cases missing, {len(further)} additional, for example {(lacking + further)[0]}"
    wrong = (_identity(rows) != _identity(others)).any(axis=1)
    return f"another patient, label or fold for {int(wrong.sum())} cases, for example {rows['case'][wrong].iloc[0]}"
