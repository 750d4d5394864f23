"""Whether the rows of a case table agree: patients, nodules and labels that are entered in several ways."""

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from ggn_tf.cases.geometry.grid import Vector
from ggn_tf.cases.spelling import folded_id, folded_label, trimmed
from ggn_tf.cases.tables.image_identity import Identity, identity_of, image_identities, is_folder
from ggn_tf.cases.tables.table import Case
from ggn_tf.errors import TableError

_SHOWN = 5
_DICOMDIR = "DICOMDIR"


@dataclass(frozen=True)
class ReadNodule:
    """What is known about a nodule once its CT and mask were read.

    Attributes:
        series: SeriesInstanceUID of the CT; None for a volume file.
        center_mm_lps: The nodule's centre.
        radius_mm: Radius of the ball of its volume.
        digest: Digest of its patch and mask.
        ct_digests: Digests of voxels of the CT, equal for all of its files.
    """

    series: str | None
    center_mm_lps: Vector
    radius_mm: float
    digest: str
    ct_digests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Consistency:
    """What is wrong with a table as a whole, and what to know about it, one sentence each."""

    errors: tuple[TableError, ...] = ()
    notes: tuple[str, ...] = ()


def check_consistency(
    cases: Sequence[Case],
    read: Mapping[str, ReadNodule] | None = None,
    *,
    distinct_ids: bool = False,
    name_id: Callable[[str], str] = str,
) -> Consistency:
    """Compare the rows of a table with each other.

    Errors: one CT under several patients, and patient ids that differ in spelling only (`folded_id`), since
    a split could not keep such a patient in one set; one nodule with contradicting labels. Notes: one nodule in several
    rows, and labels that differ in spelling only.

    Args:
        cases: The rows, in the order of the table.
        read: By case id, what is known about the nodules that were read already: which series a folder contains, and
            which masks are of one nodule.
        distinct_ids: Accept the patient ids as those of different patients; what would be an error is a note.
        name_id: How ids of cases and patients are named, for example by their hash.
    """
    rows = _Rows(cases, read or {}, name_id)
    patients = list(_patient_errors(rows))
    contradictions, repeated = _repeated_nodules(rows)
    notes = [f"{error.what.rstrip('.')}, as accepted: {error.found}" for error in patients if distinct_ids]
    return Consistency(
        (*(patients if not distinct_ids else ()), *contradictions), (*notes, *repeated, *_label_notes(cases))
    )


def merge_labels(cases: Iterable[Case]) -> tuple[list[Case], list[str]]:
    """Give labels that differ in spelling only one spelling: a number's shortest, else the most frequent.

    Returns:
        The cases, and a note for each label that was merged.
    """
    cases = list(cases)
    merged = {label: _preferred(spellings) for spellings in _label_spellings(cases) for label in spellings}
    notes = [f"labels merged: {_spellings_text(spellings)}" for spellings in _label_spellings(cases)]
    return [replace(case, label=merged.get(case.label, case.label)) for case in cases], notes


class _Rows:
    """The rows of a table with the identities of their files, which are looked up once."""

    def __init__(self, cases: Sequence[Case], read: Mapping[str, ReadNodule], name_id: Callable[[str], str]) -> None:
        self.all, self.cases = cases, [case for case in cases if case.image.name]
        self.read, self._name_id = read, name_id
        self._images = image_identities(case.image for case in self.cases)
        self._masks = {case.mask: identity_of(case.mask) for case in self.cases if case.mask}

    def ct(self, case: Case) -> Hashable:
        """The CT of a row: the series that was read, else the file, else the folder and the series that is named."""
        nodule = self.read.get(case.case_id)
        return nodule.series if nodule and nodule.series else (self._image(case), case.series)

    def cts(self, case: Case) -> Iterator[Hashable]:
        """Values of which two rows share one only if they have one CT."""
        nodule = self.read.get(case.case_id)
        # Until it is read, a folder may contain several patients.
        if nodule or case.series or not (is_folder(case.image) or case.image.name.upper() == _DICOMDIR):
            yield self.ct(case)
        if nodule:
            yield nodule.digest
            yield from nodule.ct_digests

    def nodules(self, case: Case) -> Iterator[Hashable]:
        """Values of which two rows share one only if they have one nodule."""
        if case.mask or case.center_mm_lps:
            mask = case.mask and self._masks[case.mask]
            yield (self.ct(case), mask, case.segment, case.center_mm_lps)
        if case.case_id in self.read:
            yield self.read[case.case_id].digest

    def patients_text(self, cases: Iterable[Case]) -> str:
        """The different patients of some rows."""
        return _first([repr(self._name_id(patient)) for patient in _patients(cases)], " and ")

    def cases_text(self, cases: Sequence[Case]) -> str:
        """The first ids of some rows."""
        return _first([self._name_id(case.case_id) for case in cases])

    def _image(self, case: Case) -> Identity:
        return self._images[case.image]


