"""Which folds are used: stored, drawn, or the user's own as in nnU-Net's `splits_final.json`.

What nnU-Net calls `val` is the test part of a fold here: no weights are selected on it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ggn_tf.dataset.folds import (
    LEAST_FOLDS,
    FoldRequest,
    Folds,
    add_validation,
    check_folds,
    draw_folds,
    problems_of_parts,
    read_folds,
)
from ggn_tf.dataset.own_splits import MOST_BYTES, KnownIds
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import shortened
from ggn_tf.errors import GgnError, RecordError, RunError, SplitError
from ggn_tf.files import refuse_links
from ggn_tf.json_records import from_json, read_document
from ggn_tf.protocol import SplitProtocol
from ggn_tf.tasks import Task

FOLDS = 5


@dataclass(frozen=True)
class _Fold:
    """An entry of the list."""

    train: tuple[str, ...]
    val: tuple[str, ...]


@dataclass(frozen=True)
class _Folds:
    folds: tuple[_Fold, ...]


def choose_folds(
    file: Path,
    dataset: Dataset,
    tasks: Sequence[Task],
    count: int | None,
    seed: int,
    given: Path | None,
    salt: bytes | None = None,
) -> Folds:
    """The stored folds where they are the requested ones, else new ones; writes nothing.

    `file` is where they are stored. Without a `count` there are 5, or those of the list `given`, which is read as by
    `read_fold_list`; without a list, folds are drawn.

    Raises:
        GgnError: There are fewer than two folds, or the list has another number of folds.
        SplitError: As in `draw_folds`, `read_fold_list`, `read_folds` and `check_folds`.
        RunError: The stored folds are other ones.
    """
    drawn = FoldRequest(FOLDS if count is None else count, seed, SplitProtocol().validation_fraction)
    if drawn.count < LEAST_FOLDS:
        raise GgnError(
            "The number of folds is too small.",
            found=drawn.count,
            expected=f"at least {LEAST_FOLDS}",
            remedy="Choose a larger number.",
            arguments=("folds",),
        )
    listed = None if given is None else read_fold_list(given, dataset, tasks, seed, salt)
    request = drawn if listed is None else listed.request
    if count not in (None, request.count):
        raise GgnError(
            "The file of folds has another number of folds.",
            case=given,
            found=f"{request.count} folds",
            expected=f"{count} folds",
            remedy="Leave out the number of folds, or name a file with as many.",
            arguments=("folds", "folds_from"),
        )
    refuse_links(file.parent, [file.name], RunError)
    if not file.exists():
        return listed or draw_folds(dataset, tasks, request)
    stored = read_folds(file)
    check_folds(stored, file, dataset, tasks)
    if stored.request != request:
        raise RunError(
            "The folder contains other folds.",
            case=file,
            found=str(stored.request),
            expected=str(request),
            remedy="Repeat the command with which they were made, or choose another folder.",
            arguments=("folder",),
        )
    return stored


def read_fold_list(path: Path, dataset: Dataset, tasks: Sequence[Task], seed: int, salt: bytes | None = None) -> Folds:
    """Read the user's folds and verify them; each fold's validation set is drawn from its list `train`.

    The JSON file is a list with an object for each fold, whose lists `train` and `val` contain ids of nodules, or all
    lists ids of patients. `seed` is that of the validation sets, and `salt` as in `read_own_splits`.

    Raises:
        SplitError: The file cannot be read or has an unknown id; a patient is in two lists `val`, or in both lists of a
            fold; or a nodule of a task is in no list `val`, or twice.
    """
    folds = _read(path)
    parts, unknown = _in_dataset(folds, dataset, salt)
    problems = unknown or list(problems_of_parts(dataset, parts, tasks))
    if problems:
        expected = "ids of the dataset or of its case table, each patient in one test part (val) and in no other fold's"
        raise _refused(path, "The folds of the file cannot be used.", shortened(problems), expected)
    digest = hashlib.sha256(json.dumps([[fold.train, fold.val] for fold in folds]).encode()).hexdigest()
    request = FoldRequest(len(folds), seed, SplitProtocol().validation_fraction, digest)
    splits = (
        add_validation(number, dataset.select(dict.fromkeys(training)), dataset.select(test), request)
        for number, (training, test) in enumerate(parts, start=1)
    )
    return Folds(request, None, dataset.fingerprint, tuple(splits))


def _read(path: Path) -> tuple[_Fold, ...]:
    expected = (
        f"a list of {LEAST_FOLDS} or more objects, each with lists of ids in train and val, as in splits_final.json"
    )
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        folds = from_json(_Folds, {"folds": read_document(path)}).folds
        if len(folds) < LEAST_FOLDS or not all(fold.train and fold.val for fold in folds):
            raise ValueError(
                f"{len(folds)} folds, {sum(not (fold.train and fold.val) for fold in folds)} with an empty list"
            )
    except (OSError, ValueError, RecordError) as error:
        found = f"{error.case}: {error.found}" if isinstance(error, RecordError) else str(error)
        raise _refused(path, "The file of folds cannot be read.", found, expected) from error
    return folds


_Parts = list[tuple[list[str], list[str]]]


def _in_dataset(folds: Sequence[_Fold], dataset: Dataset, salt: bytes | None) -> tuple[_Parts, list[str]]:
    """The nodules of each fold's parts, and the unknown ids: all ids are of nodules, or else all of patients."""
    nodules_of: dict[str, list[str]] = {}
    for case in dataset.cases:
        nodules_of.setdefault(case.patient_id, []).append(case.case_id)
    readings = []
    for nodules in ({case_id: [case_id] for case_id in dataset.case_by_id}, nodules_of):
        known = KnownIds(nodules, salt)
        train, val = (
            [[case for found in known.in_dataset(getattr(fold, part)) for case in nodules[found]] for fold in folds]
            for part in ("train", "val")
        )
        readings.append((list(zip(train, val, strict=True)), known.unknown))
    return min(readings, key=lambda reading: len(reading[1]))


def _refused(path: Path, what: str, found: object, expected: object) -> SplitError:
    return SplitError(
        what,
        case=path,
        found=found,
        expected=expected,
        remedy="Correct the file, and repeat the command.",
        arguments=("folds_from",),
    )
