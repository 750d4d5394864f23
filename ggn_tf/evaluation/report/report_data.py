"""What the sections of a report show: predictions of one or more systems, and what is known about the nodules."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.evaluation.statistics.bootstrap import LEVEL, Resampling, resample
from ggn_tf.evaluation.statistics.calibration import score_calibration
from ggn_tf.evaluation.statistics.paper_systems import JOINT, title_of
from ggn_tf.evaluation.statistics.predictions_table import table_classes
from ggn_tf.evaluation.statistics.score_records import RepeatedScore
from ggn_tf.evaluation.statistics.scores import REPLICATES, gives_dice, gives_probabilities
from ggn_tf.evaluation.statistics.system_predictions import System, SystemPredictions, split_by_system


@dataclass(frozen=True)
class ReportData:
    """Predictions for one task and split: of a run's stages, or of all systems of a study.

    Attributes:
        frame: A checked predictions table of one task and split; it may contain several models and repeats.
        select_on: The set that selected the weights.
        nodules: What the dataset records about the nodules, by case id; None if that is not available.
        by: Columns of the case table by which nodules are grouped.
        further: The scores of `score_further`, of every set.
        sensitivity: The least sensitivity of their operating point; None for none.
        prefix: Prefix of anchors and of file names of figures, for a page with several tasks or splits.
        folds: Number of folds whose test sets are pooled; None where the rows are of one split.
    """

    frame: pd.DataFrame
    select_on: str
    set_name: str = "test"
    replicates: int = REPLICATES
    seed: int = 0
    nodules: Mapping[str, CaseRecord] | None = None
    by: tuple[str, ...] = ()
    further: tuple[RepeatedScore, ...] = ()
    sensitivity: float | None = None
    prefix: str = ""
    folds: int | None = None

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows of the set."""
        return self.frame[self.frame["set"] == self.set_name]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the task's classes."""
        return table_classes(self.frame)

    @property
    def repeats(self) -> int:
        """The largest number of trainings of a system."""
        return int(self.rows["repeat"].nunique())

    @cached_property
    def systems(self) -> dict[str, pd.DataFrame]:
        """The rows of every system, by the name of its stage if there is one model, else by its title in the paper."""
        return named_systems(self.rows)

    @property
    def classified(self) -> dict[str, pd.DataFrame]:
        """The systems that give probabilities."""
        return {name: rows for name, rows in self.systems.items() if gives_probabilities(rows)}

    @property
    def segmented(self) -> dict[str, pd.DataFrame]:
        """The systems that give a Dice."""
        return {name: rows for name, rows in self.systems.items() if gives_dice(rows)}

    @cached_property
    def cells(self) -> dict[str, SystemPredictions]:
        """The predictions of every system that gives probabilities, with all repeats."""
        by_system = {
            (str(cell.system.model), str(cell.system.stage)): cell
            for cell in split_by_system(self.rows, [self.set_name])
        }
        return {
            name: by_system[str(rows["model"].iloc[0]), str(rows["stage"].iloc[0])]
            for name, rows in self.classified.items()
        }

    @cached_property
    def resampling(self) -> Resampling:
        """The bootstrap samples of the patients, which all systems share."""
        return resample(next(iter(self.cells.values())).patients, self.replicates, self.seed)

    @cached_property
    def calibration(self) -> dict[str, dict[str, RepeatedScore]]:
        """The scores of calibration of every system that gives probabilities, by their names."""
        return {
            name: {score.metric: score for score in score_calibration(cell, self.resampling, self.seed)}
            for name, cell in self.cells.items()
        }

    @property
    def further_of_set(self) -> list[RepeatedScore]:
        """The further scores of the set."""
        return [score for score in self.further if score.set == self.set_name]

    @property
    def main_system(self) -> str | None:
        """The system shown in detail: the joint cascade, else the last that classifies; None without one."""
        joint = [name for name, rows in self.classified.items() if (rows["stage"] == JOINT.stage).all()]
        cascades = [name for name in joint if (self.classified[name]["model"] == JOINT.model).all()]
        return next(iter([*cascades, *reversed(self.classified)]), None)

    @property
    def mark(self) -> str:
        """The end of every title if the set selected the weights; else empty."""
        return "\nweights selected on this set" if self.select_on == self.set_name else ""

    @property
    def size(self) -> str:
        """The numbers of nodules and patients."""
        nodules, patients = self.rows["case"].nunique(), self.rows["patient"].nunique()
        return f"{nodules} nodules of {patients} patients"

    @property
    def caption(self) -> str:
        """The end of every caption: the set, n, the repeats, and whether the set selected the weights."""
        repeats = f", {self.repeats} repeats" if self.repeats > 1 else ""
        mark = " The weights were selected on this set: the results shown are optimistic." if self.mark else ""
        pooled = "" if self.folds is None else f"s of {self.folds} folds, pooled"
        return f"{self.set_name.capitalize()} set{pooled}, n = {self.size}{repeats}.{mark}"

    @property
    def interval(self) -> str:
        """What a band or a bracket shows."""
        return f"{LEVEL:.0%} intervals over {self.replicates} bootstrap replicates of the patients, seed {self.seed}"


def named_systems(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split the rows of one set by system, each a model at one stage; if there is one model, the name is the stage."""
    one_model = rows["model"].nunique() == 1
    systems = {}
    for (model, stage), part in rows.groupby(["model", "stage"], sort=False):
        name = str(stage) if one_model else title_of(System(str(model), str(stage)))
        systems[name] = part
    return systems
