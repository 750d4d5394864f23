"""Every score against scikit-learn, scipy or plain Python on random tables with ties, absent classes, few patients."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from ggn_tf.evaluation.statistics.bootstrap import resampled_average_precision
from ggn_tf.evaluation.statistics.further_scores import NET_BENEFIT_THRESHOLDS, score_further
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.score_records import RepeatedScore
from ggn_tf.evaluation.statistics.scores import class_indices
from tests.support.described_run import scores_of_test

TWO = ("AAH+AIS", "MIA+IAC")
NAMES = ("AAH", "AIS", "MIA", "IAC")
TABLES = [range(20), pytest.param(range(20, 200), marks=pytest.mark.nightly)]


def random_table(make_frame, seed: int, set_name: str = "test") -> pd.DataFrame:
    """Four to sixty nodules of few patients, probabilities in steps of a tenth, mostly without some class."""
    rng = np.random.default_rng([seed, len(set_name)])
    classes = TWO if seed % 2 else NAMES[: 3 + seed % 4 // 2]
    nodules = int(rng.integers(4, 60))
    label = rng.choice(rng.permutation(len(classes))[: rng.integers(1, len(classes) + 1)], nodules)
    parts = rng.multinomial(10, rng.dirichlet(np.ones(len(classes)), nodules)) / 10
    patients = [f"p{number}" for number in rng.integers(0, rng.integers(2, 40), nodules)]
    return make_frame(classes, label, parts, dice=rng.random(nodules), patients=patients, set_name=set_name)


def scored(frame: pd.DataFrame, **options: object) -> dict[tuple[str, str, float | None], RepeatedScore]:
    scores = score_further(frame, set_names=["test"], replicates=10, **options)
    return {(score.metric, score.class_name, score.threshold): score for score in scores}


def value(score: RepeatedScore) -> float:
    return np.nan if score.value is None else score.value


@pytest.mark.parametrize("seeds", TABLES)
def test_scores_of_classes_are_scikit_learns(make_frame, seeds):
    for seed in seeds:
        frame = random_table(make_frame, seed)
        found, (label, predicted) = scored(frame), class_indices(frame)
        classes = [name.removeprefix("p_") for name in frame.columns if name.startswith("p_")]
        theirs = precision_recall_fscore_support(label, predicted, labels=range(len(classes)), zero_division=np.nan)
        for index, name in enumerate(classes):
            ours = [value(found[metric, name, None]) for metric in ("precision", "recall", "f1")]
            np.testing.assert_allclose(ours, [column[index] for column in theirs[:3]], atol=1e-12)
        complete = len(set(label)) == len(classes)
        expected = balanced_accuracy_score(label, predicted) if complete else np.nan
        np.testing.assert_allclose(value(found["balanced_accuracy", "", None]), expected, atol=1e-12)


@pytest.mark.parametrize("seeds", TABLES)
def test_average_precision_and_auc_are_scikit_learns(make_frame, seeds):
    for seed in seeds:
        frame = random_table(make_frame, seed)
        chance, label = probabilities(frame), class_indices(frame)[0]
        judged = [1] if chance.shape[1] == 2 else range(chance.shape[1])
        ours = value(scored(frame)["average_precision", "", None])
        if all((label == index).any() for index in judged):
            precision = np.mean([average_precision_score(label == index, chance[:, index]) for index in judged])
            assert ours == pytest.approx(precision, abs=1e-12)
        else:
            assert np.isnan(ours)
        if len(set(label)) == chance.shape[1]:
            area = np.mean([roc_auc_score(label == index, chance[:, index]) for index in judged])
            assert scores_of_test(frame)["auc"].value == pytest.approx(area, abs=1e-12)


@pytest.mark.parametrize("seeds", TABLES)
def test_scores_of_an_operating_point_are_scikit_learns_at_the_threshold_of_its_roc_curve(make_frame, seeds):
    checked = 0
    for seed in (seed for seed in seeds if seed % 2):
        test, validation = random_table(make_frame, seed), random_table(make_frame, seed + 1000, "validation")
        found = scored(pd.concat([test, validation]), sensitivity=0.9)
        truth, chance = class_indices(validation)[0] == 1, probabilities(validation)[:, 1]
        thresholds = {at for metric, _, at in found if metric == "sensitivity"} - {None}
        if validation.loc[truth, "patient"].nunique() < 5:
            assert thresholds == set()
        if thresholds == set() or truth.all():
            continue
        _, sensitivities, descending = roc_curve(truth, chance, drop_intermediate=False)
        (threshold,) = thresholds
        assert threshold == descending[np.argmax(sensitivities >= 0.9)]
        checked += 1
        truth = class_indices(test)[0] == 1
        for at, taken in ((None, class_indices(test)[1] == 1), (threshold, probabilities(test)[:, 1] >= threshold)):
            ours = [value(found[name, "MIA+IAC", at]) for name in ("sensitivity", "specificity", "ppv", "npv")]
            pairs = ((recall_score, 1), (recall_score, 0), (precision_score, 1), (precision_score, 0))
            theirs = [score(truth, taken, pos_label=side, zero_division=np.nan) for score, side in pairs]
            np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert checked > 2


@pytest.mark.parametrize("seeds", TABLES)
def test_scores_of_probabilities_are_those_of_other_implementations(make_frame, seeds):
    """Brier and slope of scikit-learn; intercept by scipy's minimiser; net benefit in plain Python."""
    for seed in (seed for seed in seeds if seed % 2):
        frame = random_table(make_frame, seed)
        found, truth, chance = scored(frame), class_indices(frame)[0] == 1, probabilities(frame)[:, 1]
        assert found["brier", "", None].value == pytest.approx(brier_score_loss(truth, chance), abs=1e-12)
        assert found["in_the_large", "", None].value == pytest.approx(truth.mean() - chance.mean(), abs=1e-12)
        for threshold in NET_BENEFIT_THRESHOLDS:
            acted = [(p >= threshold, y) for p, y in zip(chance, truth, strict=True)]
            worth = sum(a and y for a, y in acted) - sum(a and not y for a, y in acted) * threshold / (1 - threshold)
            assert found["net_benefit", "", threshold].value == pytest.approx(worth / len(acted), abs=1e-12)
        odds = np.log(np.clip(chance, 1e-12, 1)) - np.log(np.clip(1 - chance, 1e-12, 1))

        def loss(intercept, odds=odds, truth=truth):
            return np.sum(np.logaddexp(0, intercept + odds) - truth * (intercept + odds))

        if found["slope", "", None].value is not None:
            theirs = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10).fit(odds[:, np.newaxis], truth)
            assert found["slope", "", None].value == pytest.approx(theirs.coef_[0, 0], abs=1e-6)
        if found["intercept", "", None].value is not None:
            theirs = minimize_scalar(loss, bounds=(-30, 30), method="bounded", options={"xatol": 1e-9})
            assert found["intercept", "", None].value == pytest.approx(theirs.x, abs=1e-3)


