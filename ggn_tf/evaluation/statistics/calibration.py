"""Calibration: how well predicted probabilities match observed shares, and temperature scaling.

With two classes the probability of the second class is compared with its share; with more, the highest probability is
compared with the share of correct predictions. Temperatures are fitted on the validation set (Guo et al. 2017).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.bootstrap import Resampling, resampled_mean
from ggn_tf.evaluation.statistics.predictions_table import (
    RUN_KEY,
    check_predictions,
    probabilities,
    probability_names,
    table_classes,
)
from ggn_tf.evaluation.statistics.repeats import repeated_score
from ggn_tf.evaluation.statistics.score_records import RepeatedScore
from ggn_tf.evaluation.statistics.scores import class_indices, few_in_class, gives_probabilities
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions

# A softmax in float32 can be 0, whose logarithm is infinite.
SMALLEST = 1e-12
_TEMPERATURES = (0.05, 20.0)


def fit_temperature(probability: np.ndarray, label: np.ndarray) -> float:
    """The temperature in [0.05, 20] with the smallest cross-entropy of probabilities [N, C] and class indices [N]."""
    logits = np.log(np.maximum(probability, SMALLEST))

    def cross_entropy(log_temperature: float) -> float:
        logs = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-logs[np.arange(len(label)), label].mean())

    found = minimize_scalar(cross_entropy, bounds=np.log(_TEMPERATURES), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def apply_temperature(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [..., C] at another temperature; their order within a nodule does not change."""
    scaled: np.ndarray = softmax(np.log(np.maximum(probability, SMALLEST)) / temperature, axis=-1)
    return scaled


