import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ggn_tf.evaluation.statistics.bootstrap import draw_weights, percentile_interval, resampled_mean
from ggn_tf.evaluation.statistics.retest import score_retest, with_perturbation
from ggn_tf.evaluation.statistics.score_records import UNPERTURBED, Perturbation, RetestScore

NOISE, OFF = Perturbation("noise", 20.0), Perturbation("centre_offset", 4.0)
PATIENTS = 20


def _table(positive: np.ndarray, dice: np.ndarray, patients: int = PATIENTS) -> pd.DataFrame:
    """One nodule of every class for each patient, with the probability of the second class."""
    nodules = len(positive)
    return pd.DataFrame(
        {
            "case": [f"case{i:02d}" for i in range(nodules)],
            "patient": [f"p{i % patients}" for i in range(nodules)],
            "label": ["AAH+AIS", "MIA+IAC"] * (nodules // 2),
            "p_AAH+AIS": 1 - positive,
            "p_MIA+IAC": positive,
            "dice": dice,
        }
    )


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Unperturbed rows, and rows of which the first five nodules change their class."""
    rng = np.random.default_rng(3)
    positive, dice = rng.uniform(0.55, 0.95, 40), rng.uniform(0.6, 0.9, 40)
    moved = np.where(np.arange(40) < 5, 1 - positive, positive)
    return _table(positive, dice), _table(moved, dice - rng.uniform(0, 0.1, 40))


def _score(*parts: tuple[Perturbation, pd.DataFrame]) -> dict[tuple[Perturbation, str], RetestScore]:
    joined = pd.concat([with_perturbation(rows, perturbation) for perturbation, rows in parts])
    scores = score_retest(joined, seed=1, replicates=200)
    return {(score.perturbation, score.metric): score for score in scores}


def test_scores_are_those_of_the_perturbed_rows_beside_the_unperturbed(tables):
    before, after = tables
    found = _score((UNPERTURBED, before), (OFF, after))
    positive = before["label"] == "MIA+IAC"
    aucs = [roc_auc_score(positive, rows["p_MIA+IAC"]) for rows in tables]
    assert found[UNPERTURBED, "auc"].value == pytest.approx(aucs[0])
    assert found[OFF, "auc"].value == pytest.approx(aucs[1])
    assert found[OFF, "auc"].difference == pytest.approx(aucs[1] - aucs[0])
    assert found[OFF, "dice"].value == pytest.approx(after["dice"].mean())
    assert found[OFF, "dice"].difference == pytest.approx((after["dice"] - before["dice"]).mean())
    assert found[OFF, "changed"].value == 5 / 40
    assert found[OFF, "changed"].low < 5 / 40 < found[OFF, "changed"].high
    assert (UNPERTURBED, "changed") not in found
    assert found[UNPERTURBED, "dice"].difference is None and found[OFF, "changed"].difference is None


def test_the_interval_of_a_difference_is_paired_and_by_patient(tables):
    before, after = tables
    score = _score((UNPERTURBED, before), (OFF, after))[OFF, "dice"]
    weights = draw_weights(before["patient"].to_numpy(dtype=str), 200, seed=1)
    drawn = resampled_mean((after["dice"] - before["dice"]).to_numpy(), weights)
    assert (score.difference_low, score.difference_high) == pytest.approx(percentile_interval(drawn, PATIENTS))


def test_without_a_changed_prediction_the_interval_is_exact_over_patients(tables):
    before, _ = tables
    score = _score((UNPERTURBED, before), (NOISE, before))[NOISE, "changed"]
    assert (score.value, score.low) == (0.0, 0.0)
    # (1 - p)^20 = 0.025
    assert score.high == pytest.approx(1 - 0.025 ** (1 / PATIENTS))


def test_with_every_prediction_changed_the_interval_is_exact_over_patients(tables):
    before, _ = tables
    score = _score((UNPERTURBED, before), (OFF, _table(1 - before["p_MIA+IAC"].to_numpy(), before["dice"])))
    assert score[OFF, "changed"].value == score[OFF, "changed"].high == 1.0
    assert score[OFF, "changed"].low == pytest.approx(0.025 ** (1 / PATIENTS))


def test_equal_predictions_have_a_difference_of_zero_without_an_interval(tables):
    before, _ = tables
    found = _score((UNPERTURBED, before), (NOISE, before))
    for metric in ("dice", "auc"):
        score = found[NOISE, metric]
        assert (score.difference, score.difference_low, score.difference_high) == (0.0, None, None)
        assert score.low < score.value < score.high


def test_nodules_are_matched_by_case_and_perturbations_keep_their_order(tables):
    before, after = tables
    shuffled = after.sample(frac=1, random_state=0)
    assert _score((UNPERTURBED, before), (OFF, shuffled)) == _score((UNPERTURBED, before), (OFF, after))
    assert list(_score((OFF, after), (UNPERTURBED, before), (NOISE, before)))[::3] == [
        (OFF, "dice"),
        (UNPERTURBED, "dice"),
        (NOISE, "auc"),
    ]


def test_with_few_patients_there_are_values_without_intervals(tables):
    before, after = (_table(rows["p_MIA+IAC"].to_numpy(), rows["dice"].to_numpy(), patients=9) for rows in tables)
    for score in _score((UNPERTURBED, before), (OFF, after)).values():
        assert score.value is not None and score.low is None and score.difference_low is None
        assert score.reason == "9 patients, fewer than 10, so there is no interval"
    assert _score((UNPERTURBED, before), (OFF, after))[OFF, "dice"].difference is not None


def test_one_class_has_no_auc_but_a_share_of_changed_predictions(tables):
    before, after = (rows.assign(label="MIA+IAC") for rows in tables)
    found = _score((UNPERTURBED, before), (OFF, after))
    assert (found[OFF, "auc"].value, found[OFF, "auc"].difference) == (None, None)
    assert found[OFF, "auc"].reason == "all nodules are MIA+IAC"
    assert found[OFF, "changed"].value == 5 / 40


@pytest.mark.parametrize(
    ("absent", "metrics"),
    [(["dice"], {"auc", "changed"}), (["p_AAH+AIS", "p_MIA+IAC"], {"dice"})],
)
def test_a_stage_has_the_scores_of_its_outputs(tables, absent, metrics):
    before, after = (rows.assign(**dict.fromkeys(absent, np.nan)) for rows in tables)
    assert {metric for _, metric in _score((UNPERTURBED, before), (OFF, after))} == metrics
