import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis as scipy_distance
from scipy.stats import binom

from ggn_tf.errors import GgnError
from ggn_tf.evaluation.statistics.typicality import fit_distribution, mahalanobis, nodules_needed


@pytest.fixture
def features() -> np.ndarray:
    """400 nodules of 30 correlated features, five of which are never active."""
    rng = np.random.default_rng(0)
    drawn = np.maximum(rng.normal(size=(400, 30)) @ rng.normal(size=(30, 30)), 0)
    drawn[:, :5] = 0
    return drawn.astype(np.float32)


def test_distance_is_scipys(features):
    fitted = fit_distribution(features[:200], features[200:])
    expected = [scipy_distance(row, fitted.mean, fitted.precision) for row in features[:7].astype(np.float64)]
    assert mahalanobis(features[:7], fitted.mean, fitted.precision) == pytest.approx(expected, rel=1e-10)


def test_covariance_is_shrunk_as_ledoit_and_wolf_do(features):
    """Their estimate from its formula: (1 - s) S + s tr(S)/F I, with s from the fourth moments."""
    fitted = fit_distribution(features[:50], features[200:])
    centred = features[:50].astype(np.float64) - features[:50].astype(np.float64).mean(axis=0)
    count, size = centred.shape
    sample = centred.T @ centred / count
    mu = np.trace(sample) / size
    spread = ((sample - mu * np.eye(size)) ** 2).sum()
    error = sum(((np.outer(row, row) - sample) ** 2).sum() for row in centred) / count**2
    share = min(error / spread, 1)
    shrunk = (1 - share) * sample + share * mu * np.eye(size)
    assert fitted.precision == pytest.approx(np.linalg.inv(shrunk), rel=1e-6, abs=1e-6)


def test_p_value_is_the_rank_among_held_out_nodules(features):
    fitted = fit_distribution(features[:200], features[200:299])
    distances = fitted.distances(features[299:])
    expected = [(1 + (fitted.held_out >= distance).sum()) / 100 for distance in distances]
    assert fitted.typicality(features[299:]).tolist() == expected
    held_out = fitted.typicality(features[200:299])
    assert sorted(held_out) == pytest.approx(np.arange(2, 101) / 100)
    assert fitted.typicality(np.full((1, 30), 1e6))[0] == 0.01


def test_share_of_small_p_values_is_within_binomial_limits():
    rng, hits = np.random.default_rng(1), 0
    for _ in range(200):
        drawn = np.maximum(rng.normal(size=(140, 6)), 0)
        hits += int(fit_distribution(drawn[:40], drawn[40:139]).typicality(drawn[139:])[0] <= 0.05)
    assert binom.ppf(0.0005, 200, 0.05) <= hits <= binom.ppf(0.9995, 200, 0.05)


def test_a_hundred_held_out_nodules_are_needed_for_a_p_value_below_one_percent(features):
    assert nodules_needed(0.01) == 100
    for count, possible in ((99, False), (100, True)):
        fitted = fit_distribution(features[:200], features[200 : 200 + count])
        assert (fitted.typicality(np.full((1, 30), 1e6))[0] < 0.01) == possible


@pytest.mark.parametrize(
    ("trained", "held_out"),
    [
        (np.ones((5, 3)), np.ones((5, 3))),
        (np.eye(3)[:1], np.eye(3)),
        (np.eye(3), np.eye(3)[:0]),
        (np.full((2, 3), np.nan), np.eye(3)),
        (np.eye(3), np.full((2, 3), np.inf)),
    ],
)
def test_features_without_a_distribution_are_refused(trained, held_out):
    with pytest.raises(GgnError, match="cannot be estimated"):
        fit_distribution(trained, held_out)
