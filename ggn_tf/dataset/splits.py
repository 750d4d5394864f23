"""Splits into training, validation and test set (paper section 3.2): 70/30 per label, no patient in two sets.

They are saved in the dataset as `splits.json`, with its fingerprint, and verified at every read.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.split_search import choose_set
from ggn_tf.errors import RecordError, SplitError
from ggn_tf.files import atomic_file
from ggn_tf.json_records import from_json, read_document, to_json
from ggn_tf.protocol import SETS, SplitProtocol

SPLITS = "splits.json"
SCHEMA = 1
_SHOWN = 5
# Of a text in a damaged file that an error quotes.
_LONGEST_TEXT = 200


@dataclass(frozen=True)
class Split:
    """The sorted case ids of a split's sets.

    Attributes:
        number: From 1.
        train: 56 % of the cases with the paper's fractions.
        validation: 14 %.
        test: 30 %.
    """

    number: int
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class _Splits:
    """What is read of `splits.json` once its checksum is verified."""

    splits: tuple[Split, ...]


def make_splits(cases: Sequence[CaseRecord], protocol: SplitProtocol, count: int, seed: int) -> list[Split]:
    """Draw splits: every label is in every set, as near to the protocol's fractions as whole patients allow.

    A label with fewer than three patients (`scarce_labels`) cannot be in every set.

    Args:
        cases: All cases of a dataset, in any order: the same cases and seed give the same splits.
        protocol: Fractions of the test and the validation set.
        count: Number of splits; they are numbered from 1.
        seed: Seed of the draw; split 2 of 2 equals split 2 of 5.

    Raises:
        SplitError: There are fewer than three patients, or no set of patients comes near the fractions.
    """
    cases = sorted(cases, key=lambda case: case.case_id)
    check_patients(case.patient_id for case in cases)
    return [_make_split(cases, protocol, number, seed) for number in range(1, count + 1)]


def check_patients(patient_ids: Iterable[str]) -> None:
    """Refuse too few patients for three sets, before their patches are cut.

    Raises:
        SplitError: There are fewer than three patients.
    """
    patients = len(set(patient_ids))
    if patients < len(SETS):
        raise _too_few(patients)


def digest_of(split: Split) -> str:
    """SHA-256 of a split's sets, whatever its number and the order of its cases: runs record on which they trained."""
    return _checksum({name: sorted(getattr(split, name)) for name in SETS})


def scarce_labels(cases: Sequence[CaseRecord]) -> dict[str, int]:
    """The number of patients of each label that has too few to be in every set."""
    patients: dict[str, set[str]] = {}
    for case in cases:
        patients.setdefault(case.label, set()).add(case.patient_id)
    counts = {label: len(ids) for label, ids in sorted(patients.items())}
    return {label: count for label, count in counts.items() if count < len(SETS)}


def write_splits(dataset: Dataset, splits: Sequence[Split], protocol: SplitProtocol, seed: int) -> None:
    """Save splits in their dataset, with a checksum over them and the dataset's fingerprint."""
    content = {
        "schema": SCHEMA,
        "fingerprint": dataset.fingerprint,
        "protocol": to_json(protocol),
        "seed": seed,
        "splits": [asdict(split) for split in splits],
    }
    with atomic_file(dataset.folder / SPLITS) as path, path.open("w", encoding="utf-8") as file:
        json.dump({**content, "checksum": _checksum(content)}, file, indent=1)
        file.write("\n")


def read_split(dataset: Dataset, number: int) -> Split:
    """Read a split and verify it.

    Raises:
        SplitError: The file is missing or was changed, belongs to another dataset, or has no split of that number; or
            the split lacks or repeats a case, or has a patient in two sets.
    """
    path = dataset.folder / SPLITS
    content = _read_content(path)
    if content.get("fingerprint") != dataset.fingerprint:
        raise _refused(path, "The splits belong to another dataset.", content.get("fingerprint"), dataset.fingerprint)
    try:
        splits = {split.number: split for split in from_json(_Splits, content, ignore_unknown=True).splits}
        if number not in splits:
            known = ", ".join(str(known) for known in sorted(splits))
            raise SplitError(
                f"There is no split {number}.",
                case=path,
                found=f"splits {known}",
                expected="one of them",
                remedy="Name one of them, prepare the dataset with more splits, or name a file with your own.",
                arguments=("split", "splits"),
            )
    except RecordError as error:
        raise _unreadable(path, error.case or SPLITS) from error
    split = splits[number]
    problem = next(_missing(dataset, split), None) or next(problems_of(dataset, split), None)
    if problem:
        raise _refused(path, f"Split {number} is not a split of the dataset.", problem, "every case in one set")
    return split


