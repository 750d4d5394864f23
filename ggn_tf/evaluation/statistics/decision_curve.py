"""Decision curve: what acting on a probability is worth at every threshold (Vickers and Elkin 2006).

A surgeon who operates from a probability t on takes one invasive nodule for as many needless operations as t allows:
the net benefit is the share of true positives less the share of false ones times t / (1 - t). A system is of use where
it beats operating on all and on none.
"""

from dataclasses import dataclass

import numpy as np

from ggn_tf.evaluation.statistics.bootstrap import Resampling, resampled_mean
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions

THRESHOLDS = tuple(np.linspace(0.01, 0.99, 99).round(2).tolist())


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit over thresholds, in true positives a nodule.

    Attributes:
        thresholds: Probabilities of the second class from which on one acts [T].
        net_benefit: Of the system, its mean over repeats [T].
        low, high: The patient bootstrap's interval at 95 %, at each threshold by itself [T]; of no width where
            nobody is acted on.
        treat_all: Of acting on every nodule [T]; of acting on none it is 0.
    """

    thresholds: np.ndarray
    net_benefit: np.ndarray
    low: np.ndarray
    high: np.ndarray
    treat_all: np.ndarray


def net_benefit(positive: np.ndarray, chance: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Each nodule's part in the net benefit, whose mean it is.

    Args:
        positive: bool [N].
        chance: Probability of the second class [..., N].
        thresholds: In (0, 1) [T].

    Returns:
        [..., N, T]: 1 for a true positive, -t / (1 - t) for a false one, else 0.
    """
    acted = chance[..., np.newaxis] >= thresholds
    worth: np.ndarray = np.where(positive[:, np.newaxis], 1.0, -thresholds / (1 - thresholds))
    return acted * worth


def decision_curve(
    cell: SystemPredictions, resampling: Resampling, thresholds: tuple[float, ...] = THRESHOLDS
) -> DecisionCurve | None:
    """The decision curve of a system.

    Args:
        cell: Of a system that classifies.
        resampling: Of its patients.
        thresholds: In (0, 1).

    Returns:
        None for more than two classes, of which none is the positive one.
    """
    chance = cell.probabilities
    if chance.shape[-1] != 2:
        return None
    at, positive = np.array(thresholds), cell.label == 1
    parts = net_benefit(positive, chance[..., 1], at).mean(axis=0)
    benefit = np.stack([resampled_mean(part, resampling.weights) for part in parts.T])
    intervals = np.array([resampling.interval(one) or (one[0], one[0]) for one in benefit])
    treat_all = net_benefit(positive, np.ones(len(positive)), at).mean(axis=0)
    return DecisionCurve(at, benefit[:, 0], intervals[:, 0], intervals[:, 1], treat_all)
