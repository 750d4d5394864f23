"""Cross-validation folds of a training set with every patient in one fold."""

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from ggn_tf.errors import SplitError

FOLDS = 5
# Number of draws before the folds are given up because a training part lacks a class.
_ATTEMPTS = 20

Fold = tuple[np.ndarray, np.ndarray]


def grouped_folds(label: np.ndarray, patients: Sequence[str], seed: int, class_names: Sequence[str]) -> list[Fold]:
    """Draw folds by patient, stratified by class as far as whole patients allow.

    Args:
        label: Class index of each case [N].
        patients: Patient of each case [N].
        seed: Seed of the draw.
        class_names: The classes; each must be in every training part.

    Returns:
        For each of five folds (fewer where a class has fewer patients) the indices of its training part and of the
        fold.

    Raises:
        SplitError: A class has fewer than two patients, or no draw leaves every class in every training part.
    """
    patient = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1]
    counts = [len(np.unique(patient[label == index])) for index in range(len(class_names))]
    if min(counts) >= 2:
        for attempt in range(_ATTEMPTS):
            state = int(np.random.SeedSequence([seed, attempt]).generate_state(1)[0])
            folds = _drawn(label, patient, min(FOLDS, *counts), state)
            if all(len(np.unique(label[training])) == len(class_names) for training, _ in folds):
                return folds
    raise SplitError(
        "The training set has too few patients of a class for cross-validation.",
        found=", ".join(f"{count} of {name}" for count, name in zip(counts, class_names, strict=True)),
        expected="at least two patients of every class, none of whom has nearly all nodules",
        remedy="Use another split, merge classes, or prepare more cases.",
        arguments=("split", "task"),
    )


def _drawn(label: np.ndarray, patient: np.ndarray, folds: int, state: int) -> list[Fold]:
    with warnings.catch_warnings():
        # "The least populated class has fewer members than folds": counted in patients, it has not.
        warnings.simplefilter("ignore", UserWarning)
        return list(StratifiedGroupKFold(folds, shuffle=True, random_state=state).split(label, label, patient))
