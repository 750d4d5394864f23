import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ggn_tf.evaluation.report.model_card import run_card
from ggn_tf.evaluation.report.page import Prose
from ggn_tf.evaluation.report.run_report import run_page
from ggn_tf.evaluation.report.run_tables import OPTIMISTIC, summarise
from ggn_tf.evaluation.statistics.run_scores import (
    Estimate,
    Evaluation,
    ExtentScore,
    FirstWeights,
    Scores,
    SetScores,
    StageScores,
)
from tests.support.described_run import RUN, evaluated


@pytest.fixture
def evaluation(drawn_frame) -> Evaluation:
    parts = []
    for set_name, cases in (("validation", 30), ("test", 40)):
        joint = drawn_frame(cases=cases, set_name=set_name)
        parts += [joint.assign(**{"stage": "segment", "p_AAH+AIS": np.nan, "p_MIA+IAC": np.nan}), joint]
    return evaluated(pd.concat(parts), seed=5, replicates=200)


@pytest.fixture
def small_evaluation() -> Evaluation:
    """Numbers that can be recognised in the table."""
    joint = StageScores(
        accuracy=Estimate(0.7822, 0.7, 0.85),
        average_f1=Estimate(0.7753, 0.69, 0.84),
        mcc=Estimate(-0.0123, -0.2, 0.2, left_out=3),
        auc=Estimate(None, reason="all nodules are MIA+IAC"),
        dice=Estimate(0.8, 0.79, 0.81),
    )
    stages = {"segment": StageScores(dice=Estimate(0.81, 0.8, 0.82)), "joint": joint}
    test = SetScores(225, 201, {"AAH+AIS": 69, "MIA+IAC": 156}, stages)
    return Evaluation(Scores({"test": test}, replicates=2000, seed=0, level=0.95), RUN)


def test_summary_in_full(small_evaluation):
    assert summarise(small_evaluation) == (
        "cascade, task AAH+AIS,MIA+IAC, split 1, seed 3\n"
        "Weights selected on the validation set; no test case took part.\n"
        "\n"
        "test: 225 nodules of 201 patients (AAH+AIS 69, MIA+IAC 156)\n"
        "  stage    accuracy              average F1            MCC                     AUC        Dice\n"
        "  segment  -                     -                     -                       -          "
        "0.810 [0.800, 0.820]\n"
        "  joint    0.782 [0.700, 0.850]  0.775 [0.690, 0.840]  -0.012 [-0.200, 0.200]  undefined  "
        "0.800 [0.790, 0.810]\n"
        "\n"
        "In brackets the 95% BCa interval over 2000 bootstrap replicates of the patients, seed 0.\n"
        "AUC of stage joint on the test set: all nodules are MIA+IAC.\n"
        "On the test set 3 replicates lack a class and are left out of MCC.\n"
        "Patients like those of the test set that an interval 0.1 wide would need, stage joint: accuracy 453, "
        "average F1 453, MCC 3216, Dice 9. The test set has 201."
    )


@pytest.mark.parametrize("checked", [True, False])
def test_summary_notes_first_weights_whose_patients_are_not_known(small_evaluation, checked):
    run = replace(RUN, start_from=FirstWeights("file", "source.keras", "a" * 64, checked))
    note = (
        "First weights of source.keras: whether they have learned of test patients, or of those of another site, "
        "cannot be checked."
    )
    assert summarise(replace(small_evaluation, run=run)).endswith(note) is not checked


def test_summary_has_the_test_set_first_and_marks_the_set_that_selected_the_weights(evaluation):
    lines = [line for line in summarise(evaluation).splitlines() if " nodules of " in line]
    assert [line.split(":")[0] for line in lines] == ["test", "validation"]
    assert [line.endswith("weights selected on it") for line in lines] == [False, True]


def test_selection_on_the_test_set_is_a_warning(evaluation):
    text = summarise(replace(evaluation, run=replace(RUN, select_on="test")))
    assert OPTIMISTIC in text
    assert re.search(r"^test: 40 nodules .*, weights selected on it$", text, re.MULTILINE)
    assert "no test case took part" not in text


def test_single_stage_is_a_row_by_its_name(drawn_frame):
    frame = drawn_frame(stage="segment").assign(**{"p_AAH+AIS": np.nan, "p_MIA+IAC": np.nan})
    text = summarise(evaluated(frame))
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  ")] == ["stage", "segment"]


def test_scores_that_the_extent_of_the_ct_explains_are_marked_on_top_everywhere(drawn_frame):
    frame = drawn_frame()
    scores = (
        ExtentScore("test", "layers", "MIA+IAC", 0.88, 0.801, 0.94, revealing=True),
        ExtentScore("test", "share", "MIA+IAC", 0.55, 0.45, 0.65, revealing=False),
    )
    evaluation = replace(evaluated(frame), extent=scores)
    warning = summarise(evaluation).splitlines()[0]
    assert "THE SCORES OF THE TEST SET CANNOT BE TRUSTED" in warning
    assert "the number of patch layers inside the CT has an AUC of 0.880 [0.801, 0.940] for MIA+IAC" in warning
    assert "share" not in warning
    assert run_card(evaluation, frame).splitlines()[4] == f"**{warning}**"
    assert run_page(frame, evaluation).blocks[0] == Prose(warning, warning=True)
    assert "0.550 [0.450, 0.650]" in summarise(evaluation)


def test_an_extent_that_predicts_nothing_is_no_warning(drawn_frame):
    score = ExtentScore("test", "layers", "MIA+IAC", 0.5, None, None, revealing=False)
    text = summarise(replace(evaluated(drawn_frame()), extent=(score,)))
    assert "TRUSTED" not in text and "What the extent of the CT alone predicts" in text
