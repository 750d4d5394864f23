"""Calibration: whether a probability of 0.8 is right in four of five nodules.

Of two classes the probability of the second one is judged against its share; of more, the highest probability against
the share of right answers.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from ggn_tf.evaluation.statistics.bootstrap import Resampling, resampled_mean
from ggn_tf.evaluation.statistics.repeats import RepeatedScore, repeated_score
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions
from ggn_tf.evaluation.statistics.temperature import SMALLEST

MOST_BINS, LEAST_IN_BIN = 10, 10
NO_INTERVAL = "chance raises an ECE, and a bootstrap raises it again: compare it with ece_by_chance"
_DRAWS = 500
_NEWTON_STEPS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """One point of the reliability curve.

    Attributes:
        predicted: Mean probability in the bin.
        observed: Share of nodules of the second class, or with more classes of right answers.
        low, high: The patient bootstrap's interval of `observed` at 95 %; None where no replicate has a value, or all
            have the same, as where every answer came true.
        answers: How many nodules times repeats.
    """

    predicted: float
    observed: float
    low: float | None
    high: float | None
    answers: int


def reliability_curve(cell: SystemPredictions, resampling: Resampling, bins: int | None = None) -> list[ReliabilityBin]:
    """The reliability curve, in bins of equal numbers of answers, all repeats together.

    Args:
        cell: Of a system that classifies.
        resampling: Of its patients.
        bins: How many; None for ten, or fewer with ten nodules each. Equal probabilities stay in one bin.
    """
    chance, hit = _judged(cell)
    of_bin = _bin_numbers(chance.ravel(), bins or _bins(chance.shape[1])).reshape(chance.shape)
    curve = []
    for number in np.unique(of_bin):
        inside = of_bin == number
        # A nodule counts as often as its answers over the repeats lie in this bin.
        hits, answers = (hit * inside).sum(axis=0), inside.sum(axis=0)
        observed = _ratio(resampling.weights @ hits, resampling.weights @ answers)
        low, high = resampling.interval(observed) or (None, None)
        curve.append(ReliabilityBin(float(chance[inside].mean()), float(observed[0]), low, high, int(answers.sum())))
    return curve


def score_calibration(cell: SystemPredictions, resampling: Resampling, seed: int = 0) -> list[RepeatedScore]:
    """Scores of calibration, each the mean over repeats.

    - `brier`: the mean squared distance of the second class's probability from 0 or 1; with more classes the sum over
      them, as scikit-learn has it. Lower is better.
    - `in_the_large`: observed less predicted share; 0 is best.
    - `slope`: of the outcome's log odds on the probability's (Cox 1958); 1 is best, less is too sure. Of two classes.
    - `ece`: the mean distance of predicted and observed over bins of equal numbers. Chance alone makes it positive, and
      no bootstrap interval of it covers (none of 500 did for 50 well-calibrated patients), so it has none.
    - `ece_by_chance`: what it would be, on average, were the probabilities exactly right.

    Args:
        cell: Of a system that classifies.
        resampling: Of its patients.
        seed: Of the outcomes that are drawn for `ece_by_chance`.
    """
    chance, hit = _judged(cell)
    weights, generator = resampling.weights, np.random.default_rng(seed)
    of_repeats = {
        "brier": [resampled_mean(square, weights) for square in _squares(cell)],
        "in_the_large": [resampled_mean(of - one, weights) for one, of in zip(chance, hit, strict=True)],
    }
    if cell.probabilities.shape[-1] == 2:
        of_repeats["slope"] = [resampled_slope(one, of, weights) for one, of in zip(chance, hit, strict=True)]
    scores = [
        repeated_score(cell, name, np.array([one[0] for one in values]), np.mean(values, axis=0), resampling)
        for name, values in of_repeats.items()
    ]
    errors = np.array([expected_calibration_error(one, of) for one, of in zip(chance, hit, strict=True)])
    by_chance = np.array([ece_by_chance(one, generator) for one in chance])
    nothing = np.full(len(weights), np.nan)
    return [
        *scores,
        repeated_score(cell, "ece", errors, nothing, resampling, NO_INTERVAL),
        repeated_score(cell, "ece_by_chance", by_chance, nothing, resampling, NO_INTERVAL),
    ]


def expected_calibration_error(chance: np.ndarray, hit: np.ndarray, bins: int | None = None) -> float:
    """The mean distance of predicted and observed share over bins of equal numbers (Guo et al. 2017).

    Args:
        chance: Predicted probability [N].
        hit: bool [N]: whether it came true.
        bins: None for ten, or fewer with ten nodules each. Equal probabilities stay in one bin.
    """
    return float(_calibration_errors(chance, np.asarray(hit)[np.newaxis], bins)[0])


def ece_by_chance(chance: np.ndarray, generator: np.random.Generator, bins: int | None = None) -> float:
    """The mean ECE of probabilities that are exactly right, over drawn outcomes (Bröcker and Smith 2007).

    Args:
        chance: Predicted probability [N].
        generator: Draws the outcomes.
        bins: As in `expected_calibration_error`.
    """
    return float(_calibration_errors(chance, generator.random((_DRAWS, len(chance))) < chance, bins).mean())


def resampled_slope(chance: np.ndarray, hit: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The calibration slope on resampled nodules: logistic regression on the log odds, by Newton's method.

    Args:
        chance: Predicted probability [N].
        hit: bool [N]: whether it came true.
        weights: How often each nodule counts [B, N].

    Returns:
        float64 [B]; NaN where the regression does not settle: one class only, or classes that the log odds separate.
    """
    odds = np.log(np.clip(chance, SMALLEST, 1 - SMALLEST)) - np.log(np.clip(1 - chance, SMALLEST, 1 - SMALLEST))
    intercept, slope = np.zeros(len(weights)), np.zeros(len(weights))
    settled = np.zeros(len(weights), bool)
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
            settled = np.maximum(np.abs(up), np.abs(steeper)) < 1e-6 * np.maximum(1, np.abs(slope))
    return np.where(settled, slope, np.nan)


def _judged(cell: SystemPredictions) -> tuple[np.ndarray, np.ndarray]:
    """The probability that is judged and whether it came true, [R, N] both."""
    chance = cell.probabilities
    if chance.shape[-1] == 2:
        return chance[..., 1], np.broadcast_to(cell.label == 1, chance.shape[:2])
    return chance.max(axis=-1), chance.argmax(axis=-1) == cell.label


def _squares(cell: SystemPredictions) -> np.ndarray:
    """Each nodule's Brier score [R, N]."""
    chance = cell.probabilities
    squares: np.ndarray = ((chance - np.eye(chance.shape[-1])[cell.label]) ** 2).sum(axis=-1)
    return squares / 2 if chance.shape[-1] == 2 else squares


def _calibration_errors(chance: np.ndarray, hits: np.ndarray, bins: int | None) -> np.ndarray:
    """ECE of outcomes [D, N], [D]."""
    of_bin = _bin_numbers(chance, bins or _bins(len(chance)))
    member = np.eye(of_bin.max() + 1)[of_bin]
    errors: np.ndarray = np.abs((chance - hits) @ member).sum(axis=1) / len(chance)
    return errors


def _bins(nodules: int) -> int:
    return max(1, min(MOST_BINS, nodules // LEAST_IN_BIN))


def _bin_numbers(chance: np.ndarray, bins: int) -> np.ndarray:
    """Bins of equal numbers; equal values share one."""
    edges = np.quantile(chance, np.linspace(0, 1, bins + 1)[1:-1])
    return np.unique(np.searchsorted(edges, chance, side="left"), return_inverse=True)[1]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
