"""Folds of a cross-validation: parts by patient, each of which is the test set of one split.

scikit-learn draws them, stratified by label, or a list names them (`fold_list`). They do not depend on the task's
grouping of labels, unless one of its classes is absent from a fold: then the next seed is tried. The validation set of
a fold is drawn from its own training part. Folds are saved with a digest of the file and the fingerprint of the
dataset, which are verified at every read.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.split_search import choose_set
from ggn_tf.dataset.splits import Split, problems_of, shortened
from ggn_tf.errors import SplitError
from ggn_tf.json_records import read_record, write_record
from ggn_tf.tasks import Task

FOLDS_FILE = "folds.json"
LEAST_FOLDS = 2
SCHEMA = 1
# Random states that are tried until every fold has a nodule of every class.
_ATTEMPTS = 20


@dataclass(frozen=True)
class FoldRequest:
    """What decides folds, apart from the dataset.

    Attributes:
        count: Number of folds.
        seed: Seed of the draw; of a list's folds, of their validation sets.
        validation_fraction: Share of a fold's training part that validates.
        list_digest: SHA-256 of the list that names the folds; None where they are drawn.
    """

    count: int
    seed: int
    validation_fraction: float
    list_digest: str | None = None


@dataclass(frozen=True)
class Folds:
    """The folds of a dataset.

    Attributes:
        request: How they were requested.
        random_state: The state with which scikit-learn drew them: the seed, or the first after it with which every fold
            has a nodule of every class; None for those of a list.
        fingerprint: The dataset's.
        splits: One per fold, numbered from 1; each patient is in one test set.
    """

    request: FoldRequest
    random_state: int | None
    fingerprint: str
    splits: tuple[Split, ...]

    @property
    def by_number(self) -> dict[int, Split]:
        """The splits by the number of the fold."""
        return {split.number: split for split in self.splits}


def draw_folds(dataset: Dataset, tasks: Sequence[Task], request: FoldRequest) -> Folds:
    """Draw folds with scikit-learn's `StratifiedGroupKFold(count, shuffle=True, random_state=seed)`.

    Its classes are the labels of all cases, sorted by case id, and its groups the patients.

    Raises:
        SplitError: A class of a task has fewer patients than there are folds, or no draw has it in every fold.
    """
    cases = sorted(dataset.cases, key=lambda case: case.case_id)
    for task in tasks:
        _check_patients(cases, task, request.count)
    for state in range(request.seed, request.seed + _ATTEMPTS):
        tests = list(_tests(cases, request.count, state))
        if all(_has_classes(test, task) for test in tests for task in tasks):
            return Folds(request, state, dataset.fingerprint, tuple(_splits(cases, tests, request)))
    raise SplitError(
        "No draw of the folds has every class in every fold.",
        case=dataset.folder,
        found=f"{_ATTEMPTS} draws of {request.count} folds",
        expected="a nodule of every class in every fold",
        remedy="Choose fewer folds, merge classes, or prepare more cases.",
        arguments=("folds", "task"),
    )


def add_validation(
    number: int, training: Sequence[CaseRecord], test: Sequence[CaseRecord], request: FoldRequest
) -> Split:
    """A fold's split: patients of its training part, stratified by label, become the validation set.

    Raises:
        SplitError: The training part has one patient.
    """
    labels, patients = [case.label for case in training], [case.patient_id for case in training]
    chosen = choose_set(labels, patients, request.validation_fraction, 2, (request.seed, number, 1))
    if chosen is None:
        raise SplitError(
            f"Fold {number} has too few patients for a training and a validation set.",
            found=f"{len(set(patients))} patients",
            expected="at least two patients beside those of the test set",
            remedy="Choose more folds, or prepare more cases.",
            arguments=("folds",),
        )
    return Split(
        number,
        train=tuple(sorted(case.case_id for case, other in zip(training, chosen, strict=True) if not other)),
        validation=tuple(sorted(case.case_id for case, other in zip(training, chosen, strict=True) if other)),
        test=tuple(sorted(case.case_id for case in test)),
    )


def problems_of_parts(
    dataset: Dataset, parts: Sequence[tuple[Sequence[str], Sequence[str]]], tasks: Sequence[Task]
) -> Iterator[str]:
    """What is wrong with the training and the test part of each fold, for a reader; all ids are of the dataset."""
    fold_of: dict[str, int] = {}
    for number, (training, test) in enumerate(parts, start=1):
        trained = {case.patient_id for case in dataset.select(training)}
        for patient in dict.fromkeys(case.patient_id for case in dataset.select(test)):
            if patient in trained:
                yield f"patient {patient} in the training and in the test part of fold {number}"
            if fold_of.setdefault(patient, number) != number:
                yield f"patient {patient} in the test parts of folds {fold_of[patient]} and {number}"
    counts = Counter(case_id for _, test in parts for case_id in test)
    labels = {label for task in tasks for group in task.classes for label in group}
    for case in (case for case in dataset.cases if case.label in labels):
        if counts[case.case_id] != 1:
            yield f"nodule {case.case_id} in {counts[case.case_id]} test parts"


def write_folds(folds: Folds, file: Path) -> None:
    """Save folds with the digest of the file's content."""
    write_record(folds, file, SCHEMA)


