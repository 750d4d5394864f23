"""Scores by nodule size, texture and slice spacing.

A group with too few nodules has no score, only its number of nodules: an accuracy of 3 of 4 says nothing.
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

# With fewer nodules an interval is too wide to be informative.
LEAST_NODULES, LEAST_IN_CLASS = 10, 5
_NEEDS_CLASSES = ("mcc", "auc")


@dataclass(frozen=True)
class Characteristic:
    """A measurement by which nodules are grouped; a nodule at one of the limits belongs to the upper group."""

    name: str
    unit: str
    limits: tuple[float, ...]
    measure: Callable[[CaseRecord], float]

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in ascending order."""
        between = [f"{low:g} to < {high:g}{self.unit}" for low, high in itertools.pairwise(self.limits)]
        return (f"< {self.limits[0]:g}{self.unit}", *between, f"≥ {self.limits[-1]:g}{self.unit}")

    def group_of(self, case: CaseRecord) -> str:
        """The group of a nodule."""
        # A spacing of 1.25 mm may be stored as 1.2499999.
        return self.groups[int(np.searchsorted(self.limits, self.measure(case) + 1e-6, side="right"))]


# Longest diameter in a slice: 6 and 8 mm are limits of the Fleischner Society (MacMahon 2017), 10 mm is the upper limit
# of the paper's subcentimetre nodules, 15 mm is the next limit of Lung-RADS.
SIZE = Characteristic("longest diameter", " mm", (6, 8, 10, 15), lambda case: case.longest_diameter_mm)
# Share of the mask above -300 HU. Up to 5 % is noise and vessels: pure ground glass. 25 and 50 % are cut points of the
# consolidation-to-tumour ratio (JCOG0201, Suzuki 2011), which is a ratio of diameters.
TEXTURE = Characteristic("solid share", " %", (5, 25, 50), lambda case: float(np.round(100 * case.solid_fraction, 6)))
# Distance of slices. The paper's CTs have 1 to 1.25 mm; thin-section CT is said to end at 1.5, and 2.5 was common.
SPACING = Characteristic("slice spacing", " mm", (1.0, 1.5, 2.5), lambda case: case.spacing_mm_zyx[0])
CHARACTERISTICS = (SIZE, TEXTURE, SPACING)


@dataclass(frozen=True)
class SubgroupScore(RepeatedScore):
    """A score of one system on a part of one set, for example the longest diameter's group `6 to < 8 mm`."""

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

    Returns:
        The scores of each system, characteristic and group; groups without a nodule are left out. A score of fewer than
        ten nodules, and MCC and AUC with fewer than five of a class, are None with a reason.

    Raises:
        PredictionsError: As `split_by_system`, or a case is not in the dataset.
    """
    systems = split_by_system(frame, [set_name])
    unknown = sorted({str(case) for system in systems for case in system.rows["case"]} - set(cases))
    if unknown:
        raise PredictionsError(
            "The predictions are of cases that are not in the dataset.",
            case=unknown[0],
            found=f"{len(unknown)} unknown cases",
            expected=f"ids among the dataset's {len(cases)} cases",
            remedy="Name the dataset that the predictions were made on.",
        )
    return [
        _labelled(_unless_too_few(score, part), characteristic.name, group)
        for system in systems
        for characteristic in characteristics
        for group, part in _parts(system, characteristic, cases)
        for score in score_system(part, resample(part.patients, replicates, seed))
    ]


def _parts(
    system: SystemPredictions, characteristic: Characteristic, cases: Mapping[str, CaseRecord]
) -> Iterator[tuple[str, SystemPredictions]]:
    groups = np.array([characteristic.group_of(cases[str(case)]) for case in system.rows["case"]])
    for group in characteristic.groups:
        inside = groups == group
        if inside.any():
            parts = {number: rows[inside].reset_index(drop=True) for number, rows in system.repeats.items()}
            yield group, dataclasses.replace(system, repeats=parts)


def _unless_too_few(score: RepeatedScore, part: SystemPredictions) -> RepeatedScore:
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
