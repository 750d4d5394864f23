import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.comparison import INSIDE, OUTSIDE, UNDECIDED, compare_systems, holm
from ggn_tf.evaluation.statistics.paired_tests import BOOTSTRAP, auc_difference
from ggn_tf.evaluation.statistics.system_predictions import System

RAW, CASCADE, MULTITASK = System("raw", "classify"), System("cascade", "joint"), System("multitask", "joint")


def _compared(comparisons, metric):
    return next(comparison for comparison in comparisons if comparison.metric == metric)


def test_difference_is_a_minus_b(drawn_study):
    for one in compare_systems(drawn_study(), [(CASCADE, RAW)], replicates=50):
        assert one.difference == pytest.approx(one.value_a - one.value_b, abs=1e-12)
        assert (one.model_a, one.stage_a, one.model_b, one.stage_b) == ("cascade", "joint", "raw", "classify")


def test_exchanged_systems_change_the_sign_alone(drawn_study):
    frame = drawn_study()
    for one, other in zip(
        compare_systems(frame, [(CASCADE, RAW)], replicates=200),
        compare_systems(frame, [(RAW, CASCADE)], replicates=200),
        strict=True,
    ):
        assert (other.difference, other.p) == (pytest.approx(-one.difference), pytest.approx(one.p))
        assert (-other.high, -other.low) == pytest.approx((one.low, one.high), abs=1e-9)


def test_all_pairs_put_the_later_system_first(drawn_study):
    frame = drawn_study([RAW, CASCADE, MULTITASK])
    pairs = [(one.model_a, one.model_b) for one in compare_systems(frame, replicates=10) if one.metric == "mcc"]
    assert pairs == [("cascade", "raw"), ("multitask", "raw"), ("multitask", "cascade")]


def test_scores_that_one_system_lacks_are_left_out(drawn_study):
    frame = drawn_study([RAW, CASCADE, MULTITASK])
    metrics = {(one.model_a, one.model_b): [] for one in compare_systems(frame, replicates=10)}
    for one in compare_systems(frame, replicates=10):
        metrics[one.model_a, one.model_b].append(one.metric)
    assert metrics["cascade", "raw"] == ["accuracy", "average_f1", "mcc", "auc"]
    assert metrics["multitask", "cascade"] == ["accuracy", "average_f1", "mcc", "auc", "dice"]


def test_auc_is_compared_by_obuchowskis_test_of_the_mean_over_repeats(drawn_study):
    frame = drawn_study(repeats=2)
    one = _compared(compare_systems(frame, [(CASCADE, RAW)], replicates=10), "auc")
    score = {key: rows.sort_values("case")["p_MIA+IAC"].to_numpy() for key, rows in frame.groupby(["model", "repeat"])}
    cases = frame.drop_duplicates("case").sort_values("case")
    found = auc_difference(
        (cases["label"] == "MIA+IAC").to_numpy(),
        np.stack([score["cascade", 1], score["cascade", 2]]),
        np.stack([score["raw", 1], score["raw", 2]]),
        cases["patient"].to_numpy(),
    )
    assert (one.difference, one.low, one.high, one.p) == pytest.approx((found.value, found.low, found.high, found.p))
    assert one.test == "Obuchowski"


def test_tests_are_named(drawn_study):
    frame = drawn_study([CASCADE, MULTITASK], repeats=1)
    clustered = {one.metric: one.test for one in compare_systems(frame, replicates=10)}
    single = {one.metric: one.test for one in compare_systems(frame.assign(patient=frame["case"]), replicates=10)}
    assert clustered == {
        "accuracy": "McNemar, exact, by patient",
        "average_f1": "paired patient bootstrap",
        "mcc": "paired patient bootstrap",
        "auc": "Obuchowski",
        "dice": "paired patient bootstrap",
    }
    assert (single["accuracy"], single["auc"]) == ("McNemar, exact", "DeLong")