def test_average_precision_of_resampled_nodules_is_scikit_learns_with_weights():
    rng = np.random.default_rng(0)
    positive, score = rng.random(40) < 0.4, rng.integers(0, 8, 40) / 8
    weights = rng.integers(0, 3, (25, 40)).astype(float)
    expected = [average_precision_score(positive, score, sample_weight=weight) for weight in weights]
    np.testing.assert_allclose(resampled_average_precision(positive, score, weights), expected, atol=1e-12)


def test_perfect_sensitivity_has_the_exact_interval_of_the_patients_with_the_class(make_frame):
    label = [1] * 12 + [0] * 20
    chance = np.where(np.arange(32) < 14, 0.9, 0.2)
    patients = [f"p{number // 2}" for number in range(12)] + [f"q{number}" for number in range(20)]
    found = scored(make_frame(TWO, label, np.stack([1 - chance, chance], axis=1), patients=patients))
    score = found["sensitivity", "MIA+IAC", None]
    expected = binomtest(6, 6).proportion_ci(method="exact")
    assert (score.value, score.low, score.high) == pytest.approx((1.0, expected.low, 1.0))


def test_share_of_few_patients_has_no_interval(make_frame):
    chance = np.where(np.arange(30) < 4, 0.9, 0.2)
    found = scored(make_frame(TWO, [0, 1] * 15, np.stack([1 - chance, chance], axis=1)))
    assert found["ppv", "MIA+IAC", None].reason == "it counts nodules of 4 patients, fewer than 5"
    assert found["ppv", "MIA+IAC", None].low is None
    assert found["npv", "MIA+IAC", None].low is not None


def test_a_class_that_is_never_predicted_has_no_precision(make_frame):
    found = scored(make_frame(TWO, [0, 1] * 10, np.full((20, 2), [0.9, 0.1])))
    score = found["ppv", "MIA+IAC", None]
    assert (score.value, score.low, score.reason) == (None, None, "it counts no nodule")


def test_scores_are_means_over_the_repeats(drawn_study):
    frame = drawn_study(systems=[("cascade", "joint")], repeats=3)
    by_repeat = [scored(rows)["sensitivity", "MIA+IAC", None].value for _, rows in frame.groupby("repeat")]
    score = scored(frame)["sensitivity", "MIA+IAC", None]
    assert (score.value, score.deviation) == pytest.approx((np.mean(by_repeat), np.std(by_repeat, ddof=1)))
    assert score.low_retrained < score.value < score.high_retrained
