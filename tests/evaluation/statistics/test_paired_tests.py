import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from ggn_tf.evaluation.statistics.comparison import compare_systems
from ggn_tf.evaluation.statistics.paired_tests import auc_covariance, auc_difference, swap_p_value
from ggn_tf.evaluation.statistics.system_predictions import System
from tests.support.single_auc import auc_interval


@pytest.mark.parametrize(("won", "lost"), [(5, 0), (8, 2), (3, 3), (59, 33), (1, 0), (0, 0)])
def test_swaps_of_single_nodules_are_mcnemars_exact_test(won, lost):
    differences = np.array([1] * won + [-1] * lost + [0] * 7)
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert swap_p_value(differences) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_of_a_published_table():
    """Agresti's approval ratings, 150 against 86 changed; the p as R's exact2x2 prints it for mcnemar.exact."""
    assert swap_p_value(np.array([1] * 150 + [-1] * 86)) == pytest.approx(3.716e-05, abs=5e-9)


@pytest.mark.parametrize("seed", range(5))
def test_swaps_are_those_of_a_list_of_all(seed):
    differences = np.random.default_rng(seed).integers(-3, 4, 10)
    sums = [np.dot(signs, differences) for signs in itertools.product([-1, 1], repeat=10)]
    assert swap_p_value(differences) == pytest.approx(np.mean(np.abs(sums) >= abs(differences.sum())), abs=1e-12)


def test_accuracy_of_single_nodules_is_compared_by_mcnemar(drawn_study):
    frame = drawn_study(repeats=1)
    frame = frame.assign(patient=frame["case"])
    one = next(c for c in compare_systems(frame, replicates=10) if c.metric == "accuracy")
    taken = np.where(frame["p_MIA+IAC"] > frame["p_AAH+AIS"], "MIA+IAC", "AAH+AIS")
    right = (frame["label"] == taken).groupby(frame["model"]).apply(list)
    won = sum(a and not b for a, b in zip(right["cascade"], right["raw"], strict=True))
    lost = sum(b and not a for a, b in zip(right["cascade"], right["raw"], strict=True))
    assert one.p == pytest.approx(binomtest(won, won + lost).pvalue, abs=1e-12)


def test_patients_swap_with_all_their_nodules_and_repeats(make_frame):
    """A is right twice more often in the first patient, once in the second: sums 3, 1, -1, -3. Others do not differ."""
    right, wrong = [0.9, 0.1], [0.2, 0.8]
    patients = ["p", "p", "q", *(f"r{number}" for number in range(8))]
    a = make_frame(("x", "y"), [0] * 11, np.array([right] * 3 + [wrong] * 8), patients=patients)
    b = make_frame(("x", "y"), [0] * 11, np.array([wrong] * 11), patients=patients)
    frame = pd.concat([a, b.assign(model="other")])
    one = next(
        c
        for c in compare_systems(frame, [(System("cascade", "joint"), System("other", "joint"))], replicates=10)
        if c.metric == "accuracy"
    )
    assert one.p == pytest.approx(2 / 4)


# DeLong, DeLong and Clarke-Pearson 1988: ovarian cancer with intestinal obstruction; albumin, total protein, K-G score
# and the outcome of the 43 patients with all tests, as SAS/STAT's user's guide prints them (PROC LOGISTIC, "Comparing
# Receiver Operating Characteristic Curves"). A low K-G score is good.
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""
ALBUMIN, PROTEIN, KG_SCORE, OUTCOME = np.array(OVARIAN.split(), float).reshape(-1, 4).T * [[1], [1], [-1], [1]]
POSITIVE = OUTCOME == 1


@pytest.mark.parametrize(
    ("score", "published"),
    [
        (ALBUMIN, (0.7366, 0.0927, 0.5549, 0.9182)),
        (KG_SCORE, (0.7258, 0.1028, 0.5243, 0.9273)),
        (PROTEIN, (0.6478, 0.1000, 0.4518, 0.8439)),
    ],
    ids=["albumin", "K-G score", "total protein"],
)
def test_auc_error_and_interval_are_the_published_ones(score, published):
    found = auc_interval(POSITIVE, score)
    assert (found.value, found.standard_error, found.low, found.high) == pytest.approx(published, abs=5e-5)


