"""Decision curve: the net benefit of acting on a probability, at every threshold (Vickers and Elkin 2006).

The net benefit at threshold t is the share of true positives minus the share of false positives times t / (1 - t). A
system is useful where its net benefit exceeds those of acting on every nodule and of acting on none.
"""

from dataclasses import dataclass

import numpy as np

from ggn_tf.evaluation.statistics.bootstrap import Resampling, resampled_mean
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions

THRESHOLDS = tuple(np.linspace(0.01, 0.99, 99).round(2).tolist())


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit over thresholds, in true positives per nodule.

    Attributes:
        thresholds: Lowest probabilities of the second class on which one acts [T].
        net_benefit: The system's, as the mean over repeats [T].
        low, high: Pointwise interval of the patient bootstrap at 95 % [T]; of zero width where no nodule reaches the
            threshold.
        treat_all: Net benefit of acting on every nodule [T]; that of acting on none is 0.
    """

    thresholds: np.ndarray
    net_benefit: np.ndarray
    low: np.ndarray
    high: np.ndarray
    treat_all: np.ndarray


def net_benefit(positive: np.ndarray, probability: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Contribution of each nodule to the net benefit, which is their mean.

    Args:
        positive: bool [N].
        probability: Probability of the second class [..., N].
        thresholds: In (0, 1) [T].

    Returns:
        [..., N, T]: 1 for a true positive, -t / (1 - t) for a false one, else 0.
    """
    acted = probability[..., np.newaxis] >= thresholds
    worth: np.ndarray = np.where(positive[:, np.newaxis], 1.0, -thresholds / (1 - thresholds))
    return acted * worth


def decision_curve(
    predictions: SystemPredictions, resampling: Resampling, thresholds: tuple[float, ...] = THRESHOLDS
) -> DecisionCurve | None:
    """The decision curve of a system.

    Args:
        predictions: Predictions of a system that classifies.
        resampling: Resampling of its patients.
        thresholds: In (0, 1).

    Returns:
        None for more than two classes.
    """
    probability = predictions.probabilities
    if probability.shape[-1] != 2:
        return None
    at, positive = np.array(thresholds), predictions.label == 1
    parts = net_benefit(positive, probability[..., 1], at).mean(axis=0)
    benefit = np.stack([resampled_mean(part, resampling.weights) for part in parts.T])
    intervals = np.array([resampling.interval(values) or (values[0], values[0]) for values in benefit])
    treat_all = net_benefit(positive, np.ones(len(positive)), at).mean(axis=0)
    return DecisionCurve(at, benefit[:, 0], intervals[:, 0], intervals[:, 1], treat_all)
