import dataclasses

from ggn_tf.evaluation.report.model_card import LIMITS, optimism_warning
from ggn_tf.studies.study_report import StudyDescription, study_card
from ggn_tf.studies.tables import ScoreTable
from ggn_tf.tasks import AIS_MIA, INDOLENT_INVASIVE
from tests.support.tiny_study import tiny_design

TABLE = ScoreTable(("score", "(a) raw CT"), [("AUC", "0.8")], "Mean.", name="table-2", title="Table 2")


def _card(select_on: str) -> list[str]:
    design = dataclasses.replace(tiny_design(tasks=(INDOLENT_INVASIVE, AIS_MIA), repeats=5), select_on=select_on)
    return study_card(StudyDescription(design, "ggn740", "0f1e2d", {"ggn-tf": "1.0.0"}), [TABLE]).splitlines()


def test_card_contains_the_design_the_data_the_limits_and_the_tables():
    assert {
        "- Dataset fingerprint: 0f1e2d",
        "- Tasks: AAH+AIS,MIA+IAC; AIS,MIA",
        "- Repeats: 5",
        "- Weights selected on: validation",
        "**Not a medical device.** Not for diagnosis, not for a decision on a patient.",
        "## Table 2",
        "| AUC | 0.8 |",
        *(f"- {limit}" for limit in LIMITS),
    } <= set(_card("validation"))


def test_card_warns_only_of_selection_on_the_test_set():
    (warning,) = optimism_warning("test")
    assert warning in _card("test")
    assert warning not in _card("validation")
