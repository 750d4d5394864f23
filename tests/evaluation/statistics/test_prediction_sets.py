"""References: MAPIE 1.6.0 (SplitConformalClassifier, LAC, one per class) and crepes 0.9.1 (ConformalClassifier, hinge,
one bin per class, not smoothed).

crepes includes a class whose p value equals 1 - coverage, for which the other two need one nodule more: with these
counts (n + 1) (1 - coverage) is never whole.
"""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.bootstrap import exact_interval
from ggn_tf.evaluation.statistics.prediction_sets import (
    ALL_NODULES,
    TRUE_CLASS,
    evaluate_sets,
    fit_thresholds,
    score_sets,
)
from ggn_tf.evaluation.statistics.set_thresholds import SetThresholds, least_probability, patients_needed
from tests.evaluation.statistics.test_subgroups import _case

COUNTS, THREE = (23, 17, 13), ("a", "b", "c")
REFERENCES = {
    0.8: ((0.719, 0.863, 0.874), "01 12 12 02 1 12 02 01 01 0 12 12"),
    0.9: ((0.761, 0.958, 0.967), "012 12 12 02 12 12 012 012 012 0 12 12"),
}
REDRAWS = 200


def _draw(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    logits = rng.normal(size=(len(label), 3)) + np.eye(3)[label]
    chance = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 3)
    chance[:, 2] = np.round(1 - chance[:, 0] - chance[:, 1], 3)
    return chance


@pytest.fixture
def stored(make_frame) -> pd.DataFrame:
    label = np.repeat([0, 1, 2], COUNTS)
    return make_frame(THREE, label, _draw(label, np.random.default_rng(16)))


@pytest.mark.parametrize("coverage", REFERENCES)
def test_thresholds_and_sets_are_those_of_mapie_and_crepes(stored, coverage):
    scores, sets = REFERENCES[coverage]
    thresholds = fit_thresholds(stored, coverage)
    assert [threshold.score for threshold in thresholds.classes] == pytest.approx(scores, abs=1e-12)
    inside = thresholds.sets(_draw(np.arange(12) % 3, np.random.default_rng(17)))
    assert " ".join("".join(map(str, np.flatnonzero(row))) for row in inside) == sets


def test_threshold_is_the_finite_sample_quantile(make_frame):
    """Of 20 nodules per class the ceil(21 x 0.9) = 19th score: 1 - p is 0.01, 0.02, ..., 0.20."""
    chance = 1 - np.arange(1, 21) / 100
    frame = make_frame(("a", "b"), [0] * 20, np.stack([chance, 1 - chance], axis=1))
    first, second = fit_thresholds(frame, 0.9).classes
    assert (first.nodules, first.patients, round(first.score, 12)) == (20, 20, 0.19)
    assert (second.nodules, second.patients, second.score, second.least_probability) == (0, 0, np.inf, 0.0)