def _patient_errors(rows: _Rows) -> Iterator[TableError]:
    by_ct = [group for group in _linked(rows.cases, rows.cts) if len(_patients(group)) > 1]
    if by_ct:
        yield TableError(
            "One CT is entered under several patients.",
            case=_first([group[0].image.name for group in by_ct]),
            found=_first([f"patients {rows.patients_text(group)} ({rows.cases_text(group)})" for group in by_ct], "; "),
            expected="one patient_id per CT: otherwise a patient's nodules can be in the training and in the test set",
            remedy="Give all nodules of a CT the same patient_id in the case table.",
        )
    by_id = _linked([case for case in rows.all if case.patient_id], lambda case: [folded_id(case.patient_id)])
    alike = [group for group in by_id if len(_patients(group)) > 1]
    if alike:
        yield TableError(
            "Patient ids differ only in spelling: zeros, separators, case, a trailing .0, or look-alikes.",
            case=rows.cases_text([case for group in alike for case in group]),
            found=_first([rows.patients_text(group) for group in alike], "; "),
            expected="one spelling per patient: otherwise a patient's nodules can be in the training and the test set",
            remedy="Write the id of a patient in one way throughout the table; insist on the ids only if they are "
            "those of different patients.",
            arguments=("distinct_ids",),
        )


def _repeated_nodules(rows: _Rows) -> tuple[list[TableError], list[str]]:
    same = _one_place(rows)
    groups = [
        group
        for group in _linked(rows.cases, lambda case: [*rows.nodules(case), *same.get(case.case_id, ())])
        if len(group) > 1
    ]
    contradicting = [group for group in groups if len({folded_label(case.label) for case in group}) > 1]
    agreeing = [rows.cases_text(group) for group in groups if group not in contradicting]
    notes = [f"the same nodule in several rows: {_first(agreeing, '; ')}"] if agreeing else []
    if not contradicting:
        return [], notes
    labels = [_first([f"{rows.cases_text([case])} {case.label!r}" for case in group]) for group in contradicting]
    error = TableError(
        "One nodule is entered several times, with different labels.",
        case=rows.cases_text([case for group in contradicting for case in group]),
        found=_first(labels, "; "),
        expected="one row per nodule, or rows that agree",
        remedy="Keep the row with the right label.",
    )
    return [error], notes


def _one_place(rows: _Rows) -> dict[str, list[Hashable]]:
    """For nodules of one CT of which one's centre is inside the other: a value that both share."""
    shared: defaultdict[str, list[Hashable]] = defaultdict(list)
    for group in _linked([case for case in rows.cases if case.case_id in rows.read], lambda case: [rows.ct(case)]):
        nodules = [(case.case_id, rows.read[case.case_id]) for case in group]
        for index, (case_id, nodule) in enumerate(nodules):
            for other_id, other in nodules[:index]:
                apart_mm = math.dist(nodule.center_mm_lps, other.center_mm_lps)
                if apart_mm < min(nodule.radius_mm, other.radius_mm):
                    shared[case_id].append((other_id, case_id))
                    shared[other_id].append((other_id, case_id))
    return shared


def _label_notes(cases: Iterable[Case]) -> list[str]:
    return [
        f"labels that differ in spelling only are different labels here: {_spellings_text(spellings)}"
        for spellings in _label_spellings(cases)
    ]


def _spellings_text(spellings: Counter[str]) -> str:
    counts = ", ".join(f"{label!r} in {count} row{'s' * (count > 1)}" for label, count in spellings.most_common())
    return f"{counts} (as one label: {_preferred(spellings)!r})"


def _preferred(spellings: Counter[str]) -> str:
    """A number's shortest spelling, else the most frequent one; in plain characters where there is such a spelling."""
    plain = [label for label in spellings if label.isascii()]
    labels = plain or [label for label in spellings if unicodedata.is_normalized("NFKC", label)] or list(spellings)
    if isinstance(folded_label(labels[0]), Decimal):
        return min(map(trimmed, labels), key=len)
    return trimmed(max(labels, key=lambda label: spellings[label]))


def _label_spellings(cases: Iterable[Case]) -> list[Counter[str]]:
    spellings: dict[str | Decimal, Counter[str]] = {}
    for case in cases:
        if case.label:
            spellings.setdefault(folded_label(case.label), Counter())[case.label] += 1
    return [counts for counts in spellings.values() if len(counts) > 1]


def _linked(cases: Iterable[Case], keys: Callable[[Case], Iterable[Hashable]]) -> list[list[Case]]:
    """Groups of cases of which each shares a key with another one of its group, in the order of the table."""
    cases, parent, first = list(cases), list[int](), dict[Hashable, int]()

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    for index, case in enumerate(cases):
        parent.append(index)
        for key in keys(case):
            low, high = sorted((root(index), root(first.setdefault(key, index))))
            parent[high] = low
    groups: defaultdict[int, list[Case]] = defaultdict(list)
    for index, case in enumerate(cases):
        groups[root(index)].append(case)
    return list(groups.values())


def _first(texts: Sequence[str], separator: str = ", ") -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return separator.join(texts[:_SHOWN]) + more


def _patients(cases: Iterable[Case]) -> list[str]:
    return list(dict.fromkeys(case.patient_id for case in cases if case.patient_id))