def _make_split(cases: Sequence[CaseRecord], protocol: SplitProtocol, number: int, seed: int) -> Split:
    test = _choose(cases, protocol.test_fraction, 3, (seed, number, 0))
    rest = [case for case, chosen in zip(cases, test, strict=True) if not chosen]
    validation = _choose(rest, protocol.validation_fraction, 2, (seed, number, 1))
    return Split(
        number,
        train=tuple(case.case_id for case, chosen in zip(rest, validation, strict=True) if not chosen),
        validation=tuple(case.case_id for case, chosen in zip(rest, validation, strict=True) if chosen),
        test=tuple(case.case_id for case, chosen in zip(cases, test, strict=True) if chosen),
    )


def _choose(cases: Sequence[CaseRecord], fraction: float, sets: int, entropy: tuple[int, ...]) -> np.ndarray:
    patients = [case.patient_id for case in cases]
    chosen = choose_set([case.label for case in cases], patients, fraction, sets, entropy)
    if chosen is None:
        raise _too_few(len(set(patients)))
    return chosen


def _read_content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise _refused(path, "The dataset has no splits.", "no file", SPLITS)
    try:
        content = read_document(path)
        checksum = content.pop("checksum")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
    if content.get("schema") != SCHEMA:
        raise _refused(path, "The splits have another format.", f"schema {content.get('schema')}", f"schema {SCHEMA}")
    if checksum != _checksum(content):
        raise _refused(
            path, "The splits were changed after they were made.", f"checksum {_checksum(content)}", checksum
        )
    return content


def _missing(dataset: Dataset, split: Split) -> Iterator[str]:
    assigned = {case_id for name in SETS for case_id in getattr(split, name)}
    yield from (f"case {case_id} is in no set" for case_id in dataset.case_by_id if case_id not in assigned)


def problems_of(dataset: Dataset, split: Split) -> Iterator[str]:
    """What is wrong with the sets of a split, for a reader, which may leave out cases of the dataset."""
    sets = {name: getattr(split, name) for name in SETS}
    counts = Counter(case_id for case_ids in sets.values() for case_id in case_ids)
    yield from (f"case {case_id} {count} times" for case_id, count in counts.items() if count > 1)
    yield from (f"case {case_id} is not in the dataset" for case_id in counts if case_id not in dataset.case_by_id)
    yield from (f"no case in set {name}" for name, case_ids in sets.items() if not case_ids)
    seen: dict[str, str] = {}
    for name, case_ids in sets.items():
        for case in dataset.select(case_id for case_id in case_ids if case_id in dataset.case_by_id):
            if seen.setdefault(case.patient_id, name) != name:
                yield f"patient {case.patient_id} in {seen[case.patient_id]} and in {name}"


def shortened(problems: Sequence[str]) -> str:
    """The first problems, and the number of the others."""
    more = len(problems) - _SHOWN
    return "; ".join([*problems[:_SHOWN], *([f"{more} more"] if more > 0 else [])])


def _checksum(content: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for piece in json.JSONEncoder(sort_keys=True).iterencode(content):
        digest.update(piece.encode())
    return digest.hexdigest()


def _unreadable(path: Path, found: str) -> SplitError:
    return _refused(path, "The splits cannot be read.", found, "a split file")


def _refused(path: Path, what: str, found: object, expected: object) -> SplitError:
    return SplitError(
        what,
        case=path,
        found=str(found)[:_LONGEST_TEXT],
        expected=str(expected)[:_LONGEST_TEXT],
        remedy="Restore the file from a whole copy of the dataset, or prepare the dataset again.",
    )


def _too_few(patients: int) -> SplitError:
    return SplitError(
        "There are too few patients for a training, a validation and a test set.",
        found=f"{patients} patients",
        expected="at least three patients, none of whom has nearly all nodules",
        remedy="Add cases of further patients.",
    )
