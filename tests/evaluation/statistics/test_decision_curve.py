import numpy as np
import pytest

from ggn_tf.evaluation.statistics.bootstrap import resample
from ggn_tf.evaluation.statistics.curves import THRESHOLDS, decision_curve
from ggn_tf.evaluation.statistics.system_predictions import split_by_system

TWO = ("AAH+AIS", "MIA+IAC")


def _curve(make_frame, label, chance, thresholds):
    chance = np.array(chance)
    cell = split_by_system(make_frame(TWO, label, np.stack([1 - chance, chance], axis=1)))[0]
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
