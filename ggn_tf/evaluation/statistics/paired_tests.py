"""Paired tests of two systems on the same nodules, with the patients as the sampled units.

A system's score is the mean over its trainings, and the first p value tests whether that mean differs over patients,
for the given trainings. A claim about the *method* also depends on the trainings: where a system was trained several
times, a second interval and p value cover patients and trainings. In simulations without a true difference, with
trainings that vary the AUC as much as patients do, the first is below 0.05 in 18 % of studies, the second in 6 %.

Each test is by patient:
- AUC: DeLong's test; Obuchowski's where patients have several nodules.
- Accuracy: McNemar's exact test. Under the null hypothesis the systems may be swapped within any patient, all nodules
  and repeats of the patient together; the p value is exact over all swaps. With one nodule per patient and one repeat
  it is the binomial test of the discordant nodules.
- Average F1, MCC, Dice: the paired patient bootstrap; the p value is the level at which its interval ends at zero.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import t

from ggn_tf.evaluation.statistics.bootstrap import LEVEL, Resampling
from ggn_tf.evaluation.statistics.delong import auc_difference
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions

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
    """Test the difference of one score between two systems.

    Args:
        metric: As in `run_scores.METRICS`.
        a: One system.
        b: The other, on the same nodules.
        scores_a: Score of every repeat of A [R].
        scores_b: Score of every repeat of B [Q].
        resampled: Difference of the means over repeats on resampled nodules [1 + B + P].
        resampling: Resampling of the patients.
    """
    low, high = resampling.difference_interval(resampled) or (None, None)
    error = float(np.nanstd(resampling.drawn(resampled)))
    if metric == "auc":
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
    """Exact two-sided p value of a sum under random signs of its terms.

    Args:
        differences: One whole number per patient, int [P].

    Returns:
        The share of all 2^P choices of signs whose sum is at least as far from 0.
    """
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
    difference: float,
    error: float,
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    *,
    paired: bool,
    patients: int,
) -> tuple[float | None, float | None, float | None, float | None]:
    """Interval and p value over patients and trainings, adding the two variances as in Welch's test.

    Args:
        difference: Difference of the means over repeats.
        error: Its standard error over patients, for these trainings.
        scores_a: Score of every repeat of A [R].
        scores_b: Score of every repeat of B [Q].
        paired: Whether the repeats are pairs, as where a joint stage starts from the same repeat's classifier.
        patients: Number of patients.

    Returns:
        Standard error over trainings, lower and upper end, p value; None where neither system has several repeats.
    """
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
