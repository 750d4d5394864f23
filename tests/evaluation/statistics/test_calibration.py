import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, softmax
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.bootstrap import resample
from ggn_tf.evaluation.statistics.calibration import (
    NO_INTERVAL,
    apply_temperature,
    ece_by_chance,
    expected_calibration_error,
    fit_temperature,
    reliability_curve,
    resampled_intercept,
    resampled_slope,
    scale_by_temperature,
    score_calibration,
)
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions, split_by_system

TWO = ("AAH+AIS", "MIA+IAC")
THREE = ("AAH+AIS", "MIA", "IAC")


def _predictions(make_frame, label, chance, patients=None) -> SystemPredictions:
    chance = np.asarray(chance, float)
    probabilities = np.stack([1 - chance, chance], axis=1) if chance.ndim == 1 else chance
    classes = TWO if probabilities.shape[1] == 2 else THREE
    return split_by_system(make_frame(classes, label, probabilities, patients=patients))[0]


def _scores(predictions, seed=0) -> dict:
    return {score.metric: score for score in score_calibration(predictions, resample(predictions.patients, 200, seed))}


def test_curve_by_hand(make_frame):
    """Two bins: of three nodules near 0.2 one is positive, of three near 0.8 two are."""
    predictions = _predictions(make_frame, [0, 1, 0, 1, 1, 0], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    curve = reliability_curve(predictions, resample(predictions.patients, 100, 0), bins=2)
    assert [(point.predicted, point.observed, point.predictions) for point in curve] == [
        (pytest.approx(0.2), pytest.approx(1 / 3), 3),
        (pytest.approx(0.8), pytest.approx(2 / 3), 3),
    ]


def test_curve_is_scikit_learns(make_frame):
    rng = np.random.default_rng(0)
    chance = rng.random(400)
    label = (rng.random(400) < chance**1.5).astype(int)
    predictions = _predictions(make_frame, label, chance)
    curve = reliability_curve(predictions, resample(predictions.patients, 50, 0))
    observed, predicted = calibration_curve(label, chance, n_bins=10, strategy="quantile")
    assert [point.observed for point in curve] == pytest.approx(observed.tolist())
    assert [point.predicted for point in curve] == pytest.approx(predicted.tolist())
    assert all(point.low < point.observed < point.high for point in curve)


def test_more_classes_are_judged_by_the_highest_probability(make_frame):
    chance = [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.1, 0.7, 0.2], [0.7, 0.2, 0.1]]
    predictions = _predictions(make_frame, [0, 2, 1, 1], chance)
    (point,) = reliability_curve(predictions, resample(predictions.patients, 20, 0), bins=1)
    assert (point.predicted, point.observed) == (pytest.approx(0.7), 0.75)


def test_repeats_share_a_curve(drawn_study):
    predictions = split_by_system(drawn_study(repeats=3))[0]
    curve = reliability_curve(predictions, resample(predictions.patients, 20, 0))
    assert sum(point.predictions for point in curve) == 180
    assert len(curve) == 6


def test_equal_probabilities_stay_together(make_frame):
    predictions = _predictions(make_frame, [0, 1] * 10, [0.5] * 20)
    assert len(reliability_curve(predictions, resample(predictions.patients, 20, 0), bins=4)) == 1


def test_ece_by_hand():
    """Bins of three: |0.2 - 1/3| and |0.8 - 2/3|, both 2/15."""
    hit = np.array([False, True, False, True, True, False])
    error = expected_calibration_error(np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]), hit, bins=2)
    assert error == pytest.approx(2 / 15)


def test_ece_by_chance_is_that_of_exact_probabilities():
    """One bin: the mean distance of a share of 100 fair coins from a half, sqrt(2 / pi) x 0.05."""
    error = ece_by_chance(np.full(100, 0.5), np.random.default_rng(0))
    assert error == pytest.approx(np.sqrt(2 / np.pi) * 0.05, rel=0.1)


@pytest.mark.parametrize("classes", [TWO, THREE], ids=len)
def test_brier_is_scikit_learns_over_the_repeats(drawn_study, classes):
    predictions = split_by_system(drawn_study(classes=classes, repeats=3))[1]
    expected = [
        brier_score_loss(predictions.label, chance if len(classes) > 2 else chance[:, 1])
        for chance in predictions.probabilities
    ]
    score = _scores(predictions)["brier"]
    assert (score.value, score.deviation) == pytest.approx((np.mean(expected), np.std(expected, ddof=1)))
    assert score.low < score.value < score.high


