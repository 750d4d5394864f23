from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.evaluation.report.run_tables import extent_warnings
from ggn_tf.evaluation.statistics.field_of_view import score_extent
from ggn_tf.evaluation.statistics.run_scores import ExtentScore
from tests.support.slides import make_records

TWO = ("AAH+AIS", "MIA+IAC")
THREE = ("AAH+AIS", "MIA", "IAC")


def covered(frame: pd.DataFrame, layers: np.ndarray) -> dict[str, CaseRecord]:
    records = make_records(list(frame["case"]))
    return {
        case: replace(records[case], covered_layers=int(count), covered_share=float(count) / 32)
        for case, count in zip(frame["case"], layers, strict=True)
    }


def scores_of(frame: pd.DataFrame, layers: np.ndarray) -> list[ExtentScore]:
    return score_extent(frame, covered(frame, layers), "test", seed=0, replicates=500)


def test_cts_that_contain_every_patch_are_not_suspected(drawn_frame) -> None:
    frame = drawn_frame()
    scores = scores_of(frame, np.full(len(frame), 32))
    assert [(score.measure, score.value, score.low, score.revealing) for score in scores] == [
        ("layers", 0.5, None, False),
        ("share", 0.5, None, False),
    ]
    assert extent_warnings(scores) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_an_extent_that_follows_the_class_in_either_direction_is_revealing(drawn_frame, sign: int) -> None:
    frame, noise = drawn_frame(cases=80), np.random.default_rng(0)
    second = (frame["label"] == TWO[1]).to_numpy()
    layers = np.clip(16 + sign * 6 * (2 * second - 1) + noise.normal(0, 6, 80), 0, 32).round()
    for score in scores_of(frame, layers):
        assert score.value == pytest.approx(roc_auc_score(second, layers))
        assert score.revealing and (score.low > 0.5 if sign > 0 else score.high < 0.5)
    (warning,) = extent_warnings(scores_of(frame, layers))
    assert "THE SCORES OF THE TEST SET CANNOT BE TRUSTED" in warning and f"{score.value:.3f} [" in warning


def test_perfect_separation_is_revealing_although_it_has_no_interval(make_frame) -> None:
    label = [0] * 8 + [1] * 8
    frame = make_frame(TWO, label, np.full((16, 2), 0.5))
    scores = scores_of(frame, np.array(label) * 10 + 5)
    assert all((score.value, score.low, score.revealing) == (1.0, None, True) for score in scores)
    (warning,) = extent_warnings(scores)
    assert "has an AUC of 1.000 for MIA+IAC" in warning


def test_each_of_three_classes_is_scored_against_the_rest(drawn_frame) -> None:
    frame = drawn_frame(THREE, cases=90)
    layers = np.where(frame["label"] == "MIA", 10, 30)
    scores = {score.class_name: score for score in scores_of(frame, layers) if score.measure == "layers"}
    assert (
        list(scores) == list(THREE) and scores["MIA"].value == 0 and all(score.revealing for score in scores.values())
    )


def test_an_unrelated_extent_is_seldom_revealing(drawn_frame) -> None:
    suspected = 0
    for seed in range(60):
        frame = drawn_frame(cases=60, seed=seed)
        layers = np.random.default_rng(1000 + seed).integers(8, 33, 60)
        suspected += any(score.revealing for score in scores_of(frame, layers))
    assert suspected <= 8


def test_one_class_only_and_an_empty_set_have_no_score(make_frame) -> None:
    frame = make_frame(TWO, [1, 1, 1], np.full((3, 2), 0.5))
    assert all(score.value is None and not score.revealing for score in scores_of(frame, np.array([1, 2, 3])))
    assert score_extent(frame, {}, "external", 0, 10) == []