@pytest.mark.parametrize(
    ("score", "published", "p"),
    [
        (ALBUMIN, (0.0108, 0.0953, -0.1761, 0.1976), 0.9102),
        (PROTEIN, (-0.0780, 0.1046, -0.2830, 0.1271), 0.4561),
    ],
    ids=["albumin", "total protein"],
)
def test_paired_test_against_the_kg_score_is_the_published_one(score, published, p):
    found = auc_difference(POSITIVE, score, KG_SCORE)
    assert (found.value, found.standard_error, found.low, found.high) == pytest.approx(published, abs=5e-5)
    assert found.p == pytest.approx(p, abs=5e-5)


def _slow(positive: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Obuchowski 1997 as she writes it: every pair of nodules, sums over patients, S10, S01, S11."""
    names = sorted(set(patients))
    auc, tens, ones = [], [], []
    for score in scores:
        kernel = np.array([[(x > y) + 0.5 * (x == y) for y in score[~positive]] for x in score[positive]])
        auc.append(kernel.mean())
        x, y = kernel.mean(axis=1) - kernel.mean(), kernel.mean(axis=0) - kernel.mean()
        tens.append([x[patients[positive] == name].sum() for name in names])
        ones.append([y[patients[~positive] == name].sum() for name in names])
    m, n, count = positive.sum(), (~positive).sum(), len(names)
    with_positive, with_negative = len(set(patients[positive])), len(set(patients[~positive]))
    variance = np.empty((len(scores), len(scores)))
    for i in range(len(scores)):
        for j in range(len(scores)):
            s10 = with_positive / ((with_positive - 1) * m) * np.dot(tens[i], tens[j])
            s01 = with_negative / ((with_negative - 1) * n) * np.dot(ones[i], ones[j])
            s11 = count / (count - 1) * (np.dot(tens[i], ones[j]) + np.dot(tens[j], ones[i]))
            variance[i, j] = s10 / m + s01 / n + s11 / (m * n)
    return np.array(auc), variance


def _drawn(seed: int, patients: int = 30, digits: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodules of patients with one to three each, three scores, many ties."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    positive = rng.random(who.size) < 0.4
    scores = positive + rng.normal(size=(3, patients))[:, who] + rng.normal(size=(3, who.size))
    return positive, scores.round(digits), who


@pytest.mark.parametrize("seed", range(4))
def test_midranks_give_what_every_pair_gives(seed):
    positive, scores, patients = _drawn(seed)
    auc, variance = auc_covariance(positive, scores, patients)
    slow_auc, slow_variance = _slow(positive, scores, patients)
    np.testing.assert_allclose(auc, slow_auc, atol=1e-12)
    np.testing.assert_allclose(variance, slow_variance, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_delong_is_obuchowski_with_a_patient_a_nodule(seed):
    positive, scores, _ = _drawn(seed)
    single = np.arange(positive.size)
    _, variance = auc_covariance(positive, scores)
    of_positive = [[np.mean((x > s[~positive]) + (x == s[~positive]) / 2) for x in s[positive]] for s in scores]
    of_negative = [[np.mean((s[positive] > y) + (s[positive] == y) / 2) for y in s[~positive]] for s in scores]
    delong = np.cov(of_positive) / positive.sum() + np.cov(of_negative) / (~positive).sum()
    np.testing.assert_allclose(variance, delong, atol=1e-12)
    np.testing.assert_allclose(auc_covariance(positive, scores, single)[1], delong, atol=1e-12)
    assert auc_interval(positive, scores[0], single).method == "DeLong"


@pytest.mark.parametrize("seed", range(3))
def test_exchanged_classes_and_monotone_scores_change_nothing(seed):
    positive, scores, patients = _drawn(seed)
    one = auc_difference(positive, scores[0], scores[1], patients)
    other = auc_difference(~positive, -np.exp(scores[0]), -(scores[1] ** 3), patients)
    assert (other.value, other.standard_error) == pytest.approx((one.value, one.standard_error), abs=1e-12)


def test_auc_is_scikit_learns():
    positive, scores, patients = _drawn(9)
    assert auc_interval(positive, scores[1], patients).value == pytest.approx(roc_auc_score(positive, scores[1]))


def test_nodules_that_are_copies_widen_nothing():
    """Every nodule of a patient twice says nothing new: Obuchowski's error stays, DeLong's shrinks by root 2."""
    twice = np.repeat(np.arange(43), 2)
    once = auc_interval(POSITIVE, ALBUMIN)
    clustered = auc_interval(POSITIVE[twice], ALBUMIN[twice], twice)
    assert clustered.standard_error == pytest.approx(once.standard_error, abs=1e-12)
    assert clustered.method == "Obuchowski"
    assert auc_interval(POSITIVE[twice], ALBUMIN[twice]).standard_error < 0.73 * once.standard_error


def test_equal_repeats_change_nothing():
    one = auc_difference(POSITIVE, ALBUMIN, KG_SCORE)
    three = auc_difference(POSITIVE, np.stack([ALBUMIN] * 3), np.stack([KG_SCORE] * 2))
    assert (three.value, three.standard_error) == pytest.approx((one.value, one.standard_error), abs=1e-12)


def test_value_of_repeats_is_the_mean_of_their_aucs():
    found = auc_interval(POSITIVE, np.stack([ALBUMIN, KG_SCORE]))
    assert found.value == pytest.approx((0.7365591 + 0.7258065) / 2, abs=1e-6)


def test_error_of_repeats_is_that_of_the_mean():
    _, variance = auc_covariance(POSITIVE, np.stack([ALBUMIN, KG_SCORE]))
    found = auc_interval(POSITIVE, np.stack([ALBUMIN, KG_SCORE]))
    assert found.standard_error == pytest.approx(np.sqrt(variance.sum()) / 2, abs=1e-12)


def test_error_of_clustered_nodules_is_the_spread_over_samples():
    """Against simulation: half of a score's noise is the patient's own; the label too is shared within patients."""
    rng = np.random.default_rng(0)
    aucs, errors, naive = [], [], []
    for _ in range(600):
        who = np.repeat(np.arange(60), rng.integers(1, 5, 60))
        positive = (rng.random(60)[who] + rng.random(who.size)) / 2 < 0.5
        score = positive + rng.normal(size=60)[who] + 0.5 * rng.normal(size=who.size)
        aucs.append(auc_interval(positive, score, who).value)
        errors.append(auc_interval(positive, score, who).standard_error)
        naive.append(auc_interval(positive, score).standard_error)
    assert np.mean(errors) == pytest.approx(np.std(aucs), rel=0.1)
    assert np.mean(naive) < 0.85 * np.std(aucs)


def test_perfect_separation_has_no_interval():
    found = auc_interval(np.array([False, False, True, True]), np.array([0.1, 0.2, 0.3, 0.4]))
    assert (found.value, found.standard_error, found.low, found.high, found.p) == (1.0, 0.0, None, None, None)


def test_equal_scores_do_not_differ():
    found = auc_difference(POSITIVE, ALBUMIN, ALBUMIN)
    assert (found.value, found.p) == (0.0, 1.0)


def test_single_positive_has_no_error():
    found = auc_interval(np.array([False, False, True]), np.array([0.1, 0.4, 0.3]))
    assert (found.value, found.standard_error, found.low, found.p) == (0.5, None, None, 1.0)


def test_interval_ends_at_one():
    score = np.array([1, 2, 3, 4, 6, 5, 7, 8, 9, 10.0])
    found = auc_difference(np.array([False] * 5 + [True] * 5), score, -score)
    assert (found.value, found.high) == (pytest.approx(0.92), 1.0)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="both classes"):
        auc_interval(np.array([True, True]), np.array([0.1, 0.4]))
