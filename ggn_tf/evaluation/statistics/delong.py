"""DeLong's covariance and paired test of AUCs, for nodules that share patients too.

DeLong, DeLong and Clarke-Pearson (Biometrics 1988, 44:837) assume independent nodules. Nodules of one patient are not
independent, and the variance would be too small; Obuchowski (Biometrics 1997, 53:567) first sums each patient's
components. With one nodule per patient the two are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata

from ggn_tf.evaluation.statistics.bootstrap import LEVEL

DELONG, OBUCHOWSKI = "DeLong", "Obuchowski"


@dataclass(frozen=True)
class AucDifference:
    """The difference of two AUCs and its sampling error over patients.

    Attributes:
        value: Difference of the AUCs, or of their means over repeats.
        standard_error: None where fewer than two patients have a class.
        low, high: Wald interval, limited to [-1, 1]; None without a positive standard error. For a difference it covers
            well with few patients too (docs/statistics.md).
        p: Two-sided, against 0; 1 where the AUCs are equal.
        method: `DeLong` where every patient has one nodule, else `Obuchowski`.
    """

    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    p: float | None
    method: str


def auc_difference(
    positive: np.ndarray, score_a: np.ndarray, score_b: np.ndarray, patients: np.ndarray | None = None
) -> AucDifference:
    """Paired test of AUC of A minus AUC of B on the same nodules.

    Args:
        positive: bool [N].
        score_a: [N], or [R, N] of R repeats, whose AUCs are averaged; higher means positive.
        score_b: [N], or [Q, N]; the number of repeats may differ.
        patients: Patient of every nodule [N]; None where each has one nodule.

    Raises:
        ValueError: There is only one class.
    """
    auc, covariance = auc_covariance(positive, [score_a, score_b], patients)
    contrast = np.array([1.0, -1.0])
    return _tested(float(contrast @ auc), float(contrast @ covariance @ contrast), _method(patients))


def auc_covariance(
    positive: np.ndarray, scores: Sequence[np.ndarray], patients: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """AUCs of several systems on the same nodules, and their covariance.

    Args:
        positive: bool [N].
        scores: For each of S systems [N], or [R, N] of R repeats, whose AUCs are averaged. The components of the
            covariance are linear, so they are averaged as well.
        patients: Patient of every nodule [N]; None where each has one nodule.

    Returns:
        AUC [S] and covariance [S, S]; NaN where fewer than two patients have a class.

    Raises:
        ValueError: There is only one class.
    """
    parts = [_components(positive, np.atleast_2d(score)) for score in scores]
    auc, of_positives, of_negatives = (np.stack([part[i].mean(axis=0) for part in parts]) for i in range(3))
    return auc, _covariance(auc, of_positives, of_negatives, positive, patients)


def _components(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AUCs [S], share of negatives below each positive [S, M], and of positives above each negative [S, N].

    Computed by midranks (Sun and Xu, IEEE Signal Processing Letters 2014, 21:1389).
    """
    positive = np.asarray(positive, bool)
    above, below = scores[:, positive], scores[:, ~positive]
    m, n = above.shape[1], below.shape[1]
    if m == 0 or n == 0:
        raise ValueError("an AUC needs nodules of both classes")
    rank = rankdata(scores, axis=1)
    of_positives = (rank[:, positive] - rankdata(above, axis=1)) / n
    of_negatives = 1 - (rank[:, ~positive] - rankdata(below, axis=1)) / m
    return of_positives.mean(axis=1), of_positives, of_negatives


def _covariance(
    auc: np.ndarray,
    of_positives: np.ndarray,
    of_negatives: np.ndarray,
    positive: np.ndarray,
    patients: np.ndarray | None,
) -> np.ndarray:
    """Obuchowski's S10, S01 and S11; with one nodule per patient the first two are DeLong's and S11 is zero."""
    positive = np.asarray(positive, bool)
    identity = np.arange(positive.size) if patients is None else np.unique(patients, return_inverse=True)[1]
    count = int(identity.max()) + 1
    tens = _sum_by_patient(of_positives - auc[:, np.newaxis], identity[positive], count)
    ones = _sum_by_patient(of_negatives - auc[:, np.newaxis], identity[~positive], count)
    m, n = of_positives.shape[1], of_negatives.shape[1]
    cross = tens @ ones.T
    return np.asarray(
        _unbias(len(np.unique(identity[positive]))) * (tens @ tens.T) / m**2
        + _unbias(len(np.unique(identity[~positive]))) * (ones @ ones.T) / n**2
        + _unbias(count) * (cross + cross.T) / (m * n)
    )


def _sum_by_patient(deviations: np.ndarray, identity: np.ndarray, count: int) -> np.ndarray:
    sums = np.zeros((count, len(deviations)))
    np.add.at(sums, identity, deviations.T)
    return sums.T


def _unbias(patients: int) -> float:
    return patients / (patients - 1) if patients > 1 else np.nan


def _method(patients: np.ndarray | None) -> str:
    return DELONG if patients is None or len(np.unique(patients)) == len(patients) else OBUCHOWSKI


def _tested(value: float, variance: float, method: str) -> AucDifference:
    error = float(np.sqrt(max(variance, 0.0))) if np.isfinite(variance) else None
    # Rounding leaves a variance of about 1e-18 for equal scores.
    if error is None or error < 1e-8:
        return AucDifference(value, error, None, None, 1.0 if abs(value) < 1e-12 else None, method)
    reach = float(norm.ppf((1 + LEVEL) / 2)) * error
    p = float(2 * norm.sf(abs(value) / error))
    return AucDifference(value, error, max(value - reach, -1.0), min(value + reach, 1.0), p, method)