def test_in_the_large_is_observed_less_predicted(make_frame):
    score = _scores(_predictions(make_frame, [1, 1, 0, 1], [0.5, 0.5, 0.25, 0.75]))["in_the_large"]
    assert score.value == pytest.approx(0.75 - 0.5)


def test_slope_is_that_of_a_logistic_regression():
    rng = np.random.default_rng(1)
    odds = 2 * rng.normal(size=300)
    hit = rng.random(300) < 1 / (1 + np.exp(-0.6 * odds - 0.3))
    weights = np.stack([np.ones(300), rng.integers(0, 4, 300)])
    slopes = resampled_slope(1 / (1 + np.exp(-odds)), hit, weights)
    for slope, weight in zip(slopes, weights, strict=True):
        theirs = LogisticRegression(C=1e10, tol=1e-10).fit(odds[:, np.newaxis], hit, sample_weight=weight)
        assert slope == pytest.approx(theirs.coef_[0, 0], abs=1e-4)


def test_intercept_is_that_of_a_logistic_regression_with_the_odds_as_offset():
    rng = np.random.default_rng(1)
    odds = 2 * rng.normal(size=300)
    hit = rng.random(300) < 1 / (1 + np.exp(-odds - 0.7))
    weights = np.stack([np.ones(300), rng.integers(0, 4, 300)])
    for found, weight in zip(resampled_intercept(expit(odds), hit, weights), weights, strict=True):
        theirs = minimize_scalar(lambda a, w=weight: np.sum(w * (np.logaddexp(0, a + odds) - hit * (a + odds))))
        assert found == pytest.approx(theirs.x, abs=1e-6)


def test_slope_of_separated_classes_is_undefined_with_the_reason(make_frame):
    score = _scores(_predictions(make_frame, [0] * 10 + [1] * 10, np.linspace(0.1, 0.9, 20)))["slope"]
    assert (score.value, score.low, score.reason) == (None, None, "the probabilities separate the classes")


def test_one_separated_repeat_of_three_makes_the_slope_undefined_and_says_so(drawn_study):
    frame = drawn_study(systems=[("cascade", "joint")], repeats=3)
    positive = (frame["label"] == "MIA+IAC") & (frame["repeat"] == 2)
    negative = (frame["label"] != "MIA+IAC") & (frame["repeat"] == 2)
    frame.loc[positive, ["p_AAH+AIS", "p_MIA+IAC"]] = [0.2, 0.8]
    frame.loc[negative, ["p_AAH+AIS", "p_MIA+IAC"]] = [0.7, 0.3]
    score = _scores(split_by_system(frame)[0])["slope"]
    assert (score.value, score.deviation) == (None, None)
    assert score.reason == "the probabilities separate the classes in 1 of 3 repeats"


def test_replicates_that_separate_are_counted_and_too_many_of_them_give_no_interval(make_frame):
    """One nodule is on the wrong side: without it, as in a third of the replicates, the classes are separated."""
    chance = np.linspace(0.05, 0.95, 30)
    label = (chance > 0.5).astype(int)
    label[12] = 1
    score = _scores(_predictions(make_frame, label, chance))["slope"]
    assert score.value is not None
    assert (score.low, score.high) == (None, None)
    assert 40 < score.left_out < 110
    assert score.reason == f"{score.left_out} of 200 replicates have no value, so there is no interval"


def test_slope_of_separated_or_single_classes_is_undefined():
    chance = np.array([0.1, 0.2, 0.7, 0.9])
    slopes = resampled_slope(chance, np.array([False, False, True, True]), np.array([[1.0, 1, 1, 1], [1, 1, 0, 0]]))
    assert np.isnan(slopes).all()


def test_probabilities_of_zero_and_one_have_a_slope():
    chance = np.array([0.0, 0.2, 0.7, 1.0, 0.0, 0.6])
    hit = np.array([False, True, False, True, True, True])
    (slope,) = resampled_slope(chance, hit, np.ones((1, 6)))
    odds = np.log(np.clip(chance, 1e-12, 1)) - np.log(np.clip(1 - chance, 1e-12, 1))

    def loss(w):
        return np.sum(np.logaddexp(0, w[0] + w[1] * odds) - hit * (w[0] + w[1] * odds))

    assert slope == pytest.approx(minimize(loss, [0, 0], tol=1e-12).x[1], abs=1e-4)


