"""The patient bootstrap: how much a score would move with other patients from the same clinic."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

LEVEL = 0.95
_EQUAL = 1e-12
_NO_VALUE, _NO_SPREAD = "no replicate has a value", "every replicate has the same value, so there is no interval"


@dataclass(frozen=True)
class Resampling:
    """The sets of nodules that a score is computed on to learn how much it moves with the patients.

    What is computed on all of them at once, a score, its mean over repeats, the difference of two systems, is an array
    [1 + B + P] in their order: the nodules as they are, B bootstrap replicates, P sets without one patient each.

    Attributes:
        weights: How often each nodule counts, float64 [1 + B + P, N].
        replicates: B.
    """

    weights: np.ndarray
    replicates: int

    @property
    def patients(self) -> int:
        """P."""
        return len(self.weights) - 1 - self.replicates

    def drawn(self, resampled: np.ndarray) -> np.ndarray:
        """The bootstrap's part [B] of what was computed on all sets."""
        part: np.ndarray = resampled[1 : 1 + self.replicates]
        return part

    def interval(self, resampled: np.ndarray, level: float = LEVEL) -> tuple[float, float] | None:
        """The bias-corrected and accelerated interval of a score (Efron 1987), its levels widened for few patients.

        BCa takes its skewness from the sets without a patient. Percentiles alone cover too seldom near 1, where AUC and
        accuracy live; without the widening (Hesterberg, The American Statistician 2015, 69:371) all of them do below 50
        patients.

        Args:
            resampled: [1 + B + P]; NaN where the score is undefined, which leaves the set out.
            level: Of the interval.

        Returns:
            Lower and upper end; None where the score itself or every replicate is undefined, and where all replicates
            are equal: of 20 right answers in 20, or of one patient, resampling learns nothing.
        """
        drawn = self._defined(resampled)
        if drawn is None or np.ptp(drawn) < _EQUAL:
            return None
        bias, acceleration = norm.ppf(_share_below(drawn, resampled[0])), self._acceleration(resampled)
        reach = _reach((1 - level) / 2, self.patients)
        deviate = bias + np.array([-reach, reach])
        # With three patients the widened levels can lie beyond the skewness's pole: there stands the last replicate.
        low, high = np.quantile(drawn, norm.cdf(bias + deviate / np.maximum(1 - acceleration * deviate, 1e-9)))
        return float(low), float(high)

    def without_interval(self, resampled: np.ndarray) -> str:
        """Why `interval` gave None for a score that is defined."""
        return _NO_VALUE if self._defined(resampled) is None else _NO_SPREAD

    def difference_interval(self, resampled: np.ndarray, level: float = LEVEL) -> tuple[float, float] | None:
        """The percentile interval of a difference, its levels widened for few patients.

        A difference of two scores is hardly skewed, and estimating its skewness only adds noise: in simulation BCa
        excluded a true zero in 6 to 12 % of studies of 25 patients, percentiles in 4 to 7 %.

        Args:
            resampled: As in `interval`.
            level: Of the interval.
        """
        drawn = self._defined(resampled)
        return None if drawn is None else percentile_interval(drawn, self.patients, level)

    def p_value(self, resampled: np.ndarray) -> float | None:
        """The two-sided p of a difference: below 1 - level where `difference_interval` excludes 0.

        Args:
            resampled: As in `interval`.

        Returns:
            At least about 1 / B; None where there is no interval.
        """
        drawn = self._defined(resampled)
        if drawn is None:
            return None
        share = _share_below(drawn, 0.0)
        return 2 * self._tail(float(norm.isf(min(share, 1 - share))))

    def _defined(self, resampled: np.ndarray) -> np.ndarray | None:
        drawn = self.drawn(resampled)
        drawn = drawn[~np.isnan(drawn)]
        return None if np.isnan(resampled[0]) or drawn.size == 0 else drawn

    def _acceleration(self, resampled: np.ndarray) -> float:
        without = resampled[1 + self.replicates :]
        without = without[~np.isnan(without)]
        if without.size == 0:
            return 0.0
        deviation = without.mean() - without
        spread = float((deviation**2).sum()) ** 1.5
        return float((deviation**3).sum()) / (6 * spread) if spread > 0 else 0.0

    def _tail(self, deviate: float) -> float:
        freedom = self.patients - 1
        if freedom < 1:
            return float(norm.sf(deviate))
        return float(t.sf(deviate / np.sqrt(1 + 1 / freedom), freedom))


def resample(patients: np.ndarray, replicates: int, seed: int) -> Resampling:
    """Prepare the sets of nodules for every score of these nodules.

    Args:
        patients: The patient of every nodule [N].
        replicates: How many bootstrap sets, B.
        seed: Of the draw.
    """
    identity = np.unique(patients)
    without = (identity[:, np.newaxis] != patients).astype(np.float64)
    if len(identity) == 1:
        # Without its one patient a set is empty.
        without = np.ones_like(without)
    whole = np.ones((1, len(patients)))
    return Resampling(np.concatenate([whole, draw_weights(patients, replicates, seed), without]), replicates)


def percentile_interval(drawn: np.ndarray, patients: int, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval, its levels widened for few patients (Hesterberg 2015).

    Args:
        drawn: A score or difference on every replicate that has one [B].
        patients: How many were drawn from; of two groups drawn apart the fewer.
        level: Of the interval.
    """
    reach = _reach((1 - level) / 2, patients)
    low, high = np.quantile(drawn, norm.cdf([-reach, reach]))
    return float(low), float(high)


def _reach(tail: float, patients: int) -> float:
    """The normal deviate beyond which a tail lies, by Student's t for so many patients."""
    freedom = patients - 1
    if freedom < 1:
        return float(norm.isf(tail))
    return float(np.sqrt(1 + 1 / freedom) * t.isf(tail, freedom))


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


def _share_below(drawn: np.ndarray, value: float) -> float:
    """The share of replicates below a value, ties counting half, never quite 0 or 1."""
    share = (np.mean(drawn < value - _EQUAL) + np.mean(drawn <= value + _EQUAL)) / 2
    return float(np.clip(share, 0.5 / drawn.size, 1 - 0.5 / drawn.size))


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
