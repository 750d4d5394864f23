"""Scores by nodule size, texture and scanner spacing: where a system works, and where nobody can say.

A group with too few nodules has no score but its number: an accuracy of 3 of 4 would be read as one.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.bootstrap import resample
from ggn_tf.evaluation.statistics.predictions_table import table_classes
from ggn_tf.evaluation.statistics.repeats import RepeatedScore, score_system
from ggn_tf.evaluation.statistics.scores import REPLICATES, class_indices
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions, split_by_system

# Below them an interval says nothing that its width does not say already.
LEAST_NODULES, LEAST_IN_CLASS = 10, 5
_NEEDS_CLASSES = ("mcc", "auc")


@dataclass(frozen=True)
class Characteristic:
    """What nodules are grouped by.

    Attributes:
        name: As a table's heading.
        unit: Behind a group's limits.
        limits: Between the groups, rising; a nodule at a limit belongs to the upper group.
        measure: The number.
    """

    name: str
    unit: str
    limits: tuple[float, ...]
    measure: Callable[[CaseRecord], float]

    @property
    def groups(self) -> tuple[str, ...]:
        """What a person reads, in rising order."""
        between = [f"{low:g} to < {high:g}{self.unit}" for low, high in itertools.pairwise(self.limits)]
        return (f"< {self.limits[0]:g}{self.unit}", *between, f"≥ {self.limits[-1]:g}{self.unit}")

    def group_of(self, case: CaseRecord) -> str:
        """The group of a nodule."""
        # A spacing of 1.25 mm may be stored as 1.2499999.
        return self.groups[int(np.searchsorted(self.limits, self.measure(case) + 1e-6, side="right"))]


# Longest diameter in a slice: the Fleischner Society's 6 and 8 mm (MacMahon 2017), the paper's subcentimetre nodules
# end at 10, Lung-RADS's next step is 15.
SIZE = Characteristic("longest diameter", " mm", (6, 8, 10, 15), lambda case: case.longest_diameter_mm)
# Share of the mask above -300 HU. A twentieth is noise and vessels: pure ground glass. A quarter and a half are the cut
# points of the consolidation-to-tumour ratio (JCOG0201, Suzuki 2011), there of diameters.
TEXTURE = Characteristic("solid share", " %", (5, 25, 50), lambda case: float(np.round(100 * case.solid_fraction, 6)))
# Distance of slices. The paper's CTs have 1 to 1.25 mm; thin-section CT is said to end at 1.5, and 2.5 was common.
SPACING = Characteristic("slice spacing", " mm", (1.0, 1.5, 2.5), lambda case: case.spacing_mm_zyx[0])
CHARACTERISTICS = (SIZE, TEXTURE, SPACING)


@dataclass(frozen=True)
class SubgroupScore(RepeatedScore):
    """A score of one system on a part of one set.

    Attributes:
        characteristic: For example `longest diameter`.
        group: For example `6 to < 8 mm`.
    """

    characteristic: str
    group: str


def score_subgroups(
    frame: pd.DataFrame,
    cases: Mapping[str, CaseRecord],
    characteristics: Sequence[Characteristic] = CHARACTERISTICS,
    set_name: str = "test",
    seed: int = 0,
    replicates: int = REPLICATES,
) -> list[SubgroupScore]:
    """Score every system on every group of nodules.

    Args:
        frame: The predictions of one task; models, stages, splits and repeats as the rows say.
        cases: What the dataset knows of the nodules, by id: `Dataset.case_by_id`.
        characteristics: What to group by.
        set_name: The set.
        seed: Of the bootstrap.
        replicates: Of the bootstrap.

    Returns:
        For each cell, characteristic and group its scores; groups without a nodule are left out. A score of fewer than
        ten nodules, and MCC and AUC with fewer than five of a class, is None with a reason.

    Raises:
        PredictionsError: As `split_by_system`, or a case is not in the dataset.
    """
    cells = split_by_system(frame, [set_name])
    unknown = sorted({str(case) for cell in cells for case in cell.rows["case"]} - set(cases))
    if unknown:
        raise PredictionsError(
            "The predictions are of cases that the dataset does not hold.",
            case=unknown[0],
            found=f"{len(unknown)} unknown cases",
            expected=f"ids among the dataset's {len(cases)} cases",
            remedy="Name the dataset that the predictions were made on.",
        )
    return [
        _labelled(_refused(score, part), characteristic.name, group)
        for cell in cells
        for characteristic in characteristics
        for group, part in _parts(cell, characteristic, cases)
        for score in score_system(part, resample(part.patients, replicates, seed))
    ]


def _parts(
    cell: SystemPredictions, characteristic: Characteristic, cases: Mapping[str, CaseRecord]
) -> Iterator[tuple[str, SystemPredictions]]:
    of_nodule = np.array([characteristic.group_of(cases[str(case)]) for case in cell.rows["case"]])
    for group in characteristic.groups:
        inside = of_nodule == group
        if inside.any():
            parts = {number: rows[inside].reset_index(drop=True) for number, rows in cell.repeats.items()}
            yield group, dataclasses.replace(cell, repeats=parts)


def _refused(score: RepeatedScore, part: SystemPredictions) -> RepeatedScore:
    """The score, or the reason why so few nodules have none."""
    reason = None
    if score.nodules < LEAST_NODULES:
        reason = f"{score.nodules} nodules, fewer than {LEAST_NODULES}"
    elif score.metric in _NEEDS_CLASSES:
        classes = table_classes(part.rows)
        count = np.bincount(class_indices(part.rows)[0], minlength=len(classes))
        if count.min() < LEAST_IN_CLASS:
            reason = f"{count.min()} nodules of {classes[int(count.argmin())]}, fewer than {LEAST_IN_CLASS}"
    if reason is None:
        return score
    return dataclasses.replace(score, value=None, deviation=None, low=None, high=None, reason=reason)


def _labelled(score: RepeatedScore, characteristic: str, group: str) -> SubgroupScore:
    return SubgroupScore(**dataclasses.asdict(score), characteristic=characteristic, group=group)
