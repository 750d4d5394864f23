import time

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm, t, ttest_1samp
from scipy.stats import bootstrap as scipy_bootstrap
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, roc_auc_score

from ggn_tf.evaluation.statistics import bootstrap
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.scores import class_indices, score_predictions
from tests.support.described_run import scores_of_test

TWO = ("AAH+AIS", "MIA+IAC")
THREE = ("AAH+AIS", "MIA", "IAC")
REPLICATES = 40


def _slow_replicates(frame: pd.DataFrame, seed: int) -> list[pd.DataFrame]:
    """The same draws as plain Python: put the drawn patients' nodules together, one patient after the other."""
    patients = sorted(frame["patient"].unique())
    drawn = np.random.default_rng(seed).integers(0, len(patients), (REPLICATES, len(patients)))
    return [pd.concat([frame[frame["patient"] == patients[i]] for i in row]) for row in drawn]


def _slow_interval(frame: pd.DataFrame, seed: int, name: str) -> tuple[float, float]:
    """BCa as Efron and Tibshirani 1993 write it (eq. 14.9 to 14.15), at levels from Student's t as Hesterberg does."""
    value = _sklearn(frame, name)
    drawn = np.array([_sklearn(part, name) for part in _slow_replicates(frame, seed)])
    patients = sorted(frame["patient"].unique())
    without = np.array([_sklearn(frame[frame["patient"] != patient], name) for patient in patients])
    below = (np.sum(drawn < value - 1e-12) + np.sum(drawn <= value + 1e-12)) / 2
    z0 = norm.ppf(below / REPLICATES)
    a = np.sum((without.mean() - without) ** 3) / (6 * np.sum((without.mean() - without) ** 2) ** 1.5)
    n = len(patients)
    z = np.sqrt(n / (n - 1)) * t.ppf([0.025, 0.975], n - 1)
    low, high = np.quantile(drawn, norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))))
    return low, high


def _sklearn(frame: pd.DataFrame, name: str) -> float:
    label, predicted = class_indices(frame)
    if name == "accuracy":
        return accuracy_score(label, predicted)
    if name == "average_f1":
        return f1_score(label, predicted, average="weighted", zero_division=0)
    if name == "mcc":
        return matthews_corrcoef(label, predicted)
    if name == "auc":
        return roc_auc_score(label == 1, probabilities(frame)[:, 1])
    return float(frame["dice"].mean())


def test_percentiles_are_widened_for_few_patients():
    """Of a normal sample they reach as far as Student's interval with the standard deviation of a sample."""
    drawn = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    reach = np.sqrt(10 / 9) * t.isf(0.025, 9)
    assert bootstrap.percentile_interval(drawn, 10) == pytest.approx((-reach, reach), abs=5e-3)


@pytest.mark.parametrize(
    ("classes", "name"),
    [(classes, name) for classes in (TWO, THREE) for name in ("accuracy", "average_f1", "mcc")]
    + [(TWO, "auc"), (TWO, "dice")],
)
def test_interval_is_that_of_a_slow_loop_over_scikit_learn(drawn_frame, classes, name):
    frame = drawn_frame(classes, cases=40, seed=3)
    entry = scores_of_test(frame, seed=7, replicates=REPLICATES)[name]
    assert (entry.low, entry.high) == pytest.approx(_slow_interval(frame, 7, name), abs=1e-12)


def test_nodules_of_a_patient_are_drawn_together():
    weights = bootstrap.draw_weights(np.array(["b", "a", "b", "c"]), 500, 0)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])


def test_every_replicate_draws_as_many_patients_as_there_are():
    weights = bootstrap.draw_weights(np.array(["b", "a", "c", "d"]), 500, 0)
    np.testing.assert_array_equal(weights.sum(axis=1), 4)


def test_draw_does_not_depend_on_the_order_of_the_rows():
    patients = np.array(["b", "a", "b", "c", "d"])
    order = np.array([4, 2, 0, 3, 1])
    weights = bootstrap.draw_weights(patients, 50, 9)
    np.testing.assert_array_equal(bootstrap.draw_weights(patients[order], 50, 9), weights[:, order])


def test_one_patient_gives_no_interval(drawn_frame):
    frame = drawn_frame().assign(patient="one")
    for entry in scores_of_test(frame, replicates=50).values():
        assert (entry.low, entry.high) == (None, None)
        assert entry.reason == "1 patients, fewer than 10, so there is no interval"


