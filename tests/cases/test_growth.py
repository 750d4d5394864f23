import math

import pytest

from ggn_tf.cases.growth import IN_MM, IN_PERCENT, Change, Compared, Limits, changes, doubling_days
from ggn_tf.cases.measurements import Measurements

NOTHING = Measurements(**dict.fromkeys(Measurements._fields, 0.0))


def test_doubling_times_by_hand():
    # Four times as much in 90 days is two doublings.
    assert doubling_days(100, 400, 90) == pytest.approx(45)
    assert doubling_days(250, 500, 400) == pytest.approx(400)
    # 27 % in a year: 365 ln 2 / ln 1.27.
    assert doubling_days(100, 127, 365) == pytest.approx(365 * 0.693147 / 0.239017, rel=1e-5)
    # Half as much in 200 days.
    assert doubling_days(500, 250, 200) == pytest.approx(-200)


@pytest.mark.parametrize(("earlier", "later", "days"), [(100, 100, 90), (0, 50, 90), (50, 0, 90), (100, 200, None)])
def test_there_is_no_doubling_time_without_a_change_days_or_a_nodule(earlier, later, days):
    assert doubling_days(earlier, later, days) is None


@pytest.mark.parametrize("earlier", [0.1, 1 / 3, 54.3, 100.0, 1234.567, 7990.0])
@pytest.mark.parametrize("limit", [0.0, 2.2, 25.0, 27.0])
def test_a_change_that_equals_its_limit_is_within(earlier: float, limit: float):
    for sign in (1, -1):
        percent = Change("volume_mm3", earlier, earlier * (1 + sign * limit / 100), limit)
        assert percent.compared is Compared.WITHIN
        more = Change("volume_mm3", earlier, earlier * (1 + sign * (limit + 0.001) / 100), limit)
        assert more.compared is Compared.MORE
        assert Change("diameter_mm", earlier, earlier + sign * limit, limit).compared is Compared.WITHIN
        assert Change("diameter_mm", earlier, earlier + sign * (limit + 0.001), limit).compared is Compared.MORE


def test_absolute_and_relative_changes():
    change = Change("mass_mg", 200.0, 250.0, 27.0)
    assert (change.absolute, change.relative_percent, change.limit_unit) == (50.0, 25.0, "%")
    assert Change("mass_mg", 0.0, 10.0, 27.0).relative_percent is None
    assert Change("mass_mg", 0.0, 10.0, 27.0).compared is Compared.MORE
    assert Change("diameter_mm", 8.0, 6.0, 2.2).relative_percent == -25.0


def test_every_measure_has_its_own_limit_and_only_volume_and_mass_a_doubling_time():
    earlier = NOTHING._replace(volume_mm3=100.0, mass_mg=40.0, mean_diameter_mm=6.0, longest_diameter_mm=7.0)
    later = earlier._replace(volume_mm3=200.0, mass_mg=80.0, mean_diameter_mm=9.0)
    found = {change.measurement: change for change in changes(earlier, later, Limits(30.0, 2.0), 100)}
    assert tuple(found) == (*IN_PERCENT, *IN_MM)
    assert {name for name, change in found.items() if change.doubling_days is not None} == set(IN_PERCENT)
    assert found["volume_mm3"].doubling_days == pytest.approx(100)
    assert {change.limit for name, change in found.items() if name in IN_PERCENT} == {30.0}
    assert {change.limit for name, change in found.items() if name in IN_MM} == {2.0}
    assert found["mean_diameter_mm"].compared is Compared.MORE
    assert found["longest_diameter_mm"].compared is Compared.WITHIN
    assert all(change.relative_percent is None or math.isfinite(change.relative_percent) for change in found.values())
