"""Against independent computations with loops over patients and scikit-learn."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t
from sklearn.metrics import accuracy_score, matthews_corrcoef, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.comparison import compare_systems
from ggn_tf.evaluation.statistics.folds import (
    combine,
    compare_baselines,
    out_of_fold,
    score_folds,
    score_pooled,
    scores_by_fold,
)
from ggn_tf.evaluation.statistics.repeats import score_repeats
from ggn_tf.evaluation.statistics.subgroups import Column, score_subgroups
from tests.support.drawn_predictions import TWO

Draw = Callable[..., pd.DataFrame]
REPLICATES = 60


def in_folds(frame: pd.DataFrame, folds: int = 3, seed: int = 0) -> pd.DataFrame:
    """The rows of a table, each nodule in the test set of one fold."""
    drawn = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(frame, frame["label"], frame["patient"])
    parts = [frame.iloc[test].assign(split=number) for number, (_, test) in enumerate(drawn, start=1)]
    return out_of_fold(parts)


@pytest.fixture(scope="module")
def frame(drawn_frame: Draw) -> pd.DataFrame:
    return in_folds(drawn_frame(cases=80))


def auc(rows: pd.DataFrame) -> float:
    return float(roc_auc_score(rows["label"] == TWO[1], rows[f"p_{TWO[1]}"]))


def redrawn(rows: pd.DataFrame, fold: int, seed: int) -> list[pd.DataFrame]:
    """Replicates of a fold: whole patients, drawn with replacement."""
    patients = sorted(rows["patient"].unique())
    drawn = np.random.default_rng([seed, fold]).integers(0, len(patients), (REPLICATES, len(patients)))
    nodules = [np.flatnonzero(rows["patient"] == patient) for patient in patients]
    return [rows.iloc[np.concatenate([nodules[number] for number in numbers])] for numbers in drawn]


def bca(value: float, drawn: np.ndarray, without: np.ndarray, patients: int) -> tuple[float, float]:
    """Efron's interval with Hesterberg's widening."""
    below = np.mean(drawn < value) + np.mean(drawn == value) / 2
    bias, deviation = norm.ppf(below), without.mean() - without
    acceleration = (deviation**3).sum() / (6 * (deviation**2).sum() ** 1.5)
    reach = np.sqrt(patients / (patients - 1)) * t.ppf(0.975, patients - 1)
    ends = (bias + sign * reach for sign in (-1, 1))
    return tuple(np.quantile(drawn, norm.cdf(bias + end / (1 - acceleration * end))) for end in ends)


def test_the_mean_and_its_interval_are_those_of_a_computation_by_hand(frame: pd.DataFrame) -> None:
    folds = {int(fold): rows for fold, rows in frame.groupby("fold")}
    values = {fold: auc(rows) for fold, rows in folds.items()}
    drawn = np.mean([[auc(rows) for rows in redrawn(folds[fold], fold, seed=5)] for fold in folds], axis=0)
    without = np.array(
        [
            np.mean([auc(rows[rows["patient"] != patient]) for rows in folds.values()])
            for patient in sorted(frame["patient"].unique())
        ]
    )
    found = score_folds(frame, TWO, seed=5, replicates=REPLICATES).test["joint"].auc
    assert found.value == pytest.approx(np.mean(list(values.values())), abs=1e-12)
    low, high = bca(found.value, drawn, without, len(without))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_every_score_is_the_mean_of_scikit_learns_over_the_folds(frame: pd.DataFrame) -> None:
    found = score_folds(frame, TWO, 0, 20).test["joint"].by_metric()
    parts = [rows for _, rows in frame.groupby("fold")]
    chosen = [np.where(rows[f"p_{TWO[1]}"] > rows[f"p_{TWO[0]}"], *TWO[::-1]) for rows in parts]
    pairs = [(rows["label"], taken) for rows, taken in zip(parts, chosen, strict=True)]
    assert found["accuracy"].value == pytest.approx(np.mean([accuracy_score(*pair) for pair in pairs]))
    assert found["mcc"].value == pytest.approx(np.mean([matthews_corrcoef(*pair) for pair in pairs]))
    assert found["dice"].value == pytest.approx(np.mean([rows["dice"].mean() for rows in parts]))
    by_fold = {(score.fold, score.metric): score for score in scores_by_fold(frame)}
    assert by_fold[2, "auc"].value == pytest.approx(auc(parts[1]))
    assert (by_fold[2, "auc"].nodules, by_fold[2, "auc"].patients) == (len(parts[1]), parts[1]["patient"].nunique())


def test_the_pooled_auc_compares_nodules_of_different_folds(frame: pd.DataFrame) -> None:
    (pooled,) = score_pooled(frame, 0, 20)
    assert pooled.value == pytest.approx(auc(frame))
    # Models that are on other scales: each fold as before, the pooled AUC not.
    shifted = frame.copy()
    shifted[f"p_{TWO[1]}"] = (shifted[f"p_{TWO[1]}"] + shifted["fold"] - 1) / 3
    shifted[f"p_{TWO[0]}"] = 1 - shifted[f"p_{TWO[1]}"]
    means = [score_folds(table, TWO, 0, 20).test["joint"].auc.value for table in (frame, shifted)]
    assert means[0] == pytest.approx(means[1])
    assert score_pooled(shifted, 0, 20)[0].value < pooled.value - 0.1


def test_the_scores_of_a_study_are_those_of_a_cross_validation(frame: pd.DataFrame) -> None:
    expected = score_folds(frame, TWO, 0, REPLICATES).test["joint"].by_metric()
    found = score_repeats(frame, ["test"], 0, REPLICATES)
    assert [score.metric for score in found] == list(expected)
    for score in found:
        one = expected[score.metric]
        assert (score.value, score.low, score.high, score.reason) == (one.value, one.low, one.high, one.reason)


def test_systems_are_compared_by_their_means_over_the_folds(frame: pd.DataFrame) -> None:
    other = frame.assign(model="other", **{f"p_{TWO[1]}": frame[f"p_{TWO[1]}"] ** 2})
    other[f"p_{TWO[0]}"] = 1 - other[f"p_{TWO[1]}"] + 0.0
    other.loc[other.index % 3 == 0, [f"p_{TWO[0]}", f"p_{TWO[1]}"]] = 0.5
    (baseline,) = compare_baselines(frame, {"other": other}, 0, 200)
    compared = compare_systems(pd.concat([other, frame], ignore_index=True), replicates=200)
    found = next(one for one in compared if one.metric == "auc")
    assert found.model_b == "other" and found.test == "paired patient bootstrap"
    assert (found.difference, found.low, found.high, found.p) == pytest.approx(
        (baseline.difference, baseline.difference_low, baseline.difference_high, baseline.p)
    )


def test_systems_with_other_folds_are_refused(frame: pd.DataFrame) -> None:
    other = frame.assign(model="other", fold=frame["fold"] % 3 + 1)
    with pytest.raises(PredictionsError, match="differ between systems"):
        compare_systems(pd.concat([frame, other], ignore_index=True), replicates=20)


def test_groups_of_nodules_are_scored_over_all_folds_together(frame: pd.DataFrame) -> None:
    cases = dict.fromkeys(frame["case"], SimpleNamespace(columns={"site": "all"}))
    scores = score_subgroups(frame, cases, [Column("site", ("all",))], replicates=20)
    assert next(score.value for score in scores if score.metric == "auc") == pytest.approx(auc(frame))


def test_shuffled_labels_give_one_half(drawn_frame: Draw) -> None:
    rng, means, covered = np.random.default_rng(0), [], 0
    for seed in range(30):
        table = drawn_frame(cases=90, seed=seed)
        by_patient = table.drop_duplicates("patient").set_index("patient")["label"]
        shuffled = dict(zip(by_patient.index, rng.permutation(by_patient.to_numpy()), strict=True))
        frame = in_folds(table.assign(label=table["patient"].map(shuffled)), seed=seed)
        score = score_folds(frame, TWO, seed, 100).test["joint"].auc
        means.append(score.value)
        covered += score.low <= 0.5 <= score.high
    assert np.mean(means) == pytest.approx(0.5, abs=3 * np.std(means) / np.sqrt(len(means)))
    # Binomial limits of 30 intervals at 95 %.
    assert 24 <= covered <= 30


def test_a_fold_without_a_class_is_named(frame: pd.DataFrame) -> None:
    lacking = frame[(frame["fold"] != 2) | (frame["label"] == TWO[0])].reset_index(drop=True)
    found = score_folds(lacking, TWO, 0, 20).test["joint"]
    assert found.auc.value is None and found.auc.reason.startswith("fold 2: ")
    assert found.dice.value is not None


def test_a_baseline_is_compared_on_the_same_nodules(frame: pd.DataFrame) -> None:
    same, worse = frame.copy(), frame.assign(model="diameter", stage="classify")
    for name in TWO:
        worse[f"p_{name}"] = 0.5
    compared = compare_baselines(frame, {"itself": same, "chance": worse}, 0, REPLICATES)
    assert [(found.difference, found.difference_low, found.difference_high) for found in compared[:1]] == [(0, 0, 0)]
    means = score_folds(frame, TWO, 0, REPLICATES).test["joint"].auc.value
    assert compared[1].value == 0.5 and compared[1].difference == pytest.approx(means - 0.5)
    assert 0 < compared[1].difference_low < compared[1].difference < compared[1].difference_high
    assert compared[1].p < 0.05 and compared[0].p == 1
    # Combined with itself, or with what orders nothing, the order of the nodules remains that of the network.
    added = [(found.added, found.added_low, found.added_high, found.added_p) for found in compared]
    assert added[0] == (0, 0, 0, 1)
    assert added[1] == pytest.approx(
        (compared[1].difference, compared[1].difference_low, compared[1].difference_high, compared[1].p)
    )
    with pytest.raises(PredictionsError, match="other nodules"):
        compare_baselines(frame, {"diameter": worse[1:]}, 0, 20)


def test_a_fold_with_one_class_leaves_the_comparison_empty(frame: pd.DataFrame) -> None:
    one = frame.assign(label=frame["label"].where(frame["fold"] != frame["fold"].min(), TWO[0]))
    (found,) = compare_baselines(one, {"itself": one}, 0, 20)
    assert (found.difference, found.added, found.added_low, found.added_high, found.added_p) == (None,) * 5
    assert found.reason


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        # The mean of the logits: the root of 4 / 1 times 3 / 2, and of their inverses.
        ([0.2, 0.8], [0.4, 0.6], 6**0.5 / (1 + 6**0.5)),
        ([0.8, 0.2], [0.6, 0.4], 1 / (1 + 6**0.5)),
        # Certain: the logit of 1e-7 and 0.
        ([0.0, 1.0], [0.5, 0.5], 1e7**0.5 / (1 + 1e7**0.5)),
        ([0.0, 1.0], [1.0, 0.0], 0.5),
    ],
)
def test_combined_probabilities_are_the_normalised_geometric_mean(
    frame: pd.DataFrame, one: list[float], other: list[float], expected: float
) -> None:
    names = [f"p_{name}" for name in TWO]
    found = combine(
        frame.assign(**dict(zip(names, one, strict=True))), frame.assign(**dict(zip(names, other, strict=True)))
    )
    np.testing.assert_allclose(found[names], [[1 - expected, expected]] * len(frame))


def test_members_are_averaged_and_must_have_the_same_nodules(drawn_frame: Draw) -> None:
    first, second = (drawn_frame(cases=40, seed=seed).assign(repeat=seed + 1) for seed in (0, 1))
    second = second.assign(label=first["label"], patient=first["patient"])
    frame = out_of_fold([first.assign(split=1), second.assign(split=1)])
    columns = [*(f"p_{name}" for name in TWO), "dice"]
    np.testing.assert_allclose(frame[columns], (first[columns] + second[columns]) / 2)
    assert (frame["fold"] == 1).all() and (frame["repeat"] == 1).all() and list(frame["case"]) == list(first["case"])
    with pytest.raises(PredictionsError):
        out_of_fold([first, second[1:]])


def test_a_nodule_in_two_folds_is_refused(drawn_frame: Draw) -> None:
    rows = drawn_frame(cases=20)
    with pytest.raises(PredictionsError, match="each case once per stage"):
        out_of_fold([rows.assign(split=1), rows[:1].assign(split=2)])
