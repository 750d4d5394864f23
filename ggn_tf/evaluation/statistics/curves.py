"""ROC curve and decision curve of a system, averaged over its repeats, with patient-bootstrap bands.

The decision curve is the net benefit of acting on a probability, at every threshold (Vickers and Elkin 2006): the share
of true positives minus the share of false positives times t / (1 - t) at threshold t. A system is useful where its net
benefit exceeds those of acting on every nodule and of acting on none.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ggn_tf.evaluation.statistics.bootstrap import (
    LEAST_PATIENTS,
    LEVEL,
    Resampling,
    resample,
    resampled_auc,
    resampled_mean,
)
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.scores import class_indices, few_patients_reasons
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions

GRID_POINTS = 101


class RocCurve(NamedTuple):
    """Mean sensitivity over false positive rate [P] with its percentile interval; the area is as in the scores."""

    false_positive_rate: np.ndarray
    sensitivity: np.ndarray
    low: np.ndarray
    high: np.ndarray
    auc: float | None
    interval: tuple[float, float] | None


def roc_curve_with_band(rows: pd.DataFrame, replicates: int, seed: int) -> RocCurve:
    """The curve of the second class against the first; NaN and None where only one class occurs.

    Sensitivities are averaged at equal false positive rates (vertical averaging, Fawcett 2006), so that the area under
    the mean curve is the mean of the areas. A replicate draws patients once for all repeats.
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
    interval = None if few_patients_reasons(repeats[0], ["auc"]) else resampling.interval(area)
    low, high = np.quantile(drawn, tails, axis=0) if interval else np.full((2, GRID_POINTS), np.nan)
    auc = None if np.isnan(area[0]) else float(area[0])
    return RocCurve(grid, curve[0], low, high, auc, interval)


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


THRESHOLDS = tuple(np.linspace(0.01, 0.99, 99).round(2).tolist())


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit over thresholds [T], in true positives per nodule: the mean over repeats, and of treating all.

    A threshold is the lowest probability of the second class on which one acts. The pointwise interval of the patient
    bootstrap at 95 % is of zero width where no nodule reaches the threshold, and NaN with too few patients.
    """

    thresholds: np.ndarray
    net_benefit: np.ndarray
    low: np.ndarray
    high: np.ndarray
    treat_all: np.ndarray


def net_benefit(positive: np.ndarray, probability: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Contribution of each nodule to the net benefit at thresholds [T] in (0, 1), which is their mean.

    Takes bool [N] and probabilities of the second class [..., N]. Returns [..., N, T]: 1 for a true positive, -t / (1 -
    t) for a false one, else 0.
    """
    acted = probability[..., np.newaxis] >= thresholds
    worth: np.ndarray = np.where(positive[:, np.newaxis], 1.0, -thresholds / (1 - thresholds))
    return acted * worth


def decision_curve(
    predictions: SystemPredictions, resampling: Resampling, thresholds: tuple[float, ...] = THRESHOLDS
) -> DecisionCurve | None:
    """The decision curve of a system that classifies; None for more than two classes."""
    probability = predictions.probabilities
    if probability.shape[-1] != 2:
        return None
    at, positive = np.array(thresholds), predictions.label == 1
    parts = net_benefit(positive, probability[..., 1], at).mean(axis=0)
    benefit = np.stack([resampled_mean(part, resampling.weights) for part in parts.T])
    enough = resampling.patients >= LEAST_PATIENTS
    none = [(values[0], values[0]) if enough else (np.nan, np.nan) for values in benefit]
    intervals = np.array(
        [resampling.interval(values) or nothing for values, nothing in zip(benefit, none, strict=True)]
    )
    treat_all = net_benefit(positive, np.ones(len(positive)), at).mean(axis=0)
    return DecisionCurve(at, benefit[:, 0], intervals[:, 0], intervals[:, 1], treat_all)
