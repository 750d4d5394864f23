"""Chooses the patients of one set of a split: scikit-learn draws folds, and the best combination is taken."""

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

# Ten folds, three of which are the paper's 30 %: 120 ways to choose them.
_MOST_FOLDS = 10
# New folds are drawn while a label that could be in every set is missing in one.
_ATTEMPTS = 10


@dataclass(frozen=True)
class _Choice:
    """A combination of folds, as a mask over the cases, and how far it is from the requested fraction."""

    chosen: np.ndarray
    missing: int
    deviation: float

    @property
    def cost(self) -> tuple[int, float]:
        """A label that is missing in a set counts more than any deviation from its fraction."""
        return self.missing, self.deviation


def choose_set(
    labels: Sequence[str], patients: Sequence[str], fraction: float, sets: int, entropy: tuple[int, ...]
) -> np.ndarray | None:
    """Choose whole patients for one set, so that `sets - 1` others can be made of the rest.

    Args:
        labels: The label of each case.
        patients: The patient of each case.
        fraction: Desired fraction of every label's cases.
        sets: Number of sets for the cases, this one included. A label with that many patients gets into each.
        entropy: Seed of the choice.

    Returns:
        Whether each case is chosen, bool [N]; None where the patients cannot be divided.
    """
    label = np.unique(labels, return_inverse=True)[1]
    patient = np.unique(patients, return_inverse=True)[1]
    best: _Choice | None = None
    for attempt in range(_ATTEMPTS):
        state = int(np.random.SeedSequence((*entropy, attempt)).generate_state(1)[0])
        for choice in _choices(label, patient, fraction, sets, state):
            if best is None or choice.cost < best.cost:
                best = choice
        if best is not None and best.missing == 0:
            break
    return None if best is None else best.chosen


def _choices(label: np.ndarray, patient: np.ndarray, fraction: float, sets: int, state: int) -> Iterator[_Choice]:
    """Every way to choose the fraction among folds that scikit-learn draws."""
    labels, patients = label.max() + 1, patient.max() + 1
    fold, folds, count = _folds(label, patient, fraction, state)
    in_fold = np.eye(folds, dtype=int)[fold]
    cases_of = in_fold.T @ np.eye(labels, dtype=int)[label]
    # A patient is in one fold only, so patients add up over folds as cases do.
    pairs = np.unique(np.stack([fold, label, patient]), axis=1)
    patients_of = np.zeros((folds, labels), int)
    np.add.at(patients_of, (pairs[0], pairs[1]), 1)
    everyone = np.array([len(np.unique(patient[fold == number])) for number in range(folds)])
    spread = patients_of.sum(axis=0) >= sets
    for chosen in map(list, itertools.combinations(range(folds), count)):
        if not 1 <= everyone[chosen].sum() <= patients - (sets - 1):
            continue
        inside, outside = patients_of[chosen].sum(axis=0), np.delete(patients_of, chosen, axis=0).sum(axis=0)
        missing = int(np.sum(spread & ((inside < 1) | (outside < sets - 1))))
        deviation = float(np.abs(cases_of[chosen].sum(axis=0) - fraction * cases_of.sum(axis=0)).sum())
        yield _Choice(np.isin(fold, chosen), missing, deviation)


def _folds(label: np.ndarray, patient: np.ndarray, fraction: float, state: int) -> tuple[np.ndarray, int, int]:
    """The fold of every case, the number of folds, and the number of them that make the fraction."""
    part = Fraction(fraction).limit_denominator(_MOST_FOLDS)
    if np.bincount(label).max() < 2:
        label = np.zeros_like(label)
    folds = max(2, min(part.denominator, int(np.bincount(label).max()), len(np.unique(patient))))
    fold = np.zeros(len(label), int)
    with warnings.catch_warnings():
        # "The least populated class has fewer members than folds": the choice among the folds accounts for it.
        warnings.simplefilter("ignore", UserWarning)
        drawn = StratifiedGroupKFold(folds, shuffle=True, random_state=state).split(label, label, patient)
        for number, (_, inside) in enumerate(drawn):
            fold[inside] = number
    return fold, folds, min(folds - 1, max(1, round(fraction * folds)))
