"""The patient bootstrap: how much a score would move with other patients from the same clinic."""

import numpy as np

LEVEL = 0.95


def draw_weights(patients: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """Draw patients with replacement; a nodule counts as often as its patient was drawn.

    Nodules of one patient are alike, so the patient is the unit: resampling nodules would give intervals that are too
    narrow. The draw depends on the patients and the seed alone: scores of one set share it and can be compared.

    Args:
        patients: The patient of every nodule [N].
        replicates: How many sets to draw, B.
        seed: Of the draw.

    Returns:
        float64 [B, N].
    """
    identity, of_nodule = np.unique(patients, return_inverse=True)
    drawn = np.random.default_rng(seed).integers(0, len(identity), (replicates, len(identity)))
    # One bincount over all replicates: each has a range of numbers of its own.
    offset = np.arange(replicates)[:, np.newaxis] * len(identity)
    times = np.bincount((drawn + offset).ravel(), minlength=replicates * len(identity))
    return times.reshape(replicates, len(identity))[:, of_nodule].astype(np.float64)


def percentile_interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float] | None:
    """The percentile interval of a score's replicates.

    Args:
        values: The score in every replicate [B]; NaN where it is undefined, which leaves the replicate out.
        level: Share of the replicates inside.

    Returns:
        Lower and upper end; None where no replicate has a value.
    """
    defined = values[~np.isnan(values)]
    if defined.size == 0:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled_confusion(label: np.ndarray, predicted: np.ndarray, classes: int, weights: np.ndarray) -> np.ndarray:
    """The confusion matrix of every replicate.

    Args:
        label: Class index [N].
        predicted: Class index [N].
        classes: C.
        weights: [B, N].

    Returns:
        float64 [B, C, C]; element (i, j) counts nodules of class i that were taken for class j.
    """
    cell = np.eye(classes * classes)[label * classes + predicted]
    return (weights @ cell).reshape(-1, classes, classes)


def resampled_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Accuracy [B] of confusion matrices [B, C, C]."""
    return np.trace(confusion, axis1=1, axis2=2) / confusion.sum(axis=(1, 2))


def resampled_average_f1(confusion: np.ndarray) -> np.ndarray:
    """Support-weighted F1 [B] of confusion matrices [B, C, C]: each class's F1, weighted by its number of nodules."""
    support, taken = confusion.sum(axis=2), confusion.sum(axis=1)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    f1 = 2 * hits / np.maximum(support + taken, 1)
    return (f1 * support).sum(axis=1) / support.sum(axis=1)


def resampled_mcc(confusion: np.ndarray) -> np.ndarray:
    """R_K, the multi-class Matthews coefficient (Gorodkin 2004), [B] of confusion matrices [B, C, C].

    NaN where every nodule has one class. Where every nodule was taken for one class it is 0, as scikit-learn has it:
    such a classifier knows nothing, and leaving its replicates out would flatter it.
    """
    support, taken = confusion.sum(axis=2), confusion.sum(axis=1)
    total = support.sum(axis=1)
    covariance = np.trace(confusion, axis1=1, axis2=2) * total - (support * taken).sum(axis=1)
    label_variance = total**2 - (support**2).sum(axis=1)
    predicted_variance = total**2 - (taken**2).sum(axis=1)
    product = label_variance * predicted_variance
    mcc = np.divide(covariance, np.sqrt(product), out=np.zeros_like(total), where=product > 0)
    return np.where(label_variance > 0, mcc, np.nan)


def resampled_auc(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, a tie counting half.

    Args:
        positive: bool [N].
        score: [N]; higher means positive.
        weights: [B, N].

    Returns:
        float64 [B]; NaN where a replicate drew one class only.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    in_order = weights[:, order]
    positives = np.add.reduceat(in_order * positive[order], starts, axis=1)
    negatives = np.add.reduceat(in_order * ~positive[order], starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    right = (positives * (below + negatives / 2)).sum(axis=1)
    return np.divide(right, pairs, out=np.full_like(pairs, np.nan), where=pairs > 0)


def resampled_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean [B] of values [N]."""
    mean: np.ndarray = weights @ values / weights.sum(axis=1)
    return mean