def scale_by_temperature(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scale every run and stage, fitted on its validation set and applied to all its sets.

    Returns:
        The same table with scaled probabilities, and the temperatures: one row per run and stage that classifies, with
        columns model, split, repeat, stage, temperature.

    Raises:
        PredictionsError: The table is wrong, or a run has no validation set.
    """
    checked = check_predictions(frame)
    names = probability_names(table_classes(checked))
    scaled, temperatures = checked.copy(), []
    for key, rows in _classified(checked):
        validation = rows[rows["set"] == "validation"]
        if validation.empty:
            raise PredictionsError(
                "Temperature scaling needs a validation set.",
                case=", ".join(f"{name} {value}" for name, value in key.items()),
                found=f"sets {', '.join(sorted(rows['set'].unique()))}",
                expected="predictions of the validation set",
                remedy="Evaluate the run, which predicts all its sets.",
            )
        temperature = fit_temperature(probabilities(validation), class_indices(validation)[0])
        scaled.loc[rows.index, names] = apply_temperature(probabilities(rows), temperature)
        temperatures.append({**key, "temperature": temperature})
    return scaled, pd.DataFrame(temperatures, columns=[*RUN_KEY, "stage", "temperature"])


def _classified(frame: pd.DataFrame) -> Iterator[tuple[dict[str, object], pd.DataFrame]]:
    by = [*RUN_KEY, "stage"]
    for values, rows in frame.groupby(by, sort=False):
        if gives_probabilities(rows):
            yield dict(zip(by, values, strict=True)), rows


ONE_CLASS, SEPARATED = "all nodules are of one class", "the probabilities separate the classes"
MOST_BINS, LEAST_IN_BIN = 10, 10
NO_INTERVAL = "an ECE is biased upwards, and more so in a bootstrap: compare it with ece_by_chance"
_DRAWS = 500
_NEWTON_STEPS = 15
# Saturated probabilities give the intercept's first steps a curvature near 0.
_LARGEST_STEP, _CONVERGED = 4.0, 1e-6


@dataclass(frozen=True)
class ReliabilityBin:
    """One point of the reliability curve.

    Attributes:
        predicted: Mean probability in the bin.
        observed: Share of nodules of the second class, or with more classes of correct predictions.
        low, high: Patient-bootstrap interval of `observed` at 95 %; None where there is none.
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
    """The reliability curve over all repeats, in bins of equal numbers of predictions; equal probabilities share a bin.

    There are ten bins, or fewer with ten nodules each, unless their number is given.
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
    - `intercept`: log odds that would have to be added to all probabilities (the slope kept at 1) for their mean to be
      the observed share (Van Calster et al. 2016), for two classes; 0 is best, less means probabilities too high.
    - `ece`: mean distance of predicted and observed over bins of equal numbers. It is positive even for exact
      probabilities, and its bootstrap interval does not cover (none of 500 did for 50 well-calibrated patients), so it
      has none.
    - `ece_by_chance`: the mean ECE if the probabilities were exact.
    """
    repeats = list(zip(*_judged(system), strict=True))
    weights, generator = resampling.weights, np.random.default_rng(seed)
    resampled = {
        "brier": [resampled_mean(square, weights) for square in _squares(system)],
        "in_the_large": [resampled_mean(hit - probability, weights) for probability, hit in repeats],
    }
    if system.probabilities.shape[-1] == 2:
        resampled["slope"] = [resampled_slope(probability, hit, weights) for probability, hit in repeats]
        resampled["intercept"] = [resampled_intercept(probability, hit, weights) for probability, hit in repeats]
    few = few_in_class(system.rows)
    scores = [
        _summarised(system, name, np.array(values), resampling, few if name in ("slope", "intercept") else None)
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


def _summarised(
    system: SystemPredictions, name: str, resampled: np.ndarray, resampling: Resampling, few: str | None
) -> RepeatedScore:
    """A score of every repeat on resampled nodules [R, 1 + B + P]; undefined where it is for one repeat."""
    undefined = int(np.isnan(resampled[:, 0]).sum())
    mean = resampled.mean(axis=0)
    if undefined:
        cause = ONE_CLASS if len(np.unique(system.label)) == 1 else SEPARATED
        where = f" in {undefined} of {len(resampled)} repeats" if len(resampled) > 1 else ""
        return repeated_score(system, name, None, mean, resampling, cause + where)
    return repeated_score(system, name, resampled[:, 0], mean, resampling, few)


def expected_calibration_error(probability: np.ndarray, hit: np.ndarray, bins: int | None = None) -> float:
    """Mean distance of predicted [N] and observed share (bool [N]) over bins of equal numbers (Guo et al. 2017)."""
    return float(_calibration_errors(probability, np.asarray(hit)[np.newaxis], bins)[0])


def ece_by_chance(probability: np.ndarray, generator: np.random.Generator) -> float:
    """Mean ECE of exact probabilities [N] over drawn outcomes (Bröcker and Smith 2007)."""
    outcomes = generator.random((_DRAWS, len(probability))) < probability
    return float(_calibration_errors(probability, outcomes, None).mean())


def resampled_slope(probability: np.ndarray, hit: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The calibration slope on resampled nodules: logistic regression on the log odds, by Newton's method.

    Takes predicted probabilities [N], whether the event occurred, bool [N], and counts of nodules [B, N]. Returns
    float64 [B]; NaN where the regression does not converge: one class only, or classes that the log odds separate.
    """
    odds = _log_odds(probability)
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


def resampled_intercept(probability: np.ndarray, hit: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The calibration intercept on resampled nodules: logistic regression with the log odds as offset, by Newton.

    Arguments and result as of `resampled_slope`; NaN with one class only.
    """
    odds, intercept = _log_odds(probability), np.zeros(len(weights))
    observed, total = weights @ hit, weights.sum(axis=1)
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON_STEPS):
            expected = expit(intercept[:, np.newaxis] + odds)
            step = (observed - (weights * expected).sum(axis=1)) / (weights * expected * (1 - expected)).sum(axis=1)
            intercept = intercept + np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
    both = (observed > 0) & (observed < total) & (np.abs(step) < _CONVERGED)
    return np.where(both, intercept, np.nan)


def _log_odds(probability: np.ndarray) -> np.ndarray:
    ends = SMALLEST, 1 - SMALLEST
    odds: np.ndarray = np.log(np.clip(probability, *ends)) - np.log(np.clip(1 - probability, *ends))
    return odds


def _judged(system: SystemPredictions) -> tuple[np.ndarray, np.ndarray]:
    """The probability that is judged and whether the predicted event occurred, [R, N] both."""
    probability = system.probabilities
    if probability.shape[-1] == 2:
        return probability[..., 1], np.broadcast_to(system.label == 1, probability.shape[:2])
    return probability.max(axis=-1), probability.argmax(axis=-1) == system.label


def _squares(system: SystemPredictions) -> np.ndarray:
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
