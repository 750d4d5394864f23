"""Scores beside the paper's: of two classes at an operating point, of single classes, and of probabilities.

Each is the mean over a system's trainings, with the interval of the patient bootstrap. A share of nodules, such as the
sensitivity, needs five patients who have one of the nodules that it counts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ggn_tf.evaluation.statistics.bootstrap import (
    LEAST_IN_CLASS,
    Resampling,
    resample,
    resampled_average_precision,
)
from ggn_tf.evaluation.statistics.calibration import score_calibration
from ggn_tf.evaluation.statistics.curves import net_benefit
from ggn_tf.evaluation.statistics.mask_measures import (
    HD95,
    PREDICTED_VOLUME,
    REFERENCE_VOLUME,
    SURFACE_DICE,
    SURFACE_DISTANCE,
)
from ggn_tf.evaluation.statistics.predictions_table import probabilities, table_classes
from ggn_tf.evaluation.statistics.repeats import repeated_score
from ggn_tf.evaluation.statistics.score_records import RepeatedScore
from ggn_tf.evaluation.statistics.scores import (
    REPLICATES,
    SCORED_SETS,
    few_in_class,
    gives_dice,
    gives_probabilities,
)
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions, split_by_system

OPERATING, BY_CLASS = ("sensitivity", "specificity", "ppv", "npv"), ("precision", "recall", "f1")
NET_BENEFIT_THRESHOLDS = (0.1, 0.2, 0.3, 0.5)
LOW_DICE = 0.5
# Limits of agreement contain 95 % of normal differences.
_REACH = 1.96


def score_further(
    frame: pd.DataFrame,
    sensitivity: float | None = None,
    set_names: Sequence[str] = SCORED_SETS,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> list[RepeatedScore]:
    """Score every system on every set.

    With a `sensitivity`, for two classes, scores at an operating point of at least it are added, which is chosen on
    each training's validation set.

    Returns:
        In the order of `split_by_system`: `sensitivity`, `specificity`, `ppv` and `npv` of the second class of two,
        where the most probable class counts and then at the operating point; `precision`, `recall` and `f1` of every
        class; `balanced_accuracy`; `average_precision` (AUPRC, of more than two classes their mean); `net_benefit` at
        some thresholds; the scores of `score_calibration`; and of `score_masks`.

    Raises:
        PredictionsError: As `split_by_system`.
    """
    scores = []
    for system in split_by_system(frame, set_names):
        resampling = resample(system.patients, replicates, seed)
        if gives_probabilities(system.rows):
            thresholds = None if sensitivity is None else operating_thresholds(frame, system, sensitivity)
            scores += [*_classification(system, resampling, thresholds), *score_calibration(system, resampling, seed)]
        scores += score_masks(system, resampling)
    return scores


def operating_thresholds(frame: pd.DataFrame, system: SystemPredictions, sensitivity: float) -> np.ndarray | None:
    """The thresholds [R] of a system's trainings on the probability of the second class.

    Returns:
        The highest with which at least this share of the validation set's nodules of the second class is found; None
        for more than two classes, and where validation nodules of the class are of fewer than five patients.
    """
    mine = (frame["model"] == system.system.model) & (frame["stage"] == system.system.stage)
    rows = frame[mine & (frame["split"] == system.split) & (frame["set"] == "validation")]
    classes, thresholds = table_classes(frame), []
    for repeat in system.repeats:
        positive = rows[(rows["repeat"] == repeat) & (rows["label"] == classes[1])]
        if len(classes) != 2 or positive["patient"].nunique() < LEAST_IN_CLASS:
            return None
        descending = np.sort(probabilities(positive)[:, 1])[::-1]
        # Of 20 nodules 0.95 are 19; the product in floating point may be just above.
        needed = max(1, int(np.ceil(sensitivity * len(descending) - 1e-9)))
        thresholds.append(descending[needed - 1])
    return np.array(thresholds)


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
    yield _scored_mask(system, "low_dice", [_mean(values, weights) for values in low], resampling, patients)
    predicted, reference = _column(system, PREDICTED_VOLUME), _column(system, REFERENCE_VOLUME)
    if np.isnan(predicted).any() or np.isnan(reference).any():
        return
    empty = [_mean(values == 0, weights) for values in predicted]
    yield _scored_mask(system, "empty_mask", empty, resampling, patients)
    for name in (HD95, SURFACE_DISTANCE, SURFACE_DICE):
        yield _scored_mask(system, name, [_mean(values, weights) for values in _column(system, name)], resampling)
    agreement: tuple[tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]], ...] = (
        ("volume_bias_mm3", lambda mean, spread: mean),
        ("volume_low_mm3", lambda mean, spread: mean - _REACH * spread),
        ("volume_high_mm3", lambda mean, spread: mean + _REACH * spread),
    )
    moments = [_moments(difference, weights) for difference in predicted - reference]
    for name, limit in agreement:
        yield _scored_mask(system, name, [limit(*both) for both in moments], resampling)


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


def _scored_mask(
    system: SystemPredictions,
    metric: str,
    resampled: list[np.ndarray],
    resampling: Resampling,
    proportion_of: int | None = None,
) -> RepeatedScore:
    empty = "every predicted mask is empty"
    return _scored(system, metric, np.array(resampled), resampling, None, proportion_of, undefined=empty)


@dataclass(frozen=True)
class _Share:
    """A share of nodules: what is counted and in what, numbers per repeat and nodule [R, N]."""

    metric: str
    part: np.ndarray
    whole: np.ndarray
    class_name: str = ""
    threshold: float | None = None
    proportion: bool = True


def _classification(
    system: SystemPredictions, resampling: Resampling, thresholds: np.ndarray | None
) -> Iterator[RepeatedScore]:
    classes, probability = table_classes(system.rows), system.probabilities
    truth, predicted = np.eye(len(classes), dtype=bool)[system.label], probability.argmax(axis=2)
    if len(classes) == 2:
        for share in _operating(truth[:, 1], predicted == 1, classes[1], None):
            yield _scored_share(system, share, resampling)
    if thresholds is not None:
        found = probability[..., 1] >= thresholds[:, np.newaxis]
        for share in _operating(truth[:, 1], found, classes[1], float(thresholds.mean())):
            yield _scored_share(system, share, resampling)
    recalls = []
    for index, name in enumerate(classes):
        for share in _by_class(truth[:, index], predicted == index, name):
            yield _scored_share(system, share, resampling)
            if share.metric == "recall":
                recalls.append(_resampled_share(share, resampling))
    few = few_in_class(system.rows)
    yield _scored(system, "balanced_accuracy", np.mean(recalls, axis=0), resampling, few)
    yield _scored(system, "average_precision", _average_precision(truth, probability, resampling), resampling, few)
    if len(classes) == 2:
        worth = net_benefit(truth[:, 1], probability[..., 1], np.array(NET_BENEFIT_THRESHOLDS))
        for index, threshold in enumerate(NET_BENEFIT_THRESHOLDS):
            means = worth[..., index] @ resampling.weights.T / resampling.weights.sum(axis=1)
            yield replace(_scored(system, "net_benefit", means, resampling, few), threshold=threshold)


def _operating(truth: np.ndarray, found: np.ndarray, class_name: str, threshold: float | None) -> Iterator[_Share]:
    positive, negative = np.broadcast_to(truth, found.shape), np.broadcast_to(~truth, found.shape)
    right, rejected = found & positive, ~found & negative
    wholes = (positive, negative, found, ~found)
    for metric, part, whole in zip(OPERATING, (right, rejected, right, rejected), wholes, strict=True):
        yield _Share(metric, part, whole, class_name, threshold)


def _by_class(truth: np.ndarray, found: np.ndarray, class_name: str) -> Iterator[_Share]:
    positive = np.broadcast_to(truth, found.shape)
    right = found & positive
    yield _Share("precision", right, found, class_name)
    yield _Share("recall", right, positive, class_name)
    yield _Share("f1", 2.0 * right, positive.astype(float) + found, class_name, proportion=False)


def _resampled_share(share: _Share, resampling: Resampling) -> np.ndarray:
    """The share on resampled nodules [R, 1 + B + P]; NaN where nothing is counted."""
    part, whole = (numbers @ resampling.weights.T for numbers in (share.part, share.whole))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _average_precision(truth: np.ndarray, probability: np.ndarray, resampling: Resampling) -> np.ndarray:
    """Of the second class of two, else the mean over the classes [R, 1 + B + P]."""
    judged = [1] if truth.shape[1] == 2 else range(truth.shape[1])
    by_class = [
        [resampled_average_precision(truth[:, index], scores[:, index], resampling.weights) for scores in probability]
        for index in judged
    ]
    mean: np.ndarray = np.mean(by_class, axis=0)
    return mean


def _scored_share(system: SystemPredictions, share: _Share, resampling: Resampling) -> RepeatedScore:
    counted = min(len(np.unique(system.patients[whole > 0])) for whole in share.whole)
    few = f"it counts nodules of {counted} patients, fewer than {LEAST_IN_CLASS}" if counted < LEAST_IN_CLASS else None
    resampled, of = _resampled_share(share, resampling), counted if share.proportion else None
    score = _scored(system, share.metric, resampled, resampling, few, proportion_of=of)
    return replace(score, class_name=share.class_name, threshold=share.threshold)


def _scored(
    system: SystemPredictions,
    metric: str,
    resampled: np.ndarray,
    resampling: Resampling,
    few: str | None,
    proportion_of: int | None = None,
    undefined: str = "it counts no nodule",
) -> RepeatedScore:
    """A score of every repeat on resampled nodules [R, 1 + B + P], or `few`, the reason why it has no interval."""
    mean = resampled.mean(axis=0)
    if np.isnan(mean[0]):
        return repeated_score(system, metric, None, mean, resampling, undefined)
    return repeated_score(system, metric, resampled[:, 0], mean, resampling, few, proportion_of=proportion_of)