@pytest.mark.parametrize(("coverage", "patients"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_too_few_patients_have_an_infinite_threshold(make_frame, coverage, patients):
    assert patients_needed(coverage) == patients
    for count, finite in ((patients, True), (patients - 1, False)):
        frame = make_frame(("a", "b"), [0] * count + [1], np.full((count + 1, 2), 0.5))
        thresholds = fit_thresholds(frame, coverage)
        assert np.isfinite(thresholds.classes[0].score) == finite
        missing = [threshold.class_name for threshold in thresholds.without_threshold]
        assert missing == ([] if finite else ["a"]) + (["b"] if patients > 1 else [])
        if not finite:
            assert thresholds.sets(np.array([0.0, 1.0]))[0]


def test_a_patient_counts_once_however_many_nodules(make_frame):
    """Nine patients with p 0.5 and one with 30 nodules of p 0.1, or one such nodule: the same threshold."""
    one, many = (
        make_frame(
            ("a", "b"),
            [0] * (9 + count),
            np.array([[0.5, 0.5]] * 9 + [[0.1, 0.9]] * count),
            patients=[f"p{i}" for i in range(9)] + ["last"] * count,
        )
        for count in (1, 30)
    )
    for coverage, least in ((0.8, 0.5), (0.9, 0.1)):
        found = [fit_thresholds(frame, coverage).classes[0] for frame in (one, many)]
        assert [threshold.least_probability for threshold in found] == [least, least]
        assert [threshold.patients for threshold in found] == [10, 10]


def test_weights_of_a_patient_are_shared(make_frame):
    """Two patients with three nodules each, coverage 0.5: weight 1.5 of 3 is reached by the fifth of six nodules."""
    chance = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    frame = make_frame(("a", "b"), [0] * 6, np.stack([chance, 1 - chance], axis=1), patients=["p", "q"] * 3)
    assert fit_thresholds(frame, 0.5).classes[0].least_probability == 0.5


@pytest.mark.parametrize("most_nodules", [1, 5])
def test_coverage_over_redraws_is_within_binomial_limits(most_nodules):
    """Of one nodule of a 25th patient. Patients differ, so their nodules are correlated."""
    rng, coverage, hits = np.random.default_rng(0), 0.9, 0
    for _ in range(REDRAWS):
        counts = rng.integers(1, most_nodules + 1, 25)
        patient = np.repeat(np.arange(25), counts)
        logits = (rng.normal(size=25) + 2.0 / counts)[patient] + 0.3 * rng.normal(size=len(patient))
        chance, fitted = 1 / (1 + np.exp(-logits)), patient < 24
        hits += rng.choice(chance[~fitted]) >= least_probability(chance[fitted], patient[fitted], coverage)
    # With one nodule each the coverage is ceil(25 x 0.9) / 25 exactly, otherwise it is between 0.9 and 0.9 + 1 / 25.
    lowest, highest = (0.92, 0.92) if most_nodules == 1 else (0.9, 0.94)
    assert binom.ppf(0.0005, REDRAWS, lowest) <= hits <= binom.ppf(0.9995, REDRAWS, highest)


@pytest.fixture
def scored(stored, make_frame):
    """50 nodules of 50 patients; the first 5 of each class are large."""
    label = np.repeat([0, 1, 2], (20, 18, 12))
    test = make_frame(THREE, label, _draw(label, np.random.default_rng(18)))
    test = test.assign(case=[f"t{i:02d}" for i in range(50)])
    large = {f"t{i:02d}" for start in (0, 20, 38) for i in range(start, start + 4)}
    return test, {case: _case(case, 20.0 if case in large else 5.0) for case in test["case"]}


def _least(frame, thresholds):
    return dict.fromkeys(frame["case"], thresholds.least_probabilities)


def test_scores_of_sets_are_counts(stored, scored):
    test, cases = scored
    thresholds = fit_thresholds(stored, 0.8)
    inside = thresholds.sets(test[["p_a", "p_b", "p_c"]].to_numpy())
    covered = inside[np.arange(50), np.repeat([0, 1, 2], (20, 18, 12))]
    found = {
        (s.characteristic, s.group, s.metric): s
        for s in score_sets(test, _least(test, thresholds), cases, replicates=50)
    }
    whole = found[ALL_NODULES, ALL_NODULES, "set_coverage"]
    assert (whole.nodules, whole.value) == (50, covered.mean())
    assert 0 <= whole.low < whole.value < whole.high <= 1
    assert found[ALL_NODULES, ALL_NODULES, "set_size"].value == inside.sum(axis=1).mean()
    assert found[TRUE_CLASS, "b", "set_coverage"].value == covered[20:38].mean()
    assert found["longest diameter", "≥ 15 mm", "set_coverage"].nodules == 12
    assert {group for _, group, _ in found} == {
        ALL_NODULES,
        *THREE,
        "< 6 mm",
        "≥ 15 mm",
        "5 to < 25 %",
        "1 to < 1.5 mm",
    }


def test_coverage_of_all_nodules_has_the_exact_interval(scored):
    test, cases = scored
    everything = SetThresholds(0.9, fit_thresholds(test.iloc[:0], 0.9).classes)
    whole, *_ = score_sets(test, _least(test, everything), cases, replicates=50)
    assert (whole.value, (whole.low, whole.high)) == (1.0, exact_interval(True, 50))


def test_a_small_group_has_no_score(stored, scored):
    test, cases = scored
    few = test.groupby("label").head(3)
    for score in score_sets(few, _least(few, fit_thresholds(stored, 0.9)), cases, replicates=10):
        assert score.value is None and "fewer than 10" in score.reason


def test_nodules_that_the_dataset_lacks_are_refused(stored, scored):
    test, _ = scored
    with pytest.raises(PredictionsError, match="not in the dataset"):
        score_sets(test, _least(test, fit_thresholds(stored, 0.9)), {}, replicates=10)


def _all_sets(stored, test):
    segment = pd.concat([stored, test]).assign(stage="segment", **dict.fromkeys(("p_a", "p_b", "p_c"), np.nan))
    return pd.concat([segment, stored, test], ignore_index=True)


def test_thresholds_of_a_run_are_from_its_validation_set(stored, scored):
    test, cases = scored
    validation = stored.assign(set="validation", case=[f"v{i}" for i in range(len(stored))])
    found = evaluate_sets(_all_sets(validation, test), {"test": cases}, 0.8, replicates=20)
    assert (found.stage, found.fitted_on, found.thresholds) == ("joint", "validation", fit_thresholds(stored, 0.8))
    assert list(found.scores) == score_sets(test, _least(test, found.thresholds), cases, replicates=20)
    segment = _all_sets(validation, test).query("stage == 'segment'")
    assert evaluate_sets(segment, {"test": cases}, 0.8) is None
    assert evaluate_sets(test, {"test": cases}, 0.8) is None


def test_sets_of_too_few_patients_are_not_scored(stored, scored):
    test, cases = scored
    few = stored.groupby("label").head(8).assign(set="validation")
    found = evaluate_sets(_all_sets(few, test), {"test": cases}, 0.9)
    assert found.scores == ()
    assert [(c.class_name, c.patients) for c in found.thresholds.without_threshold] == [("a", 8), ("b", 8), ("c", 8)]
    assert evaluate_sets(_all_sets(few, test), {"test": cases}, 0.8, replicates=10).scores
