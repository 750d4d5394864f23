"""Scores by nodule size, texture, slice spacing, and by any column of the case table.

A group with too few patients has no score, only its numbers: an accuracy of 3 of 4 says nothing, nor does one of twelve
nodules of two patients.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from ggn_tf.cases.measure_texts import MEASURE_TEXTS
from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.errors import GgnError, PredictionsError
from ggn_tf.evaluation.statistics.bootstrap import Resampling, resample
from ggn_tf.evaluation.statistics.predictions_table import FOLD
from ggn_tf.evaluation.statistics.repeats import score_system
from ggn_tf.evaluation.statistics.score_records import RepeatedScore, SubgroupScore
from ggn_tf.evaluation.statistics.scores import REPLICATES, few_patients_reasons
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions, split_by_system


class Characteristic(Protocol):
    """What nodules are grouped by."""

    @property
    def name(self) -> str:
        """Its name for a reader."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in their order."""

    def group_of(self, case: CaseRecord) -> str:
        """The group of a nodule."""


@dataclass(frozen=True)
class Measurement:
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
SIZE = Measurement("longest diameter", " mm", (6, 8, 10, 15), lambda case: case.longest_diameter_mm)
# Share of the mask above the solid threshold. Up to 5 % is noise and vessels: pure ground glass. 25 and 50 % are cut
# points of the consolidation-to-tumour ratio (JCOG0201, Suzuki 2011), which is a ratio of diameters.
TEXTURE = Measurement("solid share", " %", (5, 25, 50), lambda case: float(np.round(100 * case.solid_fraction, 6)))
# Distance of slices. The paper's CTs have 1 to 1.25 mm; thin-section CT is said to end at 1.5, and 2.5 was common.
SPACING = Measurement("slice spacing", " mm", (1.0, 1.5, 2.5), lambda case: case.spacing_mm_zyx[0])
CHARACTERISTICS: tuple[Characteristic, ...] = (SIZE, TEXTURE, SPACING)

NOT_GIVEN = "not given"


@dataclass(frozen=True)
class Column:
    """A column of the case table by whose values nodules are grouped, compared as text; an empty one is `not given`."""

    name: str
    groups: tuple[str, ...]

    def group_of(self, case: CaseRecord) -> str:
        """The value in the column."""
        return case.columns.get(self.name, "").strip() or NOT_GIVEN


_MEASURES = {field: text for field, text in MEASURE_TEXTS.items() if field != "solid_hu"}


def columns_of(cases: Iterable[CaseRecord], names: Sequence[str]) -> tuple[Characteristic, ...]:
    """The columns of these names, with all values that occur; of a measurement's name its thirds in the dataset.

    Raises:
        GgnError: The dataset has no such column, and there is no such measurement.
    """
    known = list(cases)
    carried = sorted({name for case in known for name in case.columns})
    unknown = [name for name in names if name not in carried and name not in _MEASURES]
    if unknown:
        raise GgnError(
            "The dataset has no column or measurement of this name.",
            found=", ".join(unknown),
            expected=" or ".join((*carried, *_MEASURES)),
            remedy="Name a further column of the case table, or a measurement. Columns that can identify a patient are "
            "not in the dataset.",
            arguments=("by",),
        )
    return tuple(
        Column(name, _values(Column(name, ()), known)) if name in carried else _thirds(name, known) for name in names
    )


def _thirds(name: str, cases: Sequence[CaseRecord]) -> Measurement:
    """Groups of about equal size, with limits of three digits; fewer groups where many nodules have one value."""
    text = _MEASURES[name]

    def measure(case: CaseRecord) -> float:
        return float(getattr(case, name)) * text.factor

    limits = np.quantile([measure(case) for case in cases], (1 / 3, 2 / 3))
    rounded = sorted({float(f"{limit:.3g}") for limit in limits})
    return Measurement(name, f" {text.unit}".rstrip(), tuple(rounded), measure)


def _values(column: Column, cases: Sequence[CaseRecord]) -> tuple[str, ...]:
    return tuple(sorted({column.group_of(case) for case in cases}))


def score_subgroups(
    frame: pd.DataFrame,
    cases: Mapping[str, CaseRecord],
    characteristics: Sequence[Characteristic] = CHARACTERISTICS,
    set_name: str = "test",
    seed: int = 0,
    replicates: int = REPLICATES,
    score: Callable[[SystemPredictions, Resampling], list[RepeatedScore]] = score_system,
) -> list[SubgroupScore]:
    """Score every system on every group of nodules.

    Returns:
        The scores of each system, characteristic and group; groups without a nodule are left out. A score of fewer than
        ten patients, and MCC and AUC with fewer than five of a class, are None with a reason.

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
        _labelled(found, few_patients_reasons(part.rows, [found.metric]), characteristic.name, group)
        for system in systems
        for characteristic in characteristics
        for group, part in _parts(system, characteristic, cases)
        for found in score(part, resample(part.patients, replicates, seed))
    ]


def _parts(
    system: SystemPredictions, characteristic: Characteristic, cases: Mapping[str, CaseRecord]
) -> Iterator[tuple[str, SystemPredictions]]:
    groups = np.array([characteristic.group_of(cases[str(case)]) for case in system.rows["case"]])
    for group in characteristic.groups:
        inside = groups == group
        if inside.any():
            # Of out-of-fold predictions, all folds together: a group has few nodules in each.
            parts = {
                number: rows[inside].drop(columns=FOLD, errors="ignore").reset_index(drop=True)
                for number, rows in system.repeats.items()
            }
            yield group, dataclasses.replace(system, repeats=parts)


def _labelled(score: RepeatedScore, few: Mapping[str, str], characteristic: str, group: str) -> SubgroupScore:
    labelled = SubgroupScore(**dataclasses.asdict(score), characteristic=characteristic, group=group)
    if not few:
        return labelled
    nothing: dict[str, Any] = dict.fromkeys(("value", "deviation", "low", "high", "low_retrained", "high_retrained"))
    return dataclasses.replace(labelled, **nothing, reason=few[score.metric])
