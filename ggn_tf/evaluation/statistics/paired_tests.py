"""Paired tests of two systems on the same nodules, with the patients as the sampled units.

A system's score is the mean over its trainings, and the first p value tests whether that mean differs over patients,
for the given trainings. A claim about the *method* also depends on the trainings: where a system was trained several
times, a second interval and p value cover patients and trainings. In simulations without a true difference, with
trainings that vary the AUC as much as patients do, the first is below 0.05 in 18 % of studies, the second in 6 %.

Each test is by patient:
- AUC: DeLong's test (Biometrics 1988, 44:837), which assumes independent nodules. Nodules of one patient are not, and
  the variance would be too small; where patients have several, Obuchowski's (Biometrics 1997, 53:567) first sums each
  patient's components. With one nodule per patient the two are equal.
- Accuracy: McNemar's exact test. Under the null hypothesis the systems may be swapped within any patient, all nodules
  and repeats of the patient together; the p value is exact over all swaps. With one nodule per patient and one repeat
  it is the binomial test of the discordant nodules.
- Average F1, MCC, Dice, AUC of more than two classes, and the AUC's mean over folds: the paired patient bootstrap; the
  p value is the level at which its interval ends at zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata, t

from ggn_tf.evaluation.statistics.bootstrap import LEVEL, Resampling
from ggn_tf.evaluation.statistics.predictions_table import FOLD
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions

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
    """Paired test of AUC of A minus AUC of B on the same nodules; arguments as of `auc_covariance`."""
    auc, covariance = auc_covariance(positive, [score_a, score_b], patients)
    contrast = np.array([1.0, -1.0])
    method = DELONG if patients is None or len(np.unique(patients)) == len(patients) else OBUCHOWSKI
    return _tested(float(contrast @ auc), float(contrast @ covariance @ contrast), method)


def auc_covariance(
    positive: np.ndarray, scores: Sequence[np.ndarray], patients: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """AUCs [S] of several systems on the same nodules, and their covariance [S, S].

    Takes bool [N], for each system scores [N], or [R, N] of R repeats, whose AUCs are averaged (the components of the
    covariance are linear, so they are averaged as well), and the patients [N], None where each has one nodule. The
    covariance is NaN where fewer than two patients have a class.

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


def _tested(value: float, variance: float, method: str) -> AucDifference:
    error = float(np.sqrt(max(variance, 0.0))) if np.isfinite(variance) else None
    # Rounding leaves a variance of about 1e-18 for equal scores.
    if error is None or error < 1e-8:
        return AucDifference(value, error, None, None, 1.0 if abs(value) < 1e-12 else None, method)
    reach = float(norm.ppf((1 + LEVEL) / 2)) * error
    p = float(2 * norm.sf(abs(value) / error))
    return AucDifference(value, error, max(value - reach, -1.0), min(value + reach, 1.0), p, method)


LEAST_TRAININGS = 3
"""The fewest trainings from which their variance is estimated: with two, equal methods differed in 11 % of studies."""

BOOTSTRAP, MCNEMAR, MCNEMAR_BY_PATIENT = "paired patient bootstrap", "McNemar, exact", "McNemar, exact, by patient"


class PairedTest(NamedTuple):
    """The result of a test, with fields as in `Comparison`."""

    low: float | None
    high: float | None
    p: float | None
    test: str
    training_error: float | None
    low_retrained: float | None
    high_retrained: float | None
    p_retrained: float | None


def paired_test(
    metric: str,
    a: SystemPredictions,
    b: SystemPredictions,
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    resampled: np.ndarray,
    resampling: Resampling,
) -> PairedTest:
    """Test the difference of one score between two systems on the same nodules.

    Takes the scores of every repeat of A [R] and of B [Q], and the difference of the means over repeats on resampled
    nodules [1 + B + P].
    """
    low, high = resampling.difference_interval(resampled) or (None, None)
    error = float(np.nanstd(resampling.drawn(resampled)))
    if metric == "auc" and a.probabilities.shape[-1] == 2 and FOLD not in a.rows:
        found = auc_difference(a.label == 1, a.probabilities[..., 1], b.probabilities[..., 1], a.patients)
        low, high, p, name = found.low, found.high, found.p, found.method
        error = found.standard_error or error
    elif metric == "accuracy":
        p, name = _mcnemar(a, b)
    else:
        p, name = resampling.p_value(resampled), BOOTSTRAP
    difference = float(scores_a.mean() - scores_b.mean())
    # Repeats with the same numbers are pairs.
    paired = a.repeats.keys() == b.repeats.keys()
    more = over_trainings(difference, error, scores_a, scores_b, paired=paired, patients=resampling.patients)
    return PairedTest(low, high, p, name, *more)


def swap_p_value(differences: np.ndarray) -> float:
    """Exact two-sided p value of a sum of whole numbers, one per patient [P], over all 2^P choices of their signs."""
    sizes = np.abs(differences[differences != 0])
    reach = int(sizes.sum())
    probability = np.zeros(2 * reach + 1)
    probability[reach] = 1.0
    for size in sizes:
        probability = (np.roll(probability, size) + np.roll(probability, -size)) / 2
    sums = np.abs(np.arange(-reach, reach + 1))
    return float(min(1.0, probability[sums >= abs(int(differences.sum()))].sum()))


def _mcnemar(a: SystemPredictions, b: SystemPredictions) -> tuple[float, str]:
    """McNemar's test by patient; unequal numbers of repeats are scaled to their least common multiple."""
    common = int(np.lcm(len(a.repeats), len(b.repeats)))
    right_a, right_b = (
        (system.probabilities.argmax(axis=2) == system.label).sum(axis=0) * (common // len(system.repeats))
        for system in (a, b)
    )
    identity, of_nodule = np.unique(a.patients, return_inverse=True)
    by_patient = np.zeros(len(identity), np.int64)
    np.add.at(by_patient, of_nodule, right_a - right_b)
    plain = len(identity) == len(a.rows) and common == 1
    return swap_p_value(by_patient), MCNEMAR if plain else MCNEMAR_BY_PATIENT


def over_trainings(
    difference: float, error: float, scores_a: np.ndarray, scores_b: np.ndarray, *, paired: bool, patients: int
) -> tuple[float | None, float | None, float | None, float | None]:
    """Interval and p value over patients and trainings, adding the two variances as in Welch's test.

    `error` is the standard error of the difference over patients, for these trainings. Repeats are `paired` where, for
    example, a joint stage starts from the same repeat's classifier.

    Returns:
        Standard error over trainings, lower and upper end, p value; None where neither system has several repeats, or
        one has two, whose variance is too uncertain.
    """
    if any(1 < len(values) < LEAST_TRAININGS for values in (scores_a, scores_b)):
        return None, None, None, None
    terms = [
        (float(values.var(ddof=1)) / len(values), len(values) - 1)
        for values in ([scores_a - scores_b] if paired else [scores_a, scores_b])
        if len(values) > 1
    ]
    if not terms:
        return None, None, None, None
    training = sum(variance for variance, _ in terms)
    total = float(np.sqrt(error**2 + training))
    if total == 0:
        return 0.0, None, None, 1.0 if difference == 0 else None
    # Satterthwaite's degrees of freedom.
    spread = error**4 / (patients - 1) if patients > 1 else 0.0
    freedom = total**4 / (spread + sum(variance**2 / degrees for variance, degrees in terms))
    reach = float(t.ppf((1 + LEVEL) / 2, freedom)) * total
    p = float(2 * t.sf(abs(difference) / total, freedom))
    return float(np.sqrt(training)), difference - reach, difference + reach, p
