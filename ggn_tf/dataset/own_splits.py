"""The user's own splits, for example by date or by centre: a file that assigns nodules or patients to sets."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ggn_tf.cases.spelling import folded
from ggn_tf.cases.tables.table_file import TableFile, read_table_file
from ggn_tf.dataset.identity import Pseudonyms
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import Split, problems_of, shortened
from ggn_tf.errors import RecordError, SplitError, TableError
from ggn_tf.json_records import from_json, read_document
from ggn_tf.protocol import SETS

MOST_BYTES = 32 << 20
_REMEDY = "Correct the file, and repeat the command."


@dataclass(frozen=True)
class _Splits:
    """What is read of a JSON file."""

    splits: tuple[Split, ...]


def read_own_splits(path: Path, dataset: Dataset, salt: bytes | None = None) -> dict[int, Split]:
    """Read the user's splits and verify them.

    A table (.csv or .xlsx) has one row per nodule or patient: `case_id` or, without it, `patient_id`; `set`, which is
    train, validation or test; and optionally `split`, the number of the split (1 without it). A JSON file contains the
    ids of the nodules in lists `train`, `validation` and `test`, or several such objects in a list `splits`, as the
    file splits.json of a dataset does. Nodules may be left out; those of a task may not, which `plan_run` checks.

    `salt` is that of the ids, where the file may contain those of the case table; None where it is not known.

    Returns:
        The splits by number, with the dataset's ids.

    Raises:
        SplitError: The file cannot be read; or a split has an unknown id, a nodule twice, a patient in two sets, or an
            empty set.
    """
    if not path.is_file():
        raise _refused(path, "The file of splits does not exist.", "no file", "a .csv, .xlsx or .json file")
    splits = _from_json(path) if path.suffix.lower() == ".json" else _from_table(path, dataset, salt)
    known = KnownIds(dataset.case_by_id, salt)
    found = {}
    for split in splits:
        sets = {name: tuple(sorted(known.in_dataset(getattr(split, name)))) for name in SETS}
        found[split.number] = Split(split.number, **sets)
        problems = [*known.unknown, *problems_of(dataset, found[split.number])]
        if problems:
            raise _refused(
                path,
                f"Split {split.number} of the file cannot be used.",
                shortened(problems),
                "ids of the dataset or of its case table, each nodule once, no patient in two sets, no empty set",
            )
    return dict(sorted(found.items()))


class KnownIds:
    """The ids that a file may use for the ids of a dataset: these, or those of the case table."""

    def __init__(self, ids: Iterable[str], salt: bytes | None) -> None:
        self._known, self._pseudonyms = frozenset(ids), Pseudonyms(salt)
        self.unknown: list[str] = []

    def in_dataset(self, ids: Iterable[str]) -> Iterator[str]:
        """The ids in the dataset; those that it does not have are kept in `unknown`."""
        for written in ids:
            found = next((each for each in (written, self._pseudonyms.id_of(written)) if each in self._known), None)
            if found is None:
                self.unknown.append(f"{written} is not in the dataset")
            else:
                yield found


def _from_json(path: Path) -> Sequence[Split]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        content = read_document(path)
        if isinstance(content, dict) and "splits" not in content:
            content = {"splits": [{"number": 1, **content}]}
        splits = from_json(_Splits, content, ignore_unknown=True).splits
    except (OSError, ValueError, RecordError) as error:
        found = f"{error.case}: {error.found}" if isinstance(error, RecordError) else str(error)
        expected = "lists of ids in train, validation and test, or a list of splits, each with its number"
        raise _refused(path, "The file of splits cannot be read.", found, expected) from error
    _check_numbers(path, [split.number for split in splits])
    return splits


def _check_numbers(path: Path, numbers: Sequence[int]) -> None:
    repeated = [number for number, count in Counter(numbers).items() if count > 1]
    if repeated or not numbers or min(numbers) < 1:
        found = f"numbers {', '.join(map(str, numbers))}" if numbers else "no split"
        raise _refused(path, "The splits of the file have no usable numbers.", found, "numbers from 1, each once")


def _from_table(path: Path, dataset: Dataset, salt: bytes | None) -> Sequence[Split]:
    try:
        table = read_table_file(path)
    except TableError as error:
        raise _refused(path, "The file of splits cannot be read.", error.found, error.expected) from error
    names = {folded(name): name for name in table.columns}
    key = next((names[name] for name in ("case_id", "patient_id") if name in names), None)
    if key is None or "set" not in names or table.repeated:
        found = "; ".join(["columns " + ", ".join(table.columns), *table.repeated])
        raise _refused(path, "The columns of the file of splits are not the expected ones.", found, _COLUMNS)
    assigned = _assigned(path, table, key, names)
    if folded(key) == "patient_id":
        assigned = _nodules_of(path, assigned, dataset, salt)
    return [Split(number, **{name: tuple(sets[name]) for name in SETS}) for number, sets in assigned.items()]


_COLUMNS = "case_id or patient_id; set (train, validation or test); optionally split"
_Sets = Mapping[int, Mapping[str, Sequence[str]]]


def _assigned(path: Path, table: TableFile, key: str, names: Mapping[str, str]) -> _Sets:
    """The ids by number of the split and set, and every unusable row in one error."""
    assigned: dict[int, dict[str, list[str]]] = defaultdict(lambda: {name: [] for name in SETS})
    problems = [f"row {problem.rows[0]}: {problem.text}" for problem in table.problems]
    for row, cells in table.rows.items():
        number = cells[names["split"]] if "split" in names else "1"
        set_name, written = cells[names["set"]].casefold(), cells[key]
        if not written:
            problems.append(f"row {row}: no {key}")
        elif set_name not in SETS:
            problems.append(f"row {row}: set {cells[names['set']]!r}")
        elif not (number.isascii() and number.isdigit() and 0 < int(number) <= len(table.rows)):
            problems.append(f"row {row}: split {number!r}")
        else:
            assigned[int(number)][set_name].append(written)
    if problems or not assigned:
        found = shortened(problems) or "no row"
        raise _refused(path, "Rows of the file of splits cannot be used.", found, _COLUMNS)
    return assigned


def _nodules_of(path: Path, assigned: _Sets, dataset: Dataset, salt: bytes | None) -> _Sets:
    """The nodules of patients, who may each be in one row of a split only."""
    nodules: defaultdict[str, list[str]] = defaultdict(list)
    for case in dataset.cases:
        nodules[case.patient_id].append(case.case_id)
    known, of_nodules, problems = KnownIds(nodules, salt), {}, []
    for number, sets in assigned.items():
        patients = {name: list(known.in_dataset(sets[name])) for name in SETS}
        counts = Counter(patient for ids in patients.values() for patient in ids)
        problems += [f"patient {patient} in {count} rows" for patient, count in counts.items() if count > 1]
        of_nodules[number] = {
            name: [case for patient in ids for case in nodules[patient]] for name, ids in patients.items()
        }
    if known.unknown or problems:
        found = shortened([*(f"patient {text}" for text in known.unknown), *problems])
        expected = "ids of the dataset or of its case table, each patient once per split"
        raise _refused(path, "Patients of the file of splits cannot be used.", found, expected)
    return of_nodules


def _refused(path: Path, what: str, found: object, expected: object) -> SplitError:
    return SplitError(what, case=path, found=found, expected=expected, remedy=_REMEDY, arguments=("splits",))
