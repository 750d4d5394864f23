import dataclasses

import numpy as np
import pandas as pd
import pytest

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.errors import GgnError, PredictionsError
from ggn_tf.evaluation.statistics.repeats import score_repeats
from ggn_tf.evaluation.statistics.subgroups import SIZE, SPACING, TEXTURE, columns_of, score_subgroups
from ggn_tf.evaluation.statistics.system_predictions import split_by_system
from tests.support.measured import case_record


def _case(case_id="c", diameter_mm=7.0, solid_fraction=0.1, slice_mm=1.25) -> CaseRecord:
    return case_record(
        case_id=case_id,
        spacing_mm_zyx=(slice_mm, 0.7, 0.7),
        longest_diameter_mm=diameter_mm,
        solid_fraction=solid_fraction,
    )


@pytest.mark.parametrize(
    ("diameter_mm", "group"),
    [(5.99, "< 6 mm"), (6.0, "6 to < 8 mm"), (8.0, "8 to < 10 mm"), (14.9, "10 to < 15 mm"), (15.0, "≥ 15 mm")],
)
def test_size_is_grouped_at_fleischners_limits(diameter_mm, group):
    assert SIZE.group_of(_case(diameter_mm=diameter_mm)) == group


@pytest.mark.parametrize(
    ("solid_fraction", "group"),
    [(0.0, "< 5 %"), (0.05, "5 to < 25 %"), (0.25, "25 to < 50 %"), (0.5, "≥ 50 %"), (1.0, "≥ 50 %")],
)
def test_texture_is_grouped_by_the_solid_share(solid_fraction, group):
    assert TEXTURE.group_of(_case(solid_fraction=solid_fraction)) == group


@pytest.mark.parametrize(
    ("slice_mm", "group"),
    [(0.625, "< 1 mm"), (0.99999988, "1 to < 1.5 mm"), (1.25, "1 to < 1.5 mm"), (2.5, "≥ 2.5 mm")],
)
def test_spacing_is_grouped_by_the_slices_distance(slice_mm, group):
    assert SPACING.group_of(_case(slice_mm=slice_mm)) == group


@pytest.fixture
def study(drawn_study) -> tuple[pd.DataFrame, dict[str, CaseRecord]]:
    """100 nodules, of which the first 40 are small, the next 53 middling and the last 7 large."""
    frame = drawn_study(cases=100, repeats=2)
    sizes = np.repeat([5.0, 7.0, 20.0], [40, 53, 7])
    ids = sorted(frame["case"].unique())
    return frame, {case: _case(case, diameter_mm=size) for case, size in zip(ids, sizes, strict=True)}


def test_scores_of_a_group_are_those_of_its_nodules_alone(study):
    frame, cases = study
    small = sorted(cases)[:40]
    found = [s for s in score_subgroups(frame, cases, [SIZE], replicates=100) if s.group == "< 6 mm"]
    expected = score_repeats(frame[frame["case"].isin(small)], ["test"], replicates=100)
    assert [(s.model, s.metric, s.value, s.low, s.high) for s in found] == [
        (s.model, s.metric, s.value, s.low, s.high) for s in expected
    ]


def test_small_group_says_its_number(study):
    frame, cases = study
    found = [s for s in score_subgroups(frame, cases, [SIZE], replicates=10) if s.group == "≥ 15 mm"]
    few = "7 patients, fewer than 10, so there is no interval"
    assert {(s.nodules, s.value, s.low, s.reason) for s in found} == {(7, None, None, few)}


def test_many_nodules_of_two_patients_are_a_small_group(study):
    frame, cases = study
    small = sorted(cases)[:40]
    inside = frame["case"].isin(small)
    frame.loc[inside, "patient"] = np.where(frame.loc[inside, "case"].isin(small[:20]), "one", "two")
    found = [s for s in score_subgroups(frame, cases, [SIZE], replicates=10) if s.group == "< 6 mm"]
    assert {(s.nodules, s.patients, s.value, s.low_retrained) for s in found} == {(40, 2, None, None)}


