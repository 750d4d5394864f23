"""What the report's sections are drawn from: the predictions of some systems on one set, and what is known about it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.evaluation.statistics.bootstrap import LEVEL, Resampling, resample
from ggn_tf.evaluation.statistics.paper_systems import JOINT, title_of
from ggn_tf.evaluation.statistics.predictions_table import table_classes
from ggn_tf.evaluation.statistics.scores import REPLICATES, gives_dice, gives_probabilities
from ggn_tf.evaluation.statistics.system_predictions import System, SystemPredictions, split_by_system


@dataclass(frozen=True)
class ReportData:
    """Predictions for one task and split: of a run's stages, or of all systems of a study.

    Attributes:
        frame: A checked predictions table of one task and split; several models and repeats are welcome.
        select_on: The set that selected the weights.
        set_name: The set that is shown.
        replicates: Of every bootstrap.
        seed: Of every bootstrap.
        nodules: What the dataset knows of the nodules, by case id; None where it is not at hand.
        prefix: Of the figures' file names, where a page holds several tasks or splits.
    """

    frame: pd.DataFrame
    select_on: str
    set_name: str = "test"
    replicates: int = REPLICATES
    seed: int = 0
    nodules: Mapping[str, CaseRecord] | None = None
    prefix: str = ""

    def of(self, frame: pd.DataFrame) -> "ReportData":
        """The same about other predictions, such as scaled ones."""
        return replace(self, frame=frame)

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
        """How often each system was trained, at most."""
        return int(self.rows["repeat"].nunique())

    @cached_property
    def systems(self) -> dict[str, pd.DataFrame]:
        """Every model and stage under its name: the stage's where there is one model, else as the paper letters it."""
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
        """The systems that give probabilities, each with all its repeats."""
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
        """The bootstrap's sets of the nodules, which all systems share."""
        return resample(next(iter(self.cells.values())).patients, self.replicates, self.seed)

    @property
    def main_system(self) -> str | None:
        """The system that is looked at closely: the joint cascade, else the last that classifies; None without one."""
        joint = [name for name, rows in self.classified.items() if (rows["stage"] == JOINT.stage).all()]
        own = [name for name in joint if (self.classified[name]["model"] == JOINT.model).all()]
        return next(iter([*own, *reversed(self.classified)]), None)

    @property
    def mark(self) -> str:
        """What every title says where the set selected the weights; else nothing."""
        return "\nweights selected on this set" if self.select_on == self.set_name else ""

    @property
    def size(self) -> str:
        """How many nodules of how many patients."""
        nodules, patients = self.rows["case"].nunique(), self.rows["patient"].nunique()
        return f"{nodules} nodules of {patients} patients"

    @property
    def caption(self) -> str:
        """The end of every caption: n, the set, the repeats, and whether it selected the weights."""
        repeats = f", {self.repeats} repeats" if self.repeats > 1 else ""
        mark = " The weights were selected on this set: what is shown is optimistic." if self.mark else ""
        return f"{self.set_name.capitalize()} set, n = {self.size}{repeats}.{mark}"

    @property
    def interval(self) -> str:
        """What a band or a bracket is."""
        return f"{LEVEL:.0%} intervals over {self.replicates} bootstrap replicates of the patients, seed {self.seed}"


def named_systems(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Take a predictions table apart into its systems, each a model at one stage.

    Args:
        rows: Of one set.

    Returns:
        For each system its rows, in the order of the table. Where one model was trained, the name is the stage.
    """
    one_model = rows["model"].nunique() == 1
    systems = {}
    for (model, stage), part in rows.groupby(["model", "stage"], sort=False):
        name = str(stage) if one_model else title_of(System(str(model), str(stage)))
        systems[name] = part
    return systems