@pytest.mark.parametrize("patients", [9, 10])
def test_an_interval_needs_ten_patients_however_many_nodules_they_have(drawn_frame, patients):
    frame = drawn_frame(cases=40)
    frame["patient"] = [f"p{number % patients}" for number in range(40)]
    for entry in scores_of_test(frame, replicates=200).values():
        assert (entry.low is not None, entry.reason) == (
            (True, None) if patients == 10 else (False, "9 patients, fewer than 10, so there is no interval")
        )


@pytest.mark.parametrize("positive", [4, 5])
def test_scores_that_compare_classes_need_five_patients_of_each(make_frame, positive):
    rng = np.random.default_rng(2)
    chance = rng.random(40)
    # Eight nodules of the rarer class, of four or five patients.
    patients = [f"p{number % positive}" if number < 8 else f"q{number}" for number in range(40)]
    frame = make_frame(TWO, [1] * 8 + [0] * 32, np.stack([1 - chance, chance], axis=1), patients=patients)
    entry = scores_of_test(frame, replicates=200)
    few = "4 patients with MIA+IAC, fewer than 5, so there is no interval" if positive == 4 else None
    assert {entry[name].reason for name in ("mcc", "auc")} == {few}
    assert (entry["auc"].low is None) is (positive == 4)
    assert entry["accuracy"].low is not None


@pytest.mark.parametrize("right", [True, False])
def test_all_or_no_nodules_right_has_the_exact_interval_of_the_patients(make_frame, right):
    """Clopper and Pearson, as in scipy: 40 nodules of 20 patients are 20 of 20, not 40 of 40."""
    chance = np.full((40, 2), [0.9, 0.1] if right else [0.1, 0.9])
    frame = make_frame(TWO, [0] * 40, chance, patients=[f"p{number // 2}" for number in range(40)])
    entry = scores_of_test(frame, replicates=50)["accuracy"]
    expected = binomtest(20 * right, 20).proportion_ci(method="exact")
    assert (entry.value, entry.low, entry.high) == pytest.approx((float(right), expected.low, expected.high))


def test_number_of_patients_for_a_width_is_that_of_a_mean():
    """An interval's width falls with the root of the patients: half of it needs four times as many."""
    assert bootstrap.patients_for_width((0.7, 0.9), 50, 0.1) == 200


def test_interval_of_a_proportion_is_the_binomial_one(make_frame):
    """With a patient a nodule, resampled accuracy is Binomial(n, p) / n, whose quantiles are known."""
    from scipy.stats import binom

    right = np.arange(225) < 132
    chance = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
    entry = scores_of_test(make_frame(TWO, [0] * 225, chance), replicates=20_000)["accuracy"]
    low, high = binom.ppf([0.025, 0.975], 225, 132 / 225) / 225
    # A step of the binomial's quantile is one nodule.
    assert entry.low == pytest.approx(low, abs=1.01 / 225)
    assert entry.high == pytest.approx(high, abs=1.01 / 225)


def test_other_seed_gives_another_interval(drawn_frame):
    one, other = (scores_of_test(drawn_frame(), seed=seed, replicates=50) for seed in (0, 1))
    assert one["auc"].low != other["auc"].low


def test_same_seed_gives_the_same_scores(drawn_frame):
    one, other = (score_predictions(drawn_frame(), TWO, seed=4, replicates=50) for _ in range(2))
    assert one == other


def _of_nodules(values: np.ndarray, replicates: int = 40, seed: int = 0) -> tuple[bootstrap.Resampling, np.ndarray]:
    """The resampled mean of values, one nodule a patient."""
    resampling = bootstrap.resample(np.arange(len(values)), replicates, seed)
    return resampling, bootstrap.resampled_mean(values, resampling.weights)


@pytest.mark.parametrize("seed", range(3))
def test_interval_of_a_skewed_mean_is_scipys_bca_at_the_widened_level(seed):
    values = np.random.default_rng(seed).lognormal(sigma=1.0, size=30)
    reach = np.sqrt(30 / 29) * t.isf(0.025, 29)
    theirs = scipy_bootstrap((values,), np.mean, confidence_level=1 - 2 * norm.sf(reach), n_resamples=40_000, rng=seed)
    resampling, mean = _of_nodules(values, 40_000)
    assert resampling.interval(mean) == pytest.approx(tuple(theirs.confidence_interval), rel=0.02)


