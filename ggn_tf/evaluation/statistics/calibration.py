"""Calibration: how well predicted probabilities match observed shares.

With two classes the probability of the second class is compared with its share; with more, the highest probability is
compared with the share of correct predictions.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from ggn_tf.evaluation.statistics.bootstrap import Resampling, resampled_mean
from ggn_tf.evaluation.statistics.repeats import RepeatedScore, repeated_score
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions
from ggn_tf.evaluation.statistics.temperature import SMALLEST

MOST_BINS, LEAST_IN_BIN = 10, 10
NO_INTERVAL = "an ECE is biased upwards, and more so in a bootstrap: compare it with ece_by_chance"
_DRAWS = 500
_NEWTON_STEPS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """One point of the reliability curve.

    Attributes:
        predicted: Mean probability in the bin.
        observed: Share of nodules of the second class, or with more classes of correct predictions.
        low, high: Patient-bootstrap interval of `observed` at 95 %; None where no replicate has a value or all have the
            same.
        predictions: Number of nodules times repeats.
    """

    predicted: float
    observed: float
    low: float | None
    high: float | None
    predictions: int


def reliability_curve(
    system: SystemPredictions, resampling: Resampling, bins: int | None = None
) -> list[ReliabilityBin]:
    """The reliability curve over all repeats, in bins of equal numbers of predictions.

    Args:
        system: Predictions of a system that classifies.
        resampling: Resampling of its patients.
        bins: Number of bins; None for ten, or fewer with ten nodules each. Equal probabilities share a bin.
    """
    probability, hit = _judged(system)
    bin_numbers = _bin_numbers(probability.ravel(), bins or _bins(probability.shape[1])).reshape(probability.shape)
    curve = []
    for number in np.unique(bin_numbers):
        inside = bin_numbers == number
        # A nodule counts once for every repeat whose prediction is in this bin.
        hits, counts = (hit * inside).sum(axis=0), inside.sum(axis=0)
        observed = _ratio(resampling.weights @ hits, resampling.weights @ counts)
        low, high = resampling.interval(observed) or (None, None)
        mean = float(probability[inside].mean())
        curve.append(ReliabilityBin(mean, float(observed[0]), low, high, int(counts.sum())))
    return curve


def score_calibration(system: SystemPredictions, resampling: Resampling, seed: int = 0) -> list[RepeatedScore]:
    """Scores of calibration, each the mean over repeats.

    - `brier`: mean squared distance of the second class's probability from 0 or 1; with more classes the sum over them,
      as in scikit-learn. Lower is better.
    - `in_the_large`: observed minus predicted share; 0 is best.
    - `slope`: slope of the outcome's log odds on those of the probability (Cox 1958), for two classes; 1 is best, less
      is overconfident.
    - `ece`: mean distance of predicted and observed over bins of equal numbers. It is positive even for exact
      probabilities, and its bootstrap interval does not cover (none of 500 did for 50 well-calibrated patients), so it
      has none.
    - `ece_by_chance`: the mean ECE if the probabilities were exact.

    Args:
        system: Predictions of a system that classifies.
        resampling: Resampling of its patients.
        seed: Seed of the outcomes that are drawn for `ece_by_chance`.
    """
    repeats = list(zip(*_judged(system), strict=True))
    weights, generator = resampling.weights, np.random.default_rng(seed)
    resampled = {
        "brier": [resampled_mean(square, weights) for square in _squares(system)],
        "in_the_large": [resampled_mean(hit - probability, weights) for probability, hit in repeats],
    }
    if system.probabilities.shape[-1] == 2:
        resampled["slope"] = [resampled_slope(probability, hit, weights) for probability, hit in repeats]
    scores = [
        repeated_score(system, name, np.array([value[0] for value in values]), np.mean(values, axis=0), resampling)
        for name, values in resampled.items()
    ]
    errors = {
        "ece": [expected_calibration_error(probability, hit) for probability, hit in repeats],
        "ece_by_chance": [ece_by_chance(probability, generator) for probability, _ in repeats],
    }
    undefined = np.full(len(weights), np.nan)
    scores += [
        repeated_score(system, name, np.array(values), undefined, resampling, NO_INTERVAL)
        for name, values in errors.items()
    ]
    return scores


def expected_calibration_error(probability: np.ndarray, hit: np.ndarray, bins: int | None = None) -> float:
    """Mean distance of predicted and observed share over bins of equal numbers (Guo et al. 2017).

    Args:
        probability: Predicted probability [N].
        hit: Whether the predicted event occurred, bool [N].
        bins: Number of bins; None for ten, or fewer with ten nodules each. Equal probabilities share a bin.
    """
    return float(_calibration_errors(probability, np.asarray(hit)[np.newaxis], bins)[0])


def ece_by_chance(probability: np.ndarray, generator: np.random.Generator, bins: int | None = None) -> float:
    """Mean ECE of exact probabilities over drawn outcomes (Bröcker and Smith 2007).

    Args:
        probability: Predicted probability [N].
        generator: Draws the outcomes.
        bins: As in `expected_calibration_error`.
    """
    outcomes = generator.random((_DRAWS, len(probability))) < probability
    return float(_calibration_errors(probability, outcomes, bins).mean())


def resampled_slope(probability: np.ndarray, hit: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The calibration slope on resampled nodules: logistic regression on the log odds, by Newton's method.

    Args:
        probability: Predicted probability [N].
        hit: Whether the predicted event occurred, bool [N].
        weights: Count of each nodule [B, N].

    Returns:
        float64 [B]; NaN where the regression does not converge: one class only, or classes that the log odds separate.
    """
    ends = SMALLEST, 1 - SMALLEST
    odds = np.log(np.clip(probability, *ends)) - np.log(np.clip(1 - probability, *ends))
    intercept, slope = np.zeros(len(weights)), np.zeros(len(weights))
    converged = np.zeros(len(weights), bool)
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON_STEPS):
            expected = expit(intercept[:, np.newaxis] + slope[:, np.newaxis] * odds)
            residual, curvature = weights * (hit - expected), weights * expected * (1 - expected)
            gradient, gradient_odds = residual.sum(axis=1), residual @ odds
            a, b, c = curvature.sum(axis=1), curvature @ odds, curvature @ odds**2
            determinant = a * c - b**2
            up, steeper = (
                (c * gradient - b * gradient_odds) / determinant,
                (a * gradient_odds - b * gradient) / determinant,
            )
            intercept, slope = intercept + up, slope + steeper
            converged = np.maximum(np.abs(up), np.abs(steeper)) < 1e-6 * np.maximum(1, np.abs(slope))
    return np.where(converged, slope, np.nan)