def test_nodules_are_grouped_by_a_column_of_the_table(study):
    frame, cases = study
    sexes = dict(zip(sorted(cases), ["f"] * 60 + [" m"] * 39 + [""], strict=True))
    cases = {case: dataclasses.replace(record, columns={"sex": sexes[case]}) for case, record in cases.items()}
    found = score_subgroups(frame, cases, columns_of(cases.values(), ["sex"]), replicates=100)
    assert {(s.characteristic, s.group, s.nodules) for s in found} == {
        ("sex", "f", 60),
        ("sex", "m", 39),
        ("sex", "not given", 1),
    }
    expected = score_repeats(frame[frame["case"].isin(sorted(cases)[:60])], ["test"], replicates=100)
    women = [(s.metric, s.value, s.low, s.high) for s in found if s.group == "f"]
    assert women == [(s.metric, s.value, s.low, s.high) for s in expected]


def test_column_that_the_dataset_lacks_is_refused_with_those_it_has():
    case = dataclasses.replace(_case(), columns={"scanner": "A", "sex": "f"})
    with pytest.raises(GgnError) as caught:
        columns_of([case], ["sex", "age"])
    assert (caught.value.found, caught.value.arguments) == ("age", ("by",))
    assert (caught.value.expected or "").startswith("scanner or sex or longest_diameter_mm or ")


def test_nodules_are_grouped_by_the_thirds_of_a_measurement():
    cases = [dataclasses.replace(_case(), mass_mg=float(mass)) for mass in range(1, 10)]
    (mass,) = columns_of(cases, ["mass_mg"])
    assert (mass.name, mass.groups) == ("mass_mg", ("< 3.67 mg", "3.67 to < 6.33 mg", "≥ 6.33 mg"))
    assert [mass.group_of(case) for case in cases] == [group for group in mass.groups for _ in range(3)]
    solid = [dataclasses.replace(_case(), solid_volume_mm3=volume) for volume in (0.0, 0.0, 0.0, 0.0, 8.0, 9.0)]
    (volume,) = columns_of(solid, ["solid_volume_mm3"])
    assert [volume.group_of(case) for case in solid] == ["0 to < 2.67 mm³"] * 4 + ["≥ 2.67 mm³"] * 2


def test_a_column_of_the_table_precedes_the_measurement_of_its_name():
    cases = [dataclasses.replace(_case(), columns={"mass_mg": text}) for text in ("low", "high")]
    assert columns_of(cases, ["mass_mg"])[0].groups == ("high", "low")


def test_group_that_nearly_lacks_a_class_has_accuracy_but_no_auc(study):
    frame, cases = study
    small = sorted(cases)[:40]
    rare = frame["case"].isin(small[3:])
    frame.loc[rare, "label"] = "AAH+AIS"
    frame.loc[frame["case"].isin(small[:3]), "label"] = "MIA+IAC"
    found = {
        s.metric: s
        for s in score_subgroups(frame, cases, [SIZE], replicates=10)
        if (s.group, s.model) == ("< 6 mm", "cascade")
    }
    assert found["accuracy"].value is not None
    assert (found["auc"].value, found["auc"].reason) == (
        None,
        "3 patients with MIA+IAC, fewer than 5, so there is no interval",
    )


def test_groups_without_nodules_are_left_out(study):
    groups = {(s.characteristic, s.group) for s in score_subgroups(*study, replicates=10)}
    assert groups == {
        ("longest diameter", "< 6 mm"),
        ("longest diameter", "6 to < 8 mm"),
        ("longest diameter", "≥ 15 mm"),
        ("solid share", "5 to < 25 %"),
        ("slice spacing", "1 to < 1.5 mm"),
    }


def test_groups_of_a_characteristic_hold_every_nodule(study):
    frame, cases = study
    nodules = {
        s.group: s.nodules for s in score_subgroups(frame, cases, [SIZE], replicates=10) if s.metric == "accuracy"
    }
    assert sum(nodules.values()) == len(split_by_system(frame)[0].rows)


def test_case_of_another_dataset_is_refused(study):
    frame, cases = study
    del cases["test0042"]
    with pytest.raises(PredictionsError) as caught:
        score_subgroups(frame, cases)
    assert caught.value.case == "test0042"
    assert caught.value.found == "1 unknown cases"
