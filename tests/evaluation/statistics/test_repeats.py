import numpy as np
import pytest
from scipy.stats import t
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, roc_auc_score

from ggn_tf.evaluation.statistics import bootstrap
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.repeats import repeated_score, score_repeats
from ggn_tf.evaluation.statistics.score_records import table_of
from ggn_tf.evaluation.statistics.scores import class_indices
from ggn_tf.evaluation.statistics.system_predictions import split_by_system
from tests.support.described_run import scores_of_test

TWO = ("AAH+AIS", "MIA+IAC")
THREE = ("AAH+AIS", "MIA", "IAC")


def _by_hand(rows, name):
    label, predicted = class_indices(rows)
    return {
        "accuracy": lambda: accuracy_score(label, predicted),
        "average_f1": lambda: f1_score(label, predicted, average="weighted"),
        "mcc": lambda: matthews_corrcoef(label, predicted),
        "auc": lambda: roc_auc_score(label, probabilities(rows)[:, 1]),
        "dice": lambda: rows["dice"].mean(),
    }[name]()


@pytest.mark.parametrize("metric", ["accuracy", "average_f1", "mcc", "auc", "dice"])
def test_value_and_deviation_are_over_the_repeats(drawn_study, metric):
    frame = drawn_study(repeats=4)
    score = next(s for s in score_repeats(frame, replicates=20) if (s.model, s.metric) == ("cascade", metric))
    values = [_by_hand(rows, metric) for _, rows in frame[frame["model"] == "cascade"].groupby("repeat")]
    assert (score.value, score.repeats) == (pytest.approx(np.mean(values)), 4)
    assert score.deviation == pytest.approx(np.sqrt(np.sum((values - np.mean(values)) ** 2) / 3))


@pytest.mark.parametrize("metric", ["accuracy", "average_f1", "mcc", "auc", "dice"])
def test_interval_of_one_repeat_is_that_of_the_run(drawn_study, metric):
    frame = drawn_study(systems=[("cascade", "joint")], repeats=1)
    score = next(s for s in score_repeats(frame, seed=3, replicates=200) if s.metric == metric)
    run = scores_of_test(frame, seed=3, replicates=200)[metric]
    assert (score.value, score.low, score.high) == pytest.approx((run.value, run.low, run.high), abs=1e-12)
    assert score.deviation is None


def test_interval_is_of_the_mean_over_repeats(drawn_study):
    frame = drawn_study(systems=[("cascade", "joint")], repeats=3)
    score = next(s for s in score_repeats(frame, replicates=300) if s.metric == "dice")
    mean = frame.groupby("case")["dice"].mean()
    patients = frame.drop_duplicates("case").set_index("case").loc[mean.index, "patient"].to_numpy(dtype=str)
    resampling = bootstrap.resample(patients, 300, 0)
    expected = resampling.interval(bootstrap.resampled_mean(mean.to_numpy(), resampling.weights))
    assert (score.low, score.high) == pytest.approx(expected, abs=1e-12)


def test_retrained_interval_adds_the_squares_of_both_distances(drawn_study):
    """By hand: Student's interval of the mean over trainings, and the interval over patients."""
    frame = drawn_study(systems=[("cascade", "joint")], repeats=4)
    score = next(s for s in score_repeats(frame, replicates=300) if s.metric == "accuracy")
    reach = t.ppf(0.975, 3) * score.deviation / 2
    assert score.low_retrained == pytest.approx(score.value - np.sqrt((score.value - score.low) ** 2 + reach**2))
    assert score.high_retrained == pytest.approx(score.value + np.sqrt((score.high - score.value) ** 2 + reach**2))


@pytest.mark.parametrize(
    ("metric", "least", "most"),
    [
        *((name, 0, 1) for name in ("accuracy", "sensitivity", "npv", "f1", "average_precision", "low_dice")),
        *((name, 0, np.inf) for name in ("brier", "hd95_mm")),
        *((name, -np.inf, np.inf) for name in ("slope", "net_benefit", "volume_bias_mm3")),
        ("mcc", -1.0, 1.0),
    ],
)
def test_retrained_interval_stays_in_the_range_of_the_score(metric, least, most, drawn_study):
    (system,) = split_by_system(drawn_study(systems=[("cascade", "joint")], repeats=3), ["test"])
    resampling = bootstrap.resample(system.patients, 50, 0)
    resampled = np.linspace(0.4, 0.6, len(resampling.weights))
    score = repeated_score(system, metric, np.array([0.0, 0.5, 1.0]), resampled, resampling)
    reach = t.ppf(0.975, 2) * 0.5 / np.sqrt(3)
    low, high = 0.5 - np.hypot(0.5 - score.low, reach), 0.5 + np.hypot(score.high - 0.5, reach)
    assert low < -0.7 and high > 1.7
    assert (score.low_retrained, score.high_retrained) == pytest.approx((max(low, least), min(high, most)))


def test_two_trainings_have_no_retrained_interval(drawn_study):
    scores = score_repeats(drawn_study(repeats=2), replicates=20)
    assert {(s.low_retrained, s.high_retrained) for s in scores} == {(None, None)}


def test_replicates_without_a_value_are_counted_in_a_study(drawn_study, make_frame):
    frame = drawn_study(systems=[("cascade", "joint")], repeats=2)
    rare = sorted(frame["case"].unique())[:5]
    frame = frame.assign(patient=frame["case"], label=np.where(frame["case"].isin(rare), "MIA+IAC", "AAH+AIS"))
    scores = {s.metric: s.left_out for s in score_repeats(frame, replicates=2000)}
    weights = bootstrap.resample(np.array(sorted(frame["case"].unique())), 2000, 0).weights[1:2001]
    assert scores["auc"] == scores["mcc"] == (weights[:, :5].sum(axis=1) == 0).sum() > 0
    assert scores["accuracy"] == 0


def test_score_that_a_system_lacks_says_why(drawn_study):
    score = next(s for s in score_repeats(drawn_study(), replicates=10) if (s.model, s.metric) == ("raw", "dice"))
    assert (score.value, score.deviation, score.low, score.reason) == (None, None, None, "the model gives no mask")


def test_score_without_meaning_says_why(drawn_study):
    frame = drawn_study().assign(label="MIA+IAC")
    score = next(s for s in score_repeats(frame, replicates=10) if s.metric == "auc")
    assert (score.value, score.reason) == (None, "all nodules are MIA+IAC")


def test_every_system_split_and_set_has_its_scores(drawn_study):
    scores = score_repeats(drawn_study(classes=THREE, splits=(1, 2)), replicates=10)
    assert [(s.split, s.model, s.metric) for s in scores if s.metric == "mcc"] == [
        (1, "raw", "mcc"),
        (1, "cascade", "mcc"),
        (2, "raw", "mcc"),
        (2, "cascade", "mcc"),
    ]
    assert {s.task for s in scores} == {"AAH+AIS,MIA,IAC"}


def test_table_has_a_column_a_field(drawn_study):
    table = table_of(score_repeats(drawn_study(), replicates=10))
    assert len(table) == 10
    assert table.columns[:6].tolist() == ["model", "stage", "task", "split", "set", "metric"]
    assert np.isnan(table.loc[(table["model"] == "raw") & (table["metric"] == "dice"), "value"].item())
