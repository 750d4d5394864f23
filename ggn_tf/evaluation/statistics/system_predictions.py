"""Cells of a study: one system's predictions on one set of a split, every repeat on the same nodules."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.predictions_table import check_predictions, probabilities, table_classes
from ggn_tf.evaluation.statistics.run_scores import METRICS
from ggn_tf.evaluation.statistics.scores import SCORED_SETS, class_indices, resampled_scores, score_values


class System(NamedTuple):
    """What answered: a model and the stage whose weights it had."""

    model: str
    stage: str

    def __str__(self) -> str:
        """As a table names it."""
        return f"{self.model} {self.stage}"


@dataclass(frozen=True)
class SystemPredictions:
    """One system's predictions on one set of one split.

    Attributes:
        system: What answered.
        task: Its classes with commas between, as `Task.parse` reads them.
        split: Its number.
        set_name: `validation`, `test` or `external`.
        repeats: For each training, by its number, the rows in the order of their cases, which are the same in all.
    """

    system: System
    task: str
    split: int
    set_name: str
    repeats: dict[int, pd.DataFrame]

    @property
    def rows(self) -> pd.DataFrame:
        """The first repeat's rows, for what all repeats share: case, patient, label."""
        return next(iter(self.repeats.values()))

    @property
    def patients(self) -> np.ndarray:
        """The patient of every nodule [N]."""
        return self.rows["patient"].to_numpy(dtype=str)

    @property
    def label(self) -> np.ndarray:
        """Class index of every nodule [N]."""
        return class_indices(self.rows)[0]

    @property
    def probabilities(self) -> np.ndarray:
        """Float64 [R, N, C]."""
        return np.stack([probabilities(rows) for rows in self.repeats.values()])

    def values(self) -> dict[str, tuple[np.ndarray | None, str | None]]:
        """For each score its value in every repeat [R], or None and the reason."""
        of_repeats = [score_values(rows) for rows in self.repeats.values()]
        gathered: dict[str, tuple[np.ndarray | None, str | None]] = {}
        for metric in (name for name in METRICS if name in of_repeats[0]):
            values = [scores[metric][0] for scores in of_repeats]
            reason = of_repeats[0][metric][1]
            gathered[metric] = (None, reason) if reason else (np.array(values, np.float64), None)
        return gathered

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """For each score its mean over the repeats on resampled nodules.

        Args:
            weights: How often each nodule counts [B, N].

        Returns:
            For each score [B]; NaN where it is undefined.
        """
        of_repeats = [resampled_scores(rows, weights) for rows in self.repeats.values()]
        return {metric: np.mean([scores[metric] for scores in of_repeats], axis=0) for metric in of_repeats[0]}


def split_by_system(frame: pd.DataFrame, set_names: Sequence[str] = SCORED_SETS) -> list[SystemPredictions]:
    """Sort a predictions table of many runs into cells.

    Args:
        frame: The predictions of one task; models, stages, splits and repeats as the rows say.
        set_names: Which sets.

    Returns:
        Splits in rising order, in each the sets as asked, in each the systems in the order of the table.

    Raises:
        PredictionsError: The table is wrong, or two repeats or systems of a split's set are of different nodules.
    """
    checked = check_predictions(frame)
    task = ",".join(table_classes(checked))
    cells = []
    for split in sorted(checked["split"].unique()):
        for set_name in set_names:
            part = checked[(checked["split"] == split) & (checked["set"] == set_name)]
            here = [
                SystemPredictions(System(*map(str, key)), task, int(split), set_name, _repeats(rows))
                for key, rows in part.groupby(["model", "stage"], sort=False)
            ]
            _check_same_nodules(here)
            cells += here
    return cells


def _repeats(rows: pd.DataFrame) -> dict[int, pd.DataFrame]:
    return {
        int(str(number)): part.sort_values("case", ignore_index=True)
        for number, part in rows.groupby("repeat", sort=True)
    }


def _check_same_nodules(cells: list[SystemPredictions]) -> None:
    identity = ["case", "patient", "label"]
    for cell in cells:
        for number, rows in cell.repeats.items():
            if not rows[identity].equals(cells[0].rows[identity]):
                raise PredictionsError(
                    f"Predictions of split {cell.split}'s {cell.set_name} set are not of the same nodules.",
                    case=f"{cell.system}, repeat {number}",
                    found=_difference(rows, cells[0].rows),
                    expected=f"the cases, patients and labels of {cells[0].system}, so that scores can be compared",
                    remedy="Predict the whole set of the split with every system; number other splits otherwise.",
                )


def _difference(rows: pd.DataFrame, others: pd.DataFrame) -> str:
    lacking = sorted(set(others["case"]) - set(rows["case"]))
    further = sorted(set(rows["case"]) - set(others["case"]))
    if lacking or further:
        return f"{len(lacking)} cases lacking, {len(further)} further, such as {(lacking + further)[0]}"
    wrong = (rows[["patient", "label"]] != others[["patient", "label"]]).any(axis=1)
    return f"another patient or label for {int(wrong.sum())} cases, such as {rows['case'][wrong].iloc[0]}"
