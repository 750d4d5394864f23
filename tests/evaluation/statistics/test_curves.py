import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from ggn_tf.evaluation.statistics.bootstrap import draw_weights, resample
from ggn_tf.evaluation.statistics.curves import THRESHOLDS, decision_curve, roc_curve_with_band
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.scores import class_indices
from ggn_tf.evaluation.statistics.system_predictions import split_by_system
from tests.support.described_run import scores_of_test

TWO = ("AAH+AIS", "MIA+IAC")


def _vertical(rows: pd.DataFrame, weights: np.ndarray | None = None) -> np.ndarray:
    """Scikit-learn's curve at 101 false positive rates."""
    rate, sensitivity, _ = roc_curve(
        class_indices(rows)[0], probabilities(rows)[:, 1], sample_weight=weights, drop_intermediate=False
    )
    return np.interp(np.linspace(0, 1, 101), rate, sensitivity)


@pytest.mark.parametrize("digits", [1, 16], ids=["many ties", "no ties"])
def test_curve_is_scikit_learns(drawn_frame, digits):
    rows = drawn_frame(seed=2)
    rows["p_MIA+IAC"] = rows["p_MIA+IAC"].round(digits)
    rows["p_AAH+AIS"] = 1 - rows["p_MIA+IAC"]
    np.testing.assert_allclose(roc_curve_with_band(rows, 10, 0).sensitivity, _vertical(rows), atol=1e-12)


def test_curve_of_four_nodules_by_hand(make_frame):
    chance = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.2, 0.8]])
    curve = roc_curve_with_band(make_frame(TWO, [0, 0, 1, 1], chance), 10, 0)
    # Scores 0.8 (positive), 0.6 (negative), 0.5 (positive), 0.1 (negative).
    assert (curve.sensitivity[0], curve.sensitivity[49], curve.sensitivity[50]) == (0.5, 0.5, 1.0)


def test_area_and_interval_are_those_of_the_scores(drawn_frame):
    rows = drawn_frame(seed=3)
    curve = roc_curve_with_band(rows, 200, 5)
    entry = scores_of_test(rows, seed=5, replicates=200)["auc"]
    assert curve.auc == pytest.approx(entry.value)
    assert curve.interval == pytest.approx((entry.low, entry.high))


def test_band_is_that_of_a_slow_loop_over_scikit_learn(drawn_frame):
    rows = drawn_frame(cases=40, seed=1).sort_values("case")
    weights = draw_weights(rows["patient"].to_numpy(dtype=str), 50, 7)
    slow = [_vertical(rows, one) for one in weights if len(set(rows["label"][one > 0])) == 2]
    curve = roc_curve_with_band(rows, 50, 7)
    np.testing.assert_allclose(curve.low, np.percentile(slow, 2.5, axis=0), atol=1e-12)
    np.testing.assert_allclose(curve.high, np.percentile(slow, 97.5, axis=0), atol=1e-12)


def test_curve_of_repeats_is_their_mean_at_equal_false_positive_rates(drawn_study):
    rows = drawn_study(systems=[("cascade", "joint")], repeats=3)
    curve = roc_curve_with_band(rows, 10, 0)
    each = [part for _, part in rows.groupby("repeat")]
    np.testing.assert_allclose(curve.sensitivity, np.mean([_vertical(part) for part in each], axis=0), atol=1e-12)
    areas = [roc_auc_score(class_indices(part)[0], probabilities(part)[:, 1]) for part in each]
    assert curve.auc == pytest.approx(np.mean(areas))


def test_one_class_has_no_curve(make_frame):
    curve = roc_curve_with_band(make_frame(TWO, [1, 1], np.array([[0.9, 0.1], [0.3, 0.7]])), 10, 0)
    assert curve.auc is None
    assert curve.interval is None
    assert np.isnan(curve.sensitivity).all()
    assert np.isnan(curve.low).all()


TWO_CLASSES = ("AAH+AIS", "MIA+IAC")


def _curve(make_frame, label, chance, thresholds):
    chance = np.array(chance)
    cell = split_by_system(make_frame(TWO_CLASSES, label, np.stack([1 - chance, chance], axis=1)))[0]
    return decision_curve(cell, resample(cell.patients, 200, 0), thresholds)


def test_net_benefit_by_hand(make_frame):
    """Ten nodules, four positive: 4 true and 3 false from 0.2 on, 3 and 1 from 0.5 on, 2 and 0 from 0.75 on."""
    label = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    chance = [0.9, 0.8, 0.6, 0.3, 0.7, 0.4, 0.2, 0.1, 0.05, 0.1]
    curve = _curve(make_frame, label, chance, (0.2, 0.5, 0.75))
    assert curve.net_benefit.tolist() == pytest.approx([0.4 - 0.3 / 4, 0.3 - 0.1, 0.2])


def test_treating_all_by_hand(make_frame):
    """Four of ten are positive: 0.4 - 0.6 t / (1 - t), which is zero at t = 0.4."""
    label = [1] * 4 + [0] * 6
    curve = _curve(make_frame, label, np.linspace(0.1, 0.9, 10), (0.2, 0.4, 0.5))
    assert curve.treat_all.tolist() == pytest.approx([0.4 - 0.6 / 4, 0.0, -0.2])


def test_probability_at_the_threshold_acts(make_frame):
    assert _curve(make_frame, [1, 0], [0.5, 0.25], (0.5,)).net_benefit.tolist() == [0.5]


def test_probabilities_above_every_threshold_are_treating_all(make_frame):
    assert (min(THRESHOLDS), max(THRESHOLDS), len(THRESHOLDS)) == pytest.approx((0.01, 0.99, 99))
    curve = _curve(make_frame, [1, 0, 0, 1], [0.995] * 4, THRESHOLDS)
    np.testing.assert_allclose(curve.net_benefit, curve.treat_all, atol=1e-12)


def test_perfect_probabilities_are_worth_the_prevalence(make_frame):
    curve = _curve(make_frame, [1, 0, 0, 1], [1.0, 0.0, 0.0, 1.0], THRESHOLDS)
    np.testing.assert_allclose(curve.net_benefit, 0.5)


def test_repeats_are_averaged(drawn_study):
    cell = split_by_system(drawn_study(repeats=2))[1]
    resampling = resample(cell.patients, 50, 0)
    whole = decision_curve(cell, resampling, (0.3, 0.6))
    score = {number: rows["p_MIA+IAC"].to_numpy() for number, rows in cell.repeats.items()}
    expected = [
        np.mean([np.mean((score[r] >= t) * np.where(cell.label == 1, 1, -t / (1 - t))) for r in (1, 2)])
        for t in (0.3, 0.6)
    ]
    assert whole.net_benefit.tolist() == pytest.approx(expected)
    assert (whole.low < whole.net_benefit).all()
    assert (whole.net_benefit < whole.high).all()


def test_threshold_that_no_nodule_reaches_is_worth_nothing(make_frame):
    curve = _curve(make_frame, [1, 0] * 6, [0.5] * 12, (0.9,))
    assert (curve.net_benefit.tolist(), curve.low.tolist(), curve.high.tolist()) == ([0.0], [0.0], [0.0])


def test_nine_patients_have_no_band(make_frame):
    curve = _curve(make_frame, [1, 0, 0] * 3, [0.5] * 9, (0.3, 0.9))
    assert np.isnan(curve.low).all() and np.isnan(curve.high).all()


def test_more_than_two_classes_have_none(drawn_study):
    cell = split_by_system(drawn_study(classes=("AAH+AIS", "MIA", "IAC")))[0]
    assert decision_curve(cell, resample(cell.patients, 10, 0)) is None
