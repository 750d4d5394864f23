"""Prediction sets: the classes that cannot be excluded, with a coverage that does not depend on the model (conformal).

A set contains every class whose probability reaches the class's threshold. The threshold comes from held-out nodules of
that class (split conformal prediction, Vovk et al. 2005; score 1 - p, Sadinle et al. 2019; one threshold per class, so
that a rare class is covered as often as a frequent one). If a new patient is exchangeable with the held-out patients,
the set contains the true class with at least the requested probability, however wrong the probabilities are.

Nodules of one patient are not exchangeable with those of others. Each patient counts once, and the weight is shared by
the patient's nodules of the class (Lee, Barber, Willett 2023, arXiv 2306.06342, section 3): the coverage applies to a
nodule of a new patient. Drawing one nodule per patient (Dunn, Wasserman, Ramdas 2022, arXiv 1809.07441) has the same
guarantee, but a result that depends on the draw. With one nodule per patient all of them are the same.
"""

import math
from dataclasses import dataclass

import numpy as np

from ggn_tf.evaluation.statistics.score_records import SubgroupScore
from ggn_tf.json_records import added_later

# Sums of thirds and products with 0.9 are not exact; weights that matter differ by more.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ClassThreshold:
    """The threshold of one class.

    Attributes:
        nodules, patients: The held-out nodules of this class.
        least_probability: Lowest probability with which a set contains the class; 0 with too few patients.
    """

    class_name: str
    nodules: int
    patients: int
    least_probability: float

    @property
    def score(self) -> float:
        """The threshold of the score 1 - p; infinite with too few patients."""
        return 1 - self.least_probability if self.least_probability > 0 else math.inf


@dataclass(frozen=True)
class SetThresholds:
    """The thresholds of one model.

    Attributes:
        coverage: Probability that a set contains the true class.
        classes: By class, in the order of the probabilities.
    """

    coverage: float
    classes: tuple[ClassThreshold, ...]

    @property
    def least_probabilities(self) -> np.ndarray:
        """Lowest probability with which a set contains each class, float64 [C]."""
        return np.array([threshold.least_probability for threshold in self.classes])

    @property
    def without_threshold(self) -> tuple[ClassThreshold, ...]:
        """The classes of too few patients, which every set contains."""
        least = patients_needed(self.coverage)
        return tuple(threshold for threshold in self.classes if threshold.patients < least)

    def sets(self, probability: np.ndarray) -> np.ndarray:
        """Whether the set contains a class, bool [..., C], of probabilities [..., C]."""
        inside: np.ndarray = probability >= self.least_probabilities
        return inside


@dataclass(frozen=True)
class PredictionSets:
    """Prediction sets of the last stage, evaluated on nodules that did not set the thresholds.

    Attributes:
        fitted_on: The set of nodules from which the thresholds are: `validation`, or `out_of_fold`.
        scores: `set_coverage`, the share of nodules whose set contains the true class, and `set_size`, the mean number
            of classes in a set, of all nodules and by class, size, texture and spacing; empty where a class has too few
            patients.
        by_fold: The thresholds for the nodules of each fold of a cross-validation, from those of the other folds.
    """

    stage: str
    fitted_on: str
    thresholds: SetThresholds | None
    scores: tuple[SubgroupScore, ...] = ()
    by_fold: tuple[SetThresholds, ...] = added_later(())

    @property
    def fitted(self) -> tuple[SetThresholds, ...]:
        """All thresholds: one, or one per fold."""
        return self.by_fold if self.thresholds is None else (self.thresholds,)

    @property
    def coverage(self) -> float:
        """The requested probability that a set contains the true class."""
        return self.fitted[0].coverage

    @property
    def without_threshold(self) -> tuple[ClassThreshold, ...]:
        """The classes of too few patients, each where it has the fewest."""
        missing = [threshold for each in self.fitted for threshold in each.without_threshold]
        fewest = {
            threshold.class_name: threshold
            for threshold in sorted(missing, key=lambda each: each.patients, reverse=True)
        }
        return tuple(fewest.values())


def patients_needed(coverage: float) -> int:
    """The fewest patients with a nodule of a class for which a set can exclude it: 9 for 0.9, 19 for 0.95."""
    return max(1, math.ceil(coverage / (1 - coverage) - _ROUNDING))


def least_probability(probability: np.ndarray, patients: np.ndarray, coverage: float) -> float:
    """The threshold of one class: a weighted quantile, in which the new patient counts as one more with probability 0.

    Takes the probabilities of the class for held-out nodules of this class, and their patients, [N] both.

    Returns:
        With one nodule per patient the ceil((n + 1) coverage)-th largest of n; 0 where there are too few patients.
    """
    identity, of_nodule, nodules = np.unique(patients, return_inverse=True, return_counts=True)
    descending = np.argsort(-probability, kind="stable")
    reached = np.cumsum(1 / nodules[of_nodule[descending]])
    position = int(np.searchsorted(reached, coverage * (len(identity) + 1) - _ROUNDING))
    return float(probability[descending[position]]) if position < len(probability) else 0.0