def test_interval_leaves_undefined_replicates_out():
    resampling, mean = _of_nodules(np.arange(20.0), 1040)
    fewer = np.delete(mean, np.arange(1001, 1041))
    mean[1001:1041] = np.nan
    assert resampling.interval(mean) == bootstrap.Resampling(np.empty((1021, 20)), 1000).interval(fewer)


def test_interval_is_not_given_where_more_than_5_percent_of_the_replicates_are_undefined():
    resampling, mean = _of_nodules(np.arange(20.0), 200)
    mean[1:11] = np.nan
    assert resampling.interval(mean) is not None
    mean[11] = np.nan
    assert resampling.interval(mean) is None
    assert resampling.difference_interval(mean) is None
    assert resampling.no_interval_reason(mean) == "11 of 200 replicates have no value, so there is no interval"


@pytest.mark.parametrize("undefined", [slice(0, 1), slice(1, 41)], ids=["the score", "every replicate"])
def test_interval_without_a_score_or_a_replicate_is_none(undefined):
    resampling, mean = _of_nodules(np.arange(20.0))
    mean[undefined] = np.nan
    assert resampling.interval(mean) is None
    assert resampling.difference_interval(mean) is None
    assert resampling.p_value(mean) is None


def test_nine_patients_have_no_interval_and_no_p():
    resampling, mean = _of_nodules(np.arange(9.0))
    assert (resampling.interval(mean), resampling.difference_interval(mean), resampling.p_value(mean)) == (None,) * 3


@pytest.mark.parametrize("shift", [0.05, 0.2, 0.35])
def test_p_crosses_the_level_where_the_interval_leaves_the_null(shift):
    values = np.random.default_rng(1).normal(shift, 1, 40)
    resampling, mean = _of_nodules(values, 4000)
    p = resampling.p_value(mean)
    low, high = resampling.difference_interval(mean, 1 - p)
    assert min(abs(low), abs(high)) == pytest.approx(0, abs=2e-3)


def test_p_of_a_mean_is_that_of_the_t_test():
    values = np.random.default_rng(3).normal(0.35, 1, 60)
    resampling, mean = _of_nodules(values, 20_000)
    assert resampling.p_value(mean) == pytest.approx(ttest_1samp(values, 0).pvalue, abs=5e-3)


def test_difference_interval_is_of_percentiles_at_the_widened_level():
    resampling, mean = _of_nodules(np.random.default_rng(5).normal(size=15), 1000)
    reach = np.sqrt(15 / 14) * t.isf(0.025, 14)
    expected = np.quantile(mean[1:1001], [norm.sf(reach), norm.cdf(reach)])
    assert resampling.difference_interval(mean) == pytest.approx(tuple(expected), abs=1e-12)


def test_p_of_no_difference_at_all_is_one():
    resampling, mean = _of_nodules(np.zeros(20))
    assert resampling.p_value(mean) == pytest.approx(1.0)


def test_p_of_a_difference_in_every_replicate_is_that_of_half_a_replicate():
    """Widened for 20 patients; without that it would be 1 / 40."""
    resampling, mean = _of_nodules(np.full(20, 0.1))
    assert resampling.p_value(mean) == pytest.approx(2 * t.sf(norm.isf(0.5 / 40) / np.sqrt(20 / 19), 19))


def test_replicates_of_one_class_have_no_auc():
    auc = bootstrap.resampled_auc(np.array([True, False]), np.array([0.7, 0.2]), np.array([[1.0, 1], [2, 0], [0, 2]]))
    np.testing.assert_array_equal(auc, [1.0, np.nan, np.nan])


def test_mcc_of_one_true_class_is_undefined_and_of_one_predicted_class_zero():
    one_true, one_predicted = [[3, 1], [0, 0]], [[3, 0], [2, 0]]
    np.testing.assert_array_equal(bootstrap.resampled_mcc(np.array([one_true, one_predicted], float)), [np.nan, 0.0])


def test_two_thousand_replicates_of_225_cases_take_well_under_two_seconds(drawn_frame):
    frame = drawn_frame(cases=225)
    score_predictions(frame, TWO, replicates=10)
    begun = time.process_time()
    score_predictions(frame, TWO, replicates=2000)
    assert time.process_time() - begun < 2