def read_folds(file: Path) -> Folds:
    """Read folds and verify the file's digest; `check_folds` compares them with the dataset.

    Raises:
        SplitError: The file is missing or was changed.
    """
    expected = "the file that the cross-validation wrote"
    return read_record(Folds, file, SCHEMA, lambda found: _refused(file, "The folds cannot be read.", found, expected))


def check_folds(folds: Folds, file: Path, dataset: Dataset, tasks: Sequence[Task]) -> None:
    """Compare folds that were read with their dataset.

    Raises:
        SplitError: They belong to another dataset; or a patient is in two sets of a fold or in two test sets, or a
            nodule of a task is not in one test set.
    """
    if folds.fingerprint != dataset.fingerprint:
        raise _refused(file, "The folds belong to another dataset.", folds.fingerprint, dataset.fingerprint)
    problems = [f"fold {split.number}: {text}" for split in folds.splits for text in problems_of(dataset, split)]
    if not problems:
        parts = [((*split.train, *split.validation), split.test) for split in folds.splits]
        problems = list(problems_of_parts(dataset, parts, tasks))
    if problems or [split.number for split in folds.splits] != list(range(1, folds.request.count + 1)):
        found = shortened(problems) or f"folds {', '.join(str(split.number) for split in folds.splits)}"
        raise _refused(file, "The folds are not those of a cross-validation.", found, "each patient in one test set")


def _check_patients(cases: Sequence[CaseRecord], task: Task, count: int) -> None:
    task.check_labels(case.label for case in cases)
    patients = [
        {case.patient_id for case in cases if task.class_of(case.label) == index} for index in range(len(task.classes))
    ]
    if min(map(len, patients)) < count:
        raise SplitError(
            "A class has fewer patients than there are folds.",
            found=", ".join(
                f"{len(ids)} patients with {name}" for ids, name in zip(patients, task.class_names, strict=True)
            ),
            expected=f"at least {count} patients of every class, one for each fold",
            remedy="Choose fewer folds, merge classes, or prepare more cases.",
            arguments=("folds", "task"),
        )


def _has_classes(cases: Sequence[CaseRecord], task: Task) -> bool:
    return {task.class_of(case.label) for case in cases} >= set(range(len(task.classes)))


def _tests(cases: Sequence[CaseRecord], count: int, state: int) -> Iterator[list[CaseRecord]]:
    """The test cases of each fold."""
    labels, patients = np.array([case.label for case in cases]), np.array([case.patient_id for case in cases])
    if np.unique(labels, return_counts=True)[1].max() < count:
        # scikit-learn refuses labels that are all rarer than folds, although the task may merge them.
        labels = np.zeros(len(cases))
    with warnings.catch_warnings():
        # "The least populated class has fewer members than folds": labels outside the task may.
        warnings.simplefilter("ignore", UserWarning)
        for _, test in StratifiedGroupKFold(count, shuffle=True, random_state=state).split(labels, labels, patients):
            yield [cases[index] for index in test]


def _splits(cases: Sequence[CaseRecord], tests: Sequence[list[CaseRecord]], request: FoldRequest) -> Iterator[Split]:
    for number, test in enumerate(tests, start=1):
        tested = {case.case_id for case in test}
        yield add_validation(number, [case for case in cases if case.case_id not in tested], test, request)


def _refused(file: Path, what: str, found: object, expected: object) -> SplitError:
    return SplitError(
        what,
        case=file,
        found=found,
        expected=expected,
        remedy="Restore the file from a copy, or repeat the cross-validation in another folder.",
        arguments=("folder",),
    )
