"""What the rows of a case table say of one another: patients, labels and nodules that are entered twice."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from ggn_tf.cases.table import Case
from ggn_tf.errors import TableError

_SHOWN = 5
_DIGITS = re.compile(r"\d+")
_WHOLE_DECIMAL = re.compile(r"(?<=\d)\.0+$")


class NoteCode(StrEnum):
    """What a note on a case table is about."""

    LABEL_SPELLINGS = "label_spellings"
    REPEATED_NODULE = "repeated_nodule"
    WORKBOOK = "workbook"


@dataclass(frozen=True)
class TableNote:
    """Something in a case table that a user should know of, although it is not refused."""

    code: NoteCode
    text: str


def comparable(text: str) -> str:
    """A form that two spellings of one id or label share.

    Unicode compatibility form without invisible characters, lower case, single spaces, numbers without leading zeros
    and without a trailing `.0`.

    >>> comparable("P-007"), comparable("p-7 "), comparable("4.0")
    ('p-7', 'p-7', '4')
    """
    visible = (char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
    folded = " ".join("".join(visible).casefold().split())
    return _DIGITS.sub(lambda digits: digits[0].lstrip("0") or "0", _WHOLE_DECIMAL.sub("", folded))


def check_patients(cases: Sequence[Case], *, distinct_ids: bool = False) -> list[TableError]:
    """Find patients that are entered under several ids, so that a split could not keep them in one set.

    Args:
        cases: The rows of the table.
        distinct_ids: Accept ids that differ in zeros, case, `.0` or Unicode form only as those of different patients.
            One CT under several patients is an error all the same.

    Returns:
        One error per fault.
    """
    by_image = _groups(cases, _ct)
    errors = [_one_ct_several_patients(rows) for rows in by_image if len(_patients(rows)) > 1]
    if distinct_ids:
        return errors
    by_id = _groups(cases, lambda case: comparable(case.patient_id))
    return [*errors, *(_one_patient_several_ids(rows) for rows in by_id if len(_patients(rows)) > 1)]


def check_nodules(cases: Sequence[Case]) -> tuple[list[TableError], list[TableNote]]:
    """Find nodules that are entered in several rows.

    Returns:
        Errors: one per nodule whose rows have different labels. Notes: one per nodule whose rows agree.
    """
    errors, notes = [], []
    for rows in _groups(cases, _nodule):
        if len(rows) < 2:
            continue
        if len({comparable(case.label) for case in rows}) > 1:
            errors.append(_contradiction(rows))
        else:
            notes.append(TableNote(NoteCode.REPEATED_NODULE, f"the same nodule in several rows: {_case_ids(rows)}"))
    return errors, notes


def check_labels(cases: Iterable[Case]) -> list[TableNote]:
    """Find labels that differ in spelling only, such as `4` and `4.0` or `MIA` and `mia`: one note per group."""
    return [
        TableNote(
            NoteCode.LABEL_SPELLINGS,
            "labels that differ in spelling only are different labels here: "
            + ", ".join(f"{label!r} ({count} nodules)" for label, count in spellings.most_common()),
        )
        for spellings in _label_spellings(cases)
    ]


def merge_labels(cases: Sequence[Case]) -> list[Case]:
    """Give labels that differ in spelling only the most frequent spelling; of equally frequent ones the first."""
    merged = {label: spellings.most_common(1)[0][0] for spellings in _label_spellings(cases) for label in spellings}
    return [replace(case, label=merged.get(case.label, case.label)) for case in cases]


def _label_spellings(cases: Iterable[Case]) -> list[Counter[str]]:
    spellings: dict[str, Counter[str]] = {}
    for case in cases:
        spellings.setdefault(comparable(case.label), Counter())[case.label] += 1
    return [counts for counts in spellings.values() if len(counts) > 1]


def _groups(cases: Iterable[Case], key: Callable[[Case], object]) -> list[list[Case]]:
    groups: defaultdict[object, list[Case]] = defaultdict(list)
    for case in cases:
        groups[key(case)].append(case)
    return list(groups.values())


def _ct(case: Case) -> object:
    return (_real_path(case.image), case.series)


def _nodule(case: Case) -> object:
    mask = None if case.mask is None else _real_path(case.mask)
    return (_ct(case), mask, case.segment, case.center_mm_lps)


def _real_path(path: Path) -> str:
    """The file behind links and detours; a URL as it is written."""
    return str(path) if ":/" in str(path) else str(path.resolve())


def _patients(cases: Iterable[Case]) -> list[str]:
    return list(dict.fromkeys(case.patient_id for case in cases))


def _case_ids(cases: Sequence[Case]) -> str:
    more = f" and {len(cases) - _SHOWN} more" if len(cases) > _SHOWN else ""
    return ", ".join(case.case_id for case in cases[:_SHOWN]) + more


def _one_ct_several_patients(cases: Sequence[Case]) -> TableError:
    return TableError(
        "One CT is entered under several patients.",
        case=cases[0].image,
        found=f"patients {', '.join(map(repr, _patients(cases)))} (cases {_case_ids(cases)})",
        expected="one patient_id per CT: otherwise a patient's nodules can be in the training and in the test set",
        remedy="Give all nodules of a CT the same patient_id in the case table.",
    )


def _one_patient_several_ids(cases: Sequence[Case]) -> TableError:
    return TableError(
        "Patient ids differ only in leading zeros, upper and lower case, a trailing .0 or their Unicode form.",
        case=f"cases {_case_ids(cases)}",
        found=f"patients {', '.join(map(repr, _patients(cases)))}",
        expected="one spelling per patient: otherwise a patient's nodules can be in the training and in the test set",
        remedy="Write the id of a patient in one way throughout the table; if they are different patients, say so.",
        arguments=["distinct_ids"],
    )


def _contradiction(cases: Sequence[Case]) -> TableError:
    labels = ", ".join(f"{case.case_id}: {case.label!r}" for case in cases[:_SHOWN])
    return TableError(
        "One nodule is entered several times, with different labels.",
        case=f"cases {_case_ids(cases)}",
        found=labels,
        expected="one row per nodule, or rows that agree",
        remedy="Keep the row with the right label.",
    )
