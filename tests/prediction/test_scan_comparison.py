import dataclasses
from datetime import date

import pytest

from ggn_tf.cases.scan_facts import ScanFacts
from ggn_tf.errors import FollowUpError
from ggn_tf.prediction.scan_comparison import Interval, acquisition_warnings, interval_of, patient_warnings

SCAN = ScanFacts(
    dates={"AcquisitionDate": date(2023, 1, 10), "StudyDate": date(2023, 1, 9)},
    patient_id="P1",
    sex="F",
    birth_date=date(1960, 2, 29),
    frame_of_reference="1.2.3",
    kernel="B70f",
    slice_thickness_mm=1.0,
    slice_spacing_mm=0.8,
    tube_voltage_kv=120.0,
    contrast_agent=False,
)
BARE = ScanFacts({}, "", "", None, "", "", None, 0.8, None, None)


def changed(**values: object) -> ScanFacts:
    return dataclasses.replace(SCAN, **values)  # type: ignore[arg-type]


def dated(**dates: date) -> ScanFacts:
    return changed(dates=dates)


def codes(warnings) -> list[str]:
    return [warning.code for warning in warnings]


def test_days_are_of_the_first_date_that_both_headers_have():
    later = dated(AcquisitionDate=date(2024, 1, 10), StudyDate=date(2024, 1, 10))
    assert interval_of(SCAN, later) == (Interval(365, "AcquisitionDate"), [])
    later = dated(SeriesDate=date(2023, 2, 1), StudyDate=date(2023, 2, 8))
    assert interval_of(SCAN, later) == (Interval(30, "StudyDate"), [])


def test_without_dates_there_is_a_warning_and_no_number():
    for earlier, later in ((SCAN, BARE), (BARE, SCAN), (BARE, BARE), (SCAN, dated(SeriesDate=date(2024, 1, 1)))):
        interval, warnings = interval_of(earlier, later)
        assert interval == Interval(None, None)
        assert codes(warnings) == ["no_dates"] and warnings[0].arguments == ("days",)


def test_equal_dates_are_no_interval():
    interval, warnings = interval_of(SCAN, SCAN)
    assert interval == Interval(None, "AcquisitionDate") and codes(warnings) == ["same_date"]


def test_reversed_dates_are_an_error_unless_days_are_given():
    earlier = dated(AcquisitionDate=date(2023, 1, 11))
    with pytest.raises(FollowUpError) as caught:
        interval_of(earlier, SCAN)
    assert "days" in caught.value.arguments
    interval, warnings = interval_of(earlier, SCAN, days=90)
    assert interval == Interval(90, "given") and codes(warnings) == ["days_differ"]


def test_given_days_have_precedence():
    later = dated(AcquisitionDate=date(2023, 1, 20))
    assert interval_of(SCAN, later, days=10) == (Interval(10, "given"), [])
    assert codes(interval_of(SCAN, later, days=11)[1]) == ["days_differ"]
    assert interval_of(BARE, BARE, days=11) == (Interval(11, "given"), [])


@pytest.mark.parametrize("other", [{"patient_id": "P2"}, {"sex": "M"}, {"birth_date": date(1961, 2, 28)}])
def test_different_patients_are_an_error_without_their_values(other: dict):
    with pytest.raises(FollowUpError) as caught:
        patient_warnings(SCAN, changed(**other))
    assert "same_patient" in caught.value.arguments
    assert "P2" not in str(caught.value) and "1961" not in str(caught.value)
    assert codes(patient_warnings(SCAN, changed(**other), same_patient=True)) == ["different_patients"]


def test_what_is_not_readable_is_not_compared():
    assert patient_warnings(SCAN, SCAN) == []
    assert patient_warnings(SCAN, changed(patient_id="", sex="")) == []
    assert codes(patient_warnings(SCAN, changed(patient_id="", birth_date=None))) == ["patient_unknown"]
    assert codes(patient_warnings(BARE, BARE)) == ["patient_unknown"]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({}, []),
        ({"kernel": "b70F"}, []),
        ({"slice_thickness_mm": 1.04}, []),
        ({"slice_thickness_mm": 1.25}, ["different_slice_thickness"]),
        ({"slice_spacing_mm": 1.0}, ["different_slice_spacing"]),
        ({"kernel": "B30f"}, ["different_kernel"]),
        ({"tube_voltage_kv": 100.0}, ["different_tube_voltage"]),
        ({"contrast_agent": True}, ["different_contrast_agent"]),
        ({"frame_of_reference": "1.2.4"}, ["different_frame"]),
        ({"kernel": ""}, ["acquisition_unknown"]),
        ({"slice_thickness_mm": None, "frame_of_reference": ""}, ["acquisition_unknown"]),
    ],
)
def test_different_acquisitions(other: dict, expected: list[str]):
    assert codes(acquisition_warnings(SCAN, changed(**other))) == expected
    assert codes(acquisition_warnings(changed(**other), SCAN)) == expected


def test_volume_files_are_compared_by_the_distance_of_their_slices():
    coarse = dataclasses.replace(BARE, slice_spacing_mm=5.0)
    assert codes(acquisition_warnings(BARE, coarse)) == ["different_slice_spacing", "acquisition_unknown"]
