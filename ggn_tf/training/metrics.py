"""Scores of single cases and of a whole set, in NumPy: what selects a stage's weights."""

import numpy as np

from ggn_tf.protocol import MASK_THRESHOLD


def dice_score(reference: np.ndarray, predicted: np.ndarray, threshold: float = MASK_THRESHOLD) -> np.ndarray:
    """Dice of the thresholded mask, one value per case.

    Args:
        reference: Reference mask [N, ...], positive in the nodule.
        predicted: Soft mask [N, ...] in [0, 1].
        threshold: A voxel belongs to the predicted nodule if its value is at least this.

    Returns:
        float64 [N]: 2 |A and B| / (|A| + |B|); 1 if both are empty.
    """
    cases = len(reference)
    truth = np.asarray(reference).reshape(cases, -1) > 0
    found = np.asarray(predicted).reshape(cases, -1) >= threshold
    size = truth.sum(axis=1) + found.sum(axis=1)
    overlap = np.logical_and(truth, found).sum(axis=1)
    return np.where(size == 0, 1.0, 2.0 * overlap / np.maximum(size, 1))


def accuracy_score(label: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of cases whose most probable class is the true one.

    Args:
        label: Class index [N].
        probabilities: [N, C].
    """
    return float(np.mean(np.argmax(probabilities, axis=1) == label))


def cross_entropy(label: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log-probability of the true class (eq. 1), with Keras's clipping at 1e-7."""
    chosen = np.asarray(probabilities, np.float64)[np.arange(len(label)), label]
    return float(np.mean(-np.log(np.clip(chosen, 1e-7, 1.0))))


def dice_loss(reference: np.ndarray, predicted: np.ndarray, epsilon: float = 1e-6) -> np.ndarray:
    """Eq. 2, one value per case: the negative soft Dice, float64 [N]; arguments as in `dice_score`."""
    cases = len(reference)
    truth = np.asarray(reference, np.float64).reshape(cases, -1)
    found = np.asarray(predicted, np.float64).reshape(cases, -1)
    size = (truth**2).sum(axis=1) + (found**2).sum(axis=1)
    return -2.0 * (truth * found).sum(axis=1) / (size + epsilon)
