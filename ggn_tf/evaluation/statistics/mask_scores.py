"""Scores of predicted masks beside the mean Dice."""

from collections.abc import Callable, Iterator

import numpy as np

from ggn_tf.evaluation.statistics.bootstrap import Resampling
from ggn_tf.evaluation.statistics.mask_measures import (
    HD95,
    PREDICTED_VOLUME,
    REFERENCE_VOLUME,
    SURFACE_DICE,
    SURFACE_DISTANCE,
)
from ggn_tf.evaluation.statistics.repeats import repeated_score
from ggn_tf.evaluation.statistics.score_records import RepeatedScore
from ggn_tf.evaluation.statistics.scores import gives_dice
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions

LOW_DICE = 0.5
# Limits of agreement contain 95 % of normal differences.
_REACH = 1.96


def score_masks(system: SystemPredictions, resampling: Resampling) -> Iterator[RepeatedScore]:
    """Score the masks of one system; nothing without masks.

    - `low_dice`: share of nodules with a Dice below 0.5.
    - `empty_mask`: share of nodules without any predicted voxel, which have no distances.
    - `hd95_mm`, `surface_distance_mm`, `surface_dice_1mm`: means over the nodules that have them (`measure_masks`).
    - `volume_bias_mm3`, `volume_low_mm3`, `volume_high_mm3`: mean difference of predicted and reference volume and its
      95 % limits of agreement (Bland and Altman 1986).

    A table of an older version, without the masks' measurements, has the first alone.
    """
    if not gives_dice(system.rows):
        return
    weights, patients = resampling.weights, resampling.patients
    low = _column(system, "dice") < LOW_DICE
    yield _scored(system, "low_dice", [_mean(values, weights) for values in low], resampling, patients)
    predicted, reference = _column(system, PREDICTED_VOLUME), _column(system, REFERENCE_VOLUME)
    if np.isnan(predicted).any() or np.isnan(reference).any():
        return
    yield _scored(system, "empty_mask", [_mean(values == 0, weights) for values in predicted], resampling, patients)
    for name in (HD95, SURFACE_DISTANCE, SURFACE_DICE):
        yield _scored(system, name, [_mean(values, weights) for values in _column(system, name)], resampling)
    agreement: tuple[tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]], ...] = (
        ("volume_bias_mm3", lambda mean, spread: mean),
        ("volume_low_mm3", lambda mean, spread: mean - _REACH * spread),
        ("volume_high_mm3", lambda mean, spread: mean + _REACH * spread),
    )
    moments = [_moments(difference, weights) for difference in predicted - reference]
    for name, limit in agreement:
        yield _scored(system, name, [limit(*both) for both in moments], resampling)


def _column(system: SystemPredictions, name: str) -> np.ndarray:
    """A column of every repeat [R, N]; NaN where the table lacks it."""
    return np.array([rows.get(name, np.full(len(rows), np.nan)) for rows in system.repeats.values()], np.float64)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean [B] of the values that exist."""
    exists = ~np.isnan(values)
    total, counted = weights @ np.where(exists, values, 0.0), weights @ exists
    return np.divide(total, counted, out=np.full(len(weights), np.nan), where=counted > 0)


def _moments(difference: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of a sample, [B] both."""
    count, mean = weights.sum(axis=1), _mean(difference, weights)
    squares = weights @ difference**2 - count * mean**2
    return mean, np.sqrt(np.maximum(squares, 0.0) / np.maximum(count - 1, 1))


def _scored(
    system: SystemPredictions,
    metric: str,
    resampled: list[np.ndarray],
    resampling: Resampling,
    proportion_of: int | None = None,
) -> RepeatedScore:
    by_repeat = np.array(resampled)
    mean = by_repeat.mean(axis=0)
    values = None if np.isnan(mean[0]) else by_repeat[:, 0]
    reason = "every predicted mask is empty" if values is None else None
    return repeated_score(system, metric, values, mean, resampling, reason, proportion_of=proportion_of)
