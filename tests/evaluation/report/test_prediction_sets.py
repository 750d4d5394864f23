"""Prediction sets in the report and in the terminal's output."""

from dataclasses import replace

import pandas as pd
import pytest

from ggn_tf.evaluation.report.page import Table, cell_line
from ggn_tf.evaluation.report.prediction_sets import coverage_table, too_few_note
from ggn_tf.evaluation.report.run_report import run_page
from ggn_tf.evaluation.report.run_tables import summarise
from ggn_tf.evaluation.statistics.prediction_sets import evaluate_sets
from tests.evaluation.statistics.test_subgroups import _case
from tests.support.described_run import evaluated


@pytest.fixture
def frame(drawn_frame) -> pd.DataFrame:
    sets = (("validation", 60, 1), ("test", 40, 2), ("external", 30, 3))
    return pd.concat([drawn_frame(cases=n, seed=seed, set_name=name) for name, n, seed in sets], ignore_index=True)


@pytest.fixture
def evaluation(frame):
    known = {name: {case: _case(case) for case in frame["case"]} for name in ("test", "external")}
    sets = evaluate_sets(frame, known, 0.8, replicates=20)
    return replace(evaluated(frame), external_dataset="elsewhere", sets=sets)


def test_terminal_has_coverage_and_size_of_all_nodules_and_of_each_class(evaluation):
    table = coverage_table(evaluation.sets, "external")
    assert table.heading == ["nodules of", "nodules", "patients", "coverage", "classes in a set"]
    assert [row[0] for row in table.rows] == ["all nodules", "AAH+AIS", "MIA+IAC"]
    whole, first, second = table.rows
    assert whole[1] == 30 == first[1] + second[1]
    coverage = next(score for score in evaluation.sets.scores if score.set == "external")
    assert cell_line(whole[3]) == f"{coverage.value:.3f} [{coverage.low:.3f}, {coverage.high:.3f}]"
    shown = summarise(evaluation)
    assert "test: prediction sets of stage joint for a coverage of 80%" in shown
    assert shown.index("test: prediction sets") < shown.index("external: prediction sets")


def test_report_has_a_section_for_each_site(frame, evaluation):
    plain = {section.anchor for section in run_page(frame, replace(evaluation, sets=None)).sections}
    sections = {section.anchor: section for section in run_page(frame, evaluation).sections}
    assert set(sections) - plain == {"prediction-sets"}
    inner = {section.anchor: section for section in sections["external"].inner}
    for section in (sections["prediction-sets"], inner["external-prediction-sets"]):
        tables = [block for block in section.blocks if isinstance(block, Table)]
        assert [table.heading[0] for table in tables] == [
            *["class", "nodules", "class"],
            *["longest diameter", "solid share", "slice spacing"],
        ]


def test_too_few_patients_leave_one_sentence(frame, evaluation):
    few = frame[(frame["set"] != "validation") | ~frame["case"].duplicated() & (frame.index < 6)]
    sets = evaluate_sets(few, {"test": {}}, 0.9)
    fewer = replace(evaluation, sets=sets)
    (note,) = too_few_note(sets)
    counts = {c.class_name: c.patients for c in sets.thresholds.classes}
    assert "9 patients of each class in the validation set" in note
    assert all(f"{count} with {name}" in note for name, count in counts.items())
    assert note in summarise(fewer) and "prediction sets of stage" not in summarise(fewer)
    assert "prediction-sets" not in {section.anchor for section in run_page(few, fewer).sections}
    assert too_few_note(evaluation.sets) == []
