from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ggn_tf.evaluation.report.markdown import fact_lines, table
from ggn_tf.evaluation.report.model_card import LIMITS, run_card, study_card
from ggn_tf.evaluation.statistics.estimate import Estimate
from ggn_tf.evaluation.statistics.run_scores import Evaluation, Scores, SetScores, StageScores
from tests.support import described_run

RUN = replace(described_run.RUN, split=2, stages=described_run.RUN.stages[-1:])


@pytest.fixture
def evaluation() -> Evaluation:
    stages = {"joint": StageScores(accuracy=Estimate(0.7822, 0.7, 0.85))}
    test = SetScores(225, 201, {"AAH+AIS": 69, "MIA+IAC": 156}, stages)
    return Evaluation(Scores({"test": test}, replicates=2000, seed=0, level=0.95), RUN)


@pytest.fixture
def frame(make_frame) -> pd.DataFrame:
    two = ("AAH+AIS", "MIA+IAC")
    train = make_frame(two, [0, 0, 0, 1, 1], np.full((5, 2), 0.5), patients=["a", "a", "b", "c", "d"], set_name="train")
    test = make_frame(two, [1, 1], np.full((2, 2), 0.5), patients=["e", "e"])
    # Two stages answer about the same nodules.
    return pd.concat([train, test, test.assign(stage="segment")], ignore_index=True)


def test_card_has_the_parts_that_a_reader_looks_for(evaluation, frame):
    titles = [line for line in run_card(evaluation, frame).splitlines() if line.startswith("#")]
    assert titles == [
        "# Classifier of pulmonary ground-glass nodules: AAH+AIS, MIA+IAC",
        "## Intended use",
        "## Data",
        "## Training",
        "## Scores",
        "## Limits",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "**Not a medical device.** Not for diagnosis, not for a decision on a patient.",
        "| set | nodules | patients | AAH+AIS | MIA+IAC |",
        "| train | 5 | 4 | 3 | 2 |",
        "| test | 2 | 1 | 0 | 2 |",
        "- dataset fingerprint: 0f1e2d",
        "- split: 2",
        "- selection of the weights: Weights selected on the validation set; no test case took part.",
        "| joint | 71 | 21 | 50 epochs without a better score |",
        "| joint | 0.782 [0.700, 0.850] |",
    ],
)
def test_card_says(evaluation, frame, line):
    assert line in run_card(evaluation, frame).splitlines()


@pytest.mark.parametrize("limit", LIMITS)
def test_card_says_every_limit(evaluation, frame, limit):
    assert f"- {limit}" in run_card(evaluation, frame)


def test_selection_on_the_test_set_is_said_beside_the_scores(evaluation, frame):
    alarm = "**The weights were selected on the test set, as in the paper: these scores are optimistic.**"
    assert alarm not in run_card(evaluation, frame)
    assert alarm in run_card(replace(evaluation, run=replace(RUN, select_on="test")), frame)


def test_what_is_not_known_is_said_to_be_unknown():
    assert fact_lines([("seed", 0), ("versions", None)]) == ["- seed: 0", "- versions: not recorded"]


def test_bar_in_a_name_does_not_end_its_cell():
    assert table(["a|b"], [["c"]]) == ["| a\\|b |", "| --- |", "| c |"]


STUDY = {
    "tasks": ["AAH+AIS,MIA+IAC", "AIS,MIA"],
    "models": ["raw", "cascade"],
    "splits": [1, 2],
    "repeats": 5,
    "select_on": "test",
    "precision": "float32",
    "dataset": "ggn740",
    "dataset_fingerprint": "0f1e2d",
    "versions": {"ggn-tf": "1.0.0"},
}


@pytest.mark.parametrize(
    "line",
    [
        "- dataset fingerprint: 0f1e2d",
        "- tasks: AAH+AIS,MIA+IAC; AIS,MIA",
        "- repeats: 5",
        "- weights selected on: test",
        "The weights were selected on the test set, as in the paper: these scores are optimistic.",
        "**Not a medical device.** Not for diagnosis, not for a decision on a patient.",
        "## Table 2",
    ],
)
def test_card_of_a_study_says(line):
    assert line in study_card(STUDY, "## Table 2\n\n| a |\n").splitlines()


def test_card_of_an_honest_study_has_no_caution():
    assert "optimistic" not in study_card({**STUDY, "select_on": "validation"}, "")
