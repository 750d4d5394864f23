import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss, roc_auc_score

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.calibration import apply_temperature, fit_temperature, scale_by_temperature

TWO = ("AAH+AIS", "MIA+IAC")


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
        validation[["p_AAH+AIS", "p_MIA+IAC"]].to_numpy(), (validation["label"] == TWO[1]).to_numpy().astype(int)
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
