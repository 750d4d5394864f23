"""The ROC curve of a system, averaged over repeats, with its patient-bootstrap band."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from ggn_tf.evaluation.statistics.bootstrap import LEVEL, resample, resampled_auc
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.scores import class_indices

GRID_POINTS = 101


class RocCurve(NamedTuple):
    """Sensitivity over false positive rate.

    Attributes:
        false_positive_rate: [P], from 0 to 1.
        sensitivity: [P], the mean of the repeats.
        low, high: [P], pointwise percentile interval.
        auc: Area under the curve, the mean of the repeats; None where only one class occurs.
        interval: Interval of the area, as in the scores.
    """

    false_positive_rate: np.ndarray
    sensitivity: np.ndarray
    low: np.ndarray
    high: np.ndarray
    auc: float | None
    interval: tuple[float, float] | None


def roc_curve_with_band(rows: pd.DataFrame, replicates: int, seed: int) -> RocCurve:
    """The curve of the second class against the first.

    Sensitivities are averaged at equal false positive rates (vertical averaging, Fawcett 2006), so that the area under
    the mean curve is the mean of the areas. A replicate draws patients once for all repeats.

    Args:
        rows: One system's predictions on one set, of two classes; one or several repeats of the same cases.
        replicates: Number of bootstrap replicates.
        seed: Seed of the bootstrap.

    Returns:
        The curve on a grid of false positive rates; NaN and None where only one class occurs.
    """
    grid = np.linspace(0, 1, GRID_POINTS)
    repeats = [repeat for _, repeat in rows.sort_values("case", kind="stable").groupby("repeat")]
    resampling = resample(repeats[0]["patient"].to_numpy(dtype=str), replicates, seed)
    curves, areas = [], []
    for repeat in repeats:
        positive, score = class_indices(repeat)[0] == 1, probabilities(repeat)[:, 1]
        curves.append(_curves(positive, score, resampling.weights, grid))
        areas.append(resampled_auc(positive, score, resampling.weights))
    curve, area = np.mean(curves, axis=0), np.mean(areas, axis=0)
    drawn = resampling.drawn(curve)
    drawn = drawn[~np.isnan(drawn[:, 0])]
    # Percentiles: with a correction at every point (BCa) a band of steps would have notches.
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(drawn, tails, axis=0) if len(drawn) else np.full((2, GRID_POINTS), np.nan)
    auc = None if np.isnan(area[0]) else float(area[0])
    return RocCurve(grid, curve[0], low, high, auc, resampling.interval(area))


def _curves(positive: np.ndarray, score: np.ndarray, weights: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Sensitivities [B, P] at the grid's false positive rates; NaN where a replicate drew one class only."""
    order = np.argsort(-score, kind="stable")
    # Nodules with equal scores pass the threshold together, so the curve crosses a tie in a straight line.
    ends = np.flatnonzero(np.diff(score[order], append=-np.inf))
    passed = [np.cumsum(weights[:, order] * chosen[order], axis=1)[:, ends] for chosen in (positive, ~positive)]
    true, false = (np.pad(count, ((0, 0), (1, 0))) for count in passed)
    both = (true[:, -1] > 0) & (false[:, -1] > 0)
    curves = np.full((len(weights), len(grid)), np.nan)
    for row in np.flatnonzero(both):
        curves[row] = np.interp(grid, false[row] / false[row, -1], true[row] / true[row, -1])
    return curves
