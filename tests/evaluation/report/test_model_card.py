from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ggn_tf.evaluation.report.model_card import LIMITS, optimism_warning, run_card
from ggn_tf.evaluation.report.page import ASSUMPTIONS, Table, fact_lines, table_lines
from ggn_tf.evaluation.statistics.run_scores import Estimate, Evaluation, Scores, SetScores, StageScores
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
    # Two stages predict the same nodules.
    return pd.concat([train, test, test.assign(stage="segment")], ignore_index=True)


def test_card_has_its_sections(evaluation, frame):
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
        f"Method: Wang et al. 2021, doi:10.1016/j.compmedimag.2020.101814. {ASSUMPTIONS}",
        "**Not a medical device.** Not for diagnosis, not for a decision on a patient.",
        "| set | nodules | patients | AAH+AIS | MIA+IAC |",
        "| train | 5 | 4 | 3 | 2 |",
        "| test | 2 | 1 | 0 | 2 |",
        "- Dataset fingerprint: 0f1e2d",
        "- Split: 2",
        "| joint | 71 | 21 | 50 epochs without a better score |",
        "| joint | 0.782 [0.700, 0.850] |",
        *(f"- {limit}" for limit in LIMITS),
    ],
)
def test_card_contains(evaluation, frame, line):
    assert line in run_card(evaluation, frame).splitlines()


def test_selection_on_the_test_set_is_beside_the_scores(evaluation, frame):
    (warning,) = optimism_warning("test")
    assert warning not in run_card(evaluation, frame)
    assert warning in run_card(replace(evaluation, run=replace(RUN, select_on="test")), frame)


def test_unknown_facts_are_not_recorded():
    assert fact_lines([("seed", 0), ("versions", None)]) == ["- seed: 0", "- versions: not recorded"]


def test_bar_in_a_name_does_not_end_its_cell():
    assert table_lines(Table(["a|b"], [["c"]])) == ["| a\\|b |", "| --- |", "| c |"]