def _judged(system: SystemPredictions) -> tuple[np.ndarray, np.ndarray]:
    """The probability that is judged and whether the predicted event occurred, [R, N] both."""
    probability = system.probabilities
    if probability.shape[-1] == 2:
        return probability[..., 1], np.broadcast_to(system.label == 1, probability.shape[:2])
    return probability.max(axis=-1), probability.argmax(axis=-1) == system.label


def _squares(system: SystemPredictions) -> np.ndarray:
    """Brier score of each nodule [R, N]."""
    probability = system.probabilities
    squares: np.ndarray = ((probability - np.eye(probability.shape[-1])[system.label]) ** 2).sum(axis=-1)
    return squares / 2 if probability.shape[-1] == 2 else squares


def _calibration_errors(probability: np.ndarray, hits: np.ndarray, bins: int | None) -> np.ndarray:
    """ECE [D] of outcomes [D, N]."""
    numbers = _bin_numbers(probability, bins or _bins(len(probability)))
    member = np.eye(numbers.max() + 1)[numbers]
    errors: np.ndarray = np.abs((probability - hits) @ member).sum(axis=1) / len(probability)
    return errors


def _bins(nodules: int) -> int:
    return max(1, min(MOST_BINS, nodules // LEAST_IN_BIN))


def _bin_numbers(probability: np.ndarray, bins: int) -> np.ndarray:
    """Bins of equal numbers; equal values share one."""
    edges = np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1])
    return np.unique(np.searchsorted(edges, probability, side="left"), return_inverse=True)[1]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