def test_scores_of_three_classes_have_no_slope(drawn_study):
    assert list(_scores(split_by_system(drawn_study(classes=THREE))[0])) == [
        "brier",
        "in_the_large",
        "ece",
        "ece_by_chance",
    ]


def test_ece_has_no_interval_and_a_reason(drawn_study):
    score = _scores(split_by_system(drawn_study())[0])["ece"]
    assert (score.low, score.high) == (None, None)
    assert score.reason == NO_INTERVAL


TWO_CLASSES = ("AAH+AIS", "MIA+IAC")


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_that_was_applied_is_found(true):
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(40_000, 3))
    exact = softmax(logits, axis=1)
    label = (rng.random((40_000, 1)) > exact.cumsum(axis=1)).sum(axis=1)
    assert fit_temperature(softmax(logits * true, axis=1), label) == pytest.approx(true, rel=0.03)


def test_temperature_has_the_least_log_loss():
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, 80)
    chance = softmax(3 * rng.normal(size=(80, 2)) + 2 * np.eye(2)[label], axis=1)
    best = fit_temperature(chance, label)
    loss = {t: log_loss(label, apply_temperature(chance, t)) for t in (best, best * 0.99, best * 1.01)}
    assert min(loss, key=loss.get) == best


def test_scaling_is_that_of_the_logits():
    logits = np.random.default_rng(2).normal(size=(5, 4))
    np.testing.assert_allclose(
        apply_temperature(softmax(logits, axis=1), 2.5), softmax(logits / 2.5, axis=1), atol=1e-12
    )


def test_probability_of_zero_stays_finite():
    scaled = apply_temperature(np.array([[0.0, 1.0]]), 2.0)
    assert np.isfinite(scaled).all()
    assert 0 < scaled[0, 0] < 1e-5


def _study(drawn_frame) -> pd.DataFrame:
    parts = [drawn_frame(cases=40, seed=i, set_name=name) for i, name in enumerate(("train", "validation", "test"))]
    segmented = [part.assign(**{"stage": "segment", "p_AAH+AIS": np.nan, "p_MIA+IAC": np.nan}) for part in parts]
    return pd.concat([*segmented, *parts], ignore_index=True)


def test_temperature_is_fitted_on_validation_alone(drawn_frame):
    frame = _study(drawn_frame)
    _, temperatures = scale_by_temperature(frame)
    validation = frame[(frame["set"] == "validation") & (frame["stage"] == "joint")]
    expected = fit_temperature(
        validation[["p_AAH+AIS", "p_MIA+IAC"]].to_numpy(),
        (validation["label"] == TWO_CLASSES[1]).to_numpy().astype(int),
    )
    assert temperatures.to_dict("records") == [
        {"model": "cascade", "split": 1, "repeat": 1, "stage": "joint", "temperature": expected}
    ]


def test_every_run_has_its_own(drawn_frame):
    frame = _study(drawn_frame)
    other = frame.assign(repeat=2)
    other["p_MIA+IAC"] = other["p_MIA+IAC"] ** 2
    other["p_AAH+AIS"] = 1 - other["p_MIA+IAC"]
    together, alone = scale_by_temperature(pd.concat([frame, other], ignore_index=True)), scale_by_temperature(frame)
    assert len(together[1]) == 2
    pd.testing.assert_frame_equal(together[0].iloc[: len(frame)], alone[0])


def test_scaling_changes_probabilities_alone_and_keeps_their_order(drawn_frame):
    frame = _study(drawn_frame)
    scaled, _ = scale_by_temperature(frame)
    same = [name for name in frame.columns if not name.startswith("p_")]
    pd.testing.assert_frame_equal(scaled[same], frame[same])
    test, before = (table[(table["set"] == "test") & (table["stage"] == "joint")] for table in (scaled, frame))
    assert not np.allclose(test["p_MIA+IAC"], before["p_MIA+IAC"])
    assert roc_auc_score(test["label"], test["p_MIA+IAC"]) == roc_auc_score(before["label"], before["p_MIA+IAC"])


def test_run_without_validation_is_refused(drawn_frame):
    with pytest.raises(PredictionsError) as caught:
        scale_by_temperature(drawn_frame())
    assert caught.value.case == "model cascade, split 1, repeat 1, stage joint"
    assert caught.value.found == "sets test"