def test_holm_is_the_textbooks():
    """Four tests of Holm's procedure by hand: 0.005 x 4, 0.01 x 3, 0.03 x 2, then 0.04 not below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_of_large_p_values_ends_at_compared():
    assert holm([0.6, 0.7, 0.9]) == [1.0, 1.0, 1.0]


def test_holm_leaves_out_what_was_not_tested():
    assert holm([None, 0.02, None, 0.03]) == [None, 0.04, None, 0.04]


def test_family_is_every_pair_and_score_of_a_split(drawn_study):
    compared = compare_systems(drawn_study([RAW, CASCADE, MULTITASK], splits=(1, 2)), replicates=100)
    for split in (1, 2):
        family = [one for one in compared if one.split == split]
        assert [one.p_holm for one in family] == holm([one.p for one in family])
        assert [one.p_retrained_holm for one in family] == holm([one.p_retrained for one in family])
        assert len(family) == 4 + 4 + 5


def test_repeats_that_agree_add_no_training_error(drawn_study):
    frame = drawn_study(repeats=1)
    twice = pd.concat([frame.assign(repeat=number) for number in (1, 2, 3)])
    one, two = (_compared(compare_systems(table, replicates=100), "mcc") for table in (frame, twice))
    assert (one.training_error, one.p_retrained) == (None, None)
    assert two.training_error == pytest.approx(0, abs=1e-12)
    assert (two.p, two.difference) == (pytest.approx(one.p), pytest.approx(one.difference))


def test_training_error_of_pairs_is_the_standard_error_of_their_differences(drawn_study):
    frame = drawn_study(repeats=3, cases=80)
    one = _compared(compare_systems(frame, [(CASCADE, RAW)], replicates=100), "accuracy")
    right = frame["label"] == np.where(frame["p_MIA+IAC"] > frame["p_AAH+AIS"], "MIA+IAC", "AAH+AIS")
    accuracy = right.groupby([frame["model"], frame["repeat"]]).mean()
    differences = (accuracy["cascade"] - accuracy["raw"]).to_numpy()
    assert one.training_error == pytest.approx(differences.std(ddof=1) / np.sqrt(3))


def test_systems_with_other_repeats_are_compared_by_their_means(drawn_study):
    frame = drawn_study(repeats=3)
    frame = frame[(frame["model"] == "cascade") | (frame["repeat"] == 1)]
    one = _compared(compare_systems(frame, [(CASCADE, RAW)], replicates=100), "accuracy")
    assert (one.repeats_a, one.repeats_b) == (3, 1)
    assert 0 < one.p_retrained < 1


def test_interval_over_trainings_is_welchs(drawn_study):
    """Two variances and their degrees of freedom, 2 of the pairs of repeats and those of the patients."""
    frame = drawn_study(repeats=3)
    one = _compared(compare_systems(frame, [(CASCADE, RAW)], replicates=100), "auc")
    of_patients = (one.high - one.low) / 2 / norm.ppf(0.975)
    total = np.hypot(of_patients, one.training_error)
    freedom = total**4 / (of_patients**4 / (one.patients - 1) + one.training_error**4 / 2)
    reach = t.ppf(0.975, freedom) * total
    assert (one.low_retrained, one.high_retrained) == pytest.approx((one.difference - reach, one.difference + reach))
    assert one.p_retrained == pytest.approx(2 * t.sf(one.difference / total, freedom))


def test_training_noise_makes_p_larger(drawn_study):
    frame = drawn_study(repeats=3, cases=100, gain=0.8)
    one = _compared(compare_systems(frame, [(CASCADE, RAW)], replicates=2000), "auc")
    assert one.training_error > 0
    assert one.p_retrained > one.p


def test_score_without_meaning_says_why_and_is_not_in_the_family(drawn_study):
    compared = compare_systems(drawn_study().assign(label="MIA+IAC"), replicates=20)
    one = _compared(compared, "auc")
    assert (one.difference, one.p, one.p_holm, one.reason) == (None, None, None, "all nodules are MIA+IAC")
    assert [c.p_holm for c in compared] == holm([c.p for c in compared])


@pytest.mark.parametrize("repeats", [2, 3])
def test_variance_of_trainings_needs_three_of_them(drawn_study, repeats):
    compared = compare_systems(drawn_study(repeats=repeats, cases=100), replicates=100)
    assert {(one.p_retrained is None, one.low_retrained is None) for one in compared if one.difference is not None} == {
        (repeats == 2, repeats == 2)
    }


def test_primary_score_is_alone_in_the_family(drawn_study):
    frame = drawn_study(systems=[RAW, CASCADE, MULTITASK])
    compared = compare_systems(frame, replicates=500, primary="auc")
    primary, others = ([c for c in compared if (c.metric == "auc") is chosen] for chosen in (True, False))
    assert [c.p_holm for c in primary] == holm([c.p for c in primary])
    assert [c.p_retrained_holm for c in primary] == holm([c.p_retrained for c in primary])
    assert len(primary) == 3
    assert {(c.p_holm, c.p_retrained_holm) for c in others} == {(None, None)}
    assert all(c.p is not None for c in others if c.difference is not None)


def test_too_few_patients_have_a_difference_but_no_test(drawn_study):
    frame = drawn_study()
    frame["patient"] = "p" + frame["case"].str[-1].map(lambda digit: str(int(digit) % 9))
    one = _compared(compare_systems(frame, replicates=20), "accuracy")
    assert one.difference is not None
    assert (one.low, one.p, one.p_retrained) == (None, None, None)
    assert one.reason == "9 patients, fewer than 10, so there is no interval"


def test_auc_of_three_classes_is_compared_by_the_bootstrap(drawn_study):
    frame = drawn_study(classes=("AAH", "AIS", "MIA"), cases=90)
    one = _compared(compare_systems(frame, [(CASCADE, RAW)], replicates=500), "auc")
    assert one.test == BOOTSTRAP
    assert one.low < one.difference < one.high


@pytest.mark.parametrize("margin", [0.001, 0.3, 0.9])
def test_equivalence_is_where_the_interval_over_patients_and_trainings_is(drawn_study, margin):
    """Inside the margin, outside it, or across one of its ends, which is no conclusion."""
    for one in compare_systems(drawn_study(gain=1.5, cases=90), replicates=500, margin=margin):
        if one.low_retrained is None:
            continue
        if max(abs(one.low_retrained), abs(one.high_retrained)) < margin:
            expected = INSIDE
        else:
            expected = OUTSIDE if one.low_retrained > margin or one.high_retrained < -margin else UNDECIDED
        assert (one.margin, one.equivalence) == (margin, expected)


def test_a_wide_interval_around_zero_is_undecided_and_not_equivalent(drawn_study):
    one = _compared(compare_systems(drawn_study(gain=0.0, cases=30), replicates=500, margin=0.02), "accuracy")
    assert one.interval[0] < -0.02 < 0.02 < one.interval[1]
    assert one.equivalence == UNDECIDED


def test_pair_without_predictions_is_refused(drawn_study):
    with pytest.raises(PredictionsError) as caught:
        compare_systems(drawn_study(), [(CASCADE, System("radiomics", "classify"))])
    assert caught.value.case == "radiomics classify"
    assert caught.value.found == "raw classify, cascade joint"
