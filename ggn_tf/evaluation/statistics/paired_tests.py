"""Paired tests of two systems on the same nodules, with the patients as what was sampled.

One rule for repeats: a system's score is the mean over its trainings, the expected score of one training, and the
tests ask whether that mean would differ on other patients, the trainings being what they are. Whether the *method* is
better is another question, which other trainings would answer differently: where a system was trained several times,
a second interval and p are for patients and trainings together. In simulation, with trainings that move the AUC as much
as patients do and no true difference, the first p is below 0.05 in 18 % of studies, the second in 6 %.

Each test is by patient:
- AUC: DeLong's; Obuchowski's where patients have several nodules.
- Accuracy: McNemar's exact test. Under the null hypothesis the systems may be swapped within any patient, all nodules
  and repeats of the patient at once; the p is exact over all swaps. With one nodule a patient and one repeat that is
  the binomial test of the discordant nodules.
- Average F1, MCC, Dice: the paired patient bootstrap; its p is where its interval meets zero.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import t

from ggn_tf.evaluation.statistics.bootstrap import LEVEL, Resampling
from ggn_tf.evaluation.statistics.delong import auc_difference
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions

BOOTSTRAP, MCNEMAR, MCNEMAR_BY_PATIENT = "paired patient bootstrap", "McNemar, exact", "McNemar, exact, by patient"


class PairedTest(NamedTuple):
    """What a test says of a difference; the fields are explained in `Comparison`."""

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
    of_a: np.ndarray,
    of_b: np.ndarray,
    resampled: np.ndarray,
    resampling: Resampling,
) -> PairedTest:
    """Test the difference of two systems in one score.

    Args:
        metric: As in `run_scores.METRICS`.
        a: One system.
        b: The other, on the same nodules.
        of_a: The score in every repeat of A [R].
        of_b: Of B [Q].
        resampled: The difference of the means over repeats on resampled nodules [1 + replicates + patients].
        resampling: Of the patients.
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
    difference = float(of_a.mean() - of_b.mean())
    # Repeats with the same numbers are pairs.
    paired = a.repeats.keys() == b.repeats.keys()
    more = over_trainings(difference, error, of_a, of_b, paired=paired, patients=resampling.patients)
    return PairedTest(low, high, p, name, *more)


def swap_p_value(differences: np.ndarray) -> float:
    """Exact two-sided p of a sum whose terms could as well have had the other sign.

    Args:
        differences: For each patient a whole number, int [P].

    Returns:
        The share of all 2^P choices of signs whose sum is as far from 0, from their distribution, not by listing.
    """
    sizes = np.abs(differences[differences != 0])
    reach = int(sizes.sum())
    chance = np.zeros(2 * reach + 1)
    chance[reach] = 1.0
    for size in sizes:
        chance = (np.roll(chance, size) + np.roll(chance, -size)) / 2
    sums = np.abs(np.arange(-reach, reach + 1))
    return float(min(1.0, chance[sums >= abs(int(differences.sum()))].sum()))


def _mcnemar(a: SystemPredictions, b: SystemPredictions) -> tuple[float, str]:
    """McNemar's test by patient; repeats of unequal numbers are brought to whole numbers first."""
    common = int(np.lcm(len(a.repeats), len(b.repeats)))
    right_a, right_b = (
        (cell.probabilities.argmax(axis=2) == cell.label).sum(axis=0) * (common // len(cell.repeats)) for cell in (a, b)
    )
    identity, of_nodule = np.unique(a.patients, return_inverse=True)
    by_patient = np.zeros(len(identity), np.int64)
    np.add.at(by_patient, of_nodule, right_a - right_b)
    plain = len(identity) == len(a.rows) and common == 1
    return swap_p_value(by_patient), MCNEMAR if plain else MCNEMAR_BY_PATIENT


def over_trainings(
    difference: float, error: float, of_a: np.ndarray, of_b: np.ndarray, *, paired: bool, patients: int
) -> tuple[float | None, float | None, float | None, float | None]:
    """Interval and p over patients and trainings, as Welch's test adds two variances.

    Args:
        difference: Of the means over repeats.
        error: Its standard error over patients, for these trainings.
        of_a: The score in every repeat of A [R].
        of_b: Of B [Q].
        paired: Whether the repeats are pairs, as where a joint stage starts from the same repeat's classifier.
        patients: How many.

    Returns:
        The trainings' standard error, lower and upper end, p; None where neither system has several repeats.
    """
    terms = [
        (float(of.var(ddof=1)) / len(of), len(of) - 1)
        for of in ([of_a - of_b] if paired else [of_a, of_b])
        if len(of) > 1
    ]
    if not terms:
        return None, None, None, None
    training = sum(variance for variance, _ in terms)
    total = float(np.sqrt(error**2 + training))
    if total == 0:
        return 0.0, None, None, 1.0 if difference == 0 else None
    # Satterthwaite's degrees of freedom.
    spread = error**4 / (patients - 1) if patients > 1 else 0.0
    freedom = total**4 / (spread + sum(variance**2 / of for variance, of in terms))
    reach = float(t.ppf((1 + LEVEL) / 2, freedom)) * total
    p = float(2 * t.sf(abs(difference) / total, freedom))
    return float(np.sqrt(training)), difference - reach, difference + reach, p
