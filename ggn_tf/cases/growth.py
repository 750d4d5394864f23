"""Growth of a nodule from one scan to another: changes, doubling times, and limits of repeatability."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # It needs SimpleITK, and the command line needs the limits alone.
    from ggn_tf.cases.measurements import Measurements

VOLUME_LIMIT_PERCENT = 27.0
"""95 % of 233 stable solid nodules changed by less on a second scan (Marchianò et al. 2009, Radiology 251:919)."""
DIAMETER_LIMIT_MM = 2.2
"""95 % of 69 subsolid nodules differed by less between two scans of a day and two readers (Kim et al. 2016, PLOS ONE
11:e0148853)."""
IN_PERCENT = ("volume_mm3", "mass_mg")
IN_MM = ("mean_diameter_mm", "longest_diameter_mm", "perpendicular_diameter_mm", "diameter_3d_mm", "diameter_mm")
# A change that equals a limit is within it, whatever the last bits are.
_ROUNDING = 1e-9


class Compared(StrEnum):
    """A change beside its limit."""

    WITHIN = "within"
    MORE = "more"


@dataclass(frozen=True)
class Limits:
    """Changes up to these are within the error of measurement.

    Attributes:
        volume_percent: Of volume and mass, relative to the earlier scan.
        diameter_mm: Of every diameter.
    """

    volume_percent: float = VOLUME_LIMIT_PERCENT
    diameter_mm: float = DIAMETER_LIMIT_MM


@dataclass(frozen=True)
class Change:
    """The change of one measurement.

    Attributes:
        measurement: Its name in `Measurements`.
        earlier: Its value in the earlier scan.
        later: Its value in the later scan.
        limit: Percent for `IN_PERCENT`, mm for `IN_MM`.
        doubling_days: Days in which it doubles at this rate, of volume and mass; negative: in which it halves. None
            where it is not known.
    """

    measurement: str
    earlier: float
    later: float
    limit: float
    doubling_days: float | None = None

    @property
    def absolute(self) -> float:
        """Later minus earlier."""
        return self.later - self.earlier

    @property
    def relative_percent(self) -> float | None:
        """Percent of the earlier value; None where that is 0."""
        return 100 * self.absolute / self.earlier if self.earlier else None

    @property
    def limit_unit(self) -> str:
        """`%` or `mm`."""
        return "%" if self.measurement in IN_PERCENT else "mm"

    @property
    def compared(self) -> Compared:
        """Whether the change, in either direction, is more than its limit."""
        most = self.limit / 100 * self.earlier if self.measurement in IN_PERCENT else self.limit
        return Compared.MORE if abs(self.absolute) > most + _ROUNDING * max(1.0, self.earlier) else Compared.WITHIN


def doubling_days(earlier: float, later: float, days: int | None) -> float | None:
    """Days in which a volume or mass doubles if it grows exponentially: days ln 2 / ln(later / earlier).

    >>> doubling_days(100.0, 400.0, 90)
    45.0

    Negative for the days in which it halves; None without days, without a change, or where one of both is 0.
    """
    if not days or min(earlier, later) <= 0 or earlier == later:
        return None
    return days * math.log(2) / math.log(later / earlier)


def changes(earlier: "Measurements", later: "Measurements", limits: Limits, days: int | None) -> tuple[Change, ...]:
    """The change of volume, mass and every diameter."""
    return tuple(_changes(earlier, later, limits, days))


def _changes(earlier: "Measurements", later: "Measurements", limits: Limits, days: int | None) -> Iterator[Change]:
    for name in IN_PERCENT:
        before, after = getattr(earlier, name), getattr(later, name)
        yield Change(name, before, after, limits.volume_percent, doubling_days(before, after, days))
    for name in IN_MM:
        yield Change(name, getattr(earlier, name), getattr(later, name), limits.diameter_mm)
