"""Checks a case table, case by case and as a whole, without writing a dataset and without TensorFlow."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ggn_tf.cases.field_of_view import FIRST_SLICE, LAST_SLICE, MOST_OUTSIDE
from ggn_tf.cases.measurements import Measurements
from ggn_tf.cases.patches import Patch
from ggn_tf.cases.tables.table import EXPECTED_OF_ROWS, Case
from ggn_tf.cases.tables.table_consistency import ReadNodule
from ggn_tf.dataset.case_outcome import AcceptedCase, RejectedCase, outcome_of
from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.identity import Pseudonyms
from ggn_tf.dataset.splits import make_splits, scarce_labels
from ggn_tf.errors import GgnError, SplitError, TableError
from ggn_tf.protocol import SplitProtocol

USABLE, REJECTED = "usable", "rejected"
_MEASURED = (*Measurements._fields, "covered_layers", "covered_share")
# A note names this many cases; all of them are in the records.
_NAMED = 20
# Share of cases at an end of their CT that cannot be chance: of the nodules of LIDC-IDRI in cubes of 50 mm it is 1.3 %.
_MOST_CUT = 0.25
_REAL_IDS = Pseudonyms(None)


@dataclass(frozen=True)
class Finding:
    """The result of checking a case.

    Attributes:
        case: The row of the table.
        record: Its measurements; None where it is rejected.
        rejection: The reason, as in `rejected.csv`; None where it is usable.
        error: The same with the file in which it was found.
        in_lung: Whether there is lung around a usable nodule.
    """

    case: Case
    record: CaseRecord | None = None
    rejection: RejectedCase | None = None
    error: GgnError | None = None
    in_lung: bool = True

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON types; what is unknown about a rejected case is None."""
        record, rejection = self.record, self.rejection
        return {
            "case_id": self.case.case_id,
            "patient_id": self.case.patient_id,
            "label": self.case.label,
            "status": USABLE if rejection is None else REJECTED,
            "spacing_mm_xyz": None if record is None else list(record.spacing_mm_zyx[::-1]),
            "center_mm_lps": None if record is None else list(record.center_mm_lps),
            **{name: None if record is None else getattr(record, name) for name in _MEASURED},
            "mask_faces": None if record is None else list(record.mask_faces),
            "repaired": None if record is None else list(record.repaired),
            "reason": None if rejection is None else rejection.reason,
            "remedy": None if rejection is None else rejection.remedy,
        }


@dataclass(frozen=True)
class LabelCounts:
    """Numbers of a label's cases, of its usable cases, and of their patients."""

    cases: int
    usable: int
    patients: int


def examine_case(case: Case, patch: Patch | GgnError) -> tuple[Finding, AcceptedCase | None]:
    """Check one case.

    Returns:
        The finding; and the case as a dataset would store it, or None where it is rejected.
    """
    outcome = outcome_of(case, patch, _REAL_IDS, set())
    if isinstance(outcome, RejectedCase):
        return Finding(case, rejection=outcome, error=patch if isinstance(patch, GgnError) else None), None
    return Finding(case, outcome.record, in_lung=outcome.in_lung), outcome


def unusable_row(case: Case, row: int, problems: Sequence[str]) -> Finding:
    """The finding of a row of the table that cannot be used."""
    error = TableError(
        "The row of the case table cannot be used.",
        case=f"row {row}" + (f" ({case.case_id})" if case.case_id else ""),
        found=", ".join(problems),
        expected=EXPECTED_OF_ROWS,
        remedy="Correct the row.",
    )
    case = dataclasses.replace(case, case_id=case.case_id or f"row {row}")
    rejection = RejectedCase(case.case_id, f"{error.what.rstrip('.')}; found: {error.found}", "Correct the row.")
    return Finding(case, rejection=rejection, error=error)


def nodule_of(outcome: AcceptedCase) -> ReadNodule:
    """What the consistency check needs to know about a case that was read."""
    record = outcome.record
    return ReadNodule(outcome.series, record.center_mm_lps, record.diameter_mm / 2, record.digest, outcome.ct_digests)


def count_labels(findings: Iterable[Finding]) -> dict[str, LabelCounts]:
    """The counts of every label, sorted by label."""
    by_label: dict[str, list[Finding]] = {}
    for finding in findings:
        by_label.setdefault(finding.case.label, []).append(finding)
    return {label: _count(same_label) for label, same_label in sorted(by_label.items())}


def problems_of(findings: Sequence[Finding], protocol: SplitProtocol) -> list[GgnError]:
    """Why the usable cases cannot form a dataset: they cannot be split."""
    records = records_of(findings)
    try:
        make_splits(records, protocol, protocol.splits, protocol.seed)
    except SplitError as error:
        return [error]
    return []


def hidden_columns(findings: Sequence[Finding]) -> set[str]:
    """The table's columns that a dataset with hashed ids leaves out."""
    # Which columns identify somebody does not depend on the salt.
    return Pseudonyms(b"any").identifying_columns([finding.case for finding in findings])


def notes_on(cases: Sequence[CaseRecord], hidden: set[str], outside_lung: Sequence[str]) -> list[str]:
    """Warnings about usable cases, to read before training; `hidden` columns are not in the dataset."""
    left_out = [f"columns that name cases, patients or files are left out of the dataset: {', '.join(sorted(hidden))}"]
    strange = (
        f"no lung around the {'nodule' if len(outside_lung) == 1 else 'nodules'} of {', '.join(outside_lung)}: "
        "check that the mask is on the nodule and that the CT is in Hounsfield units"
    )
    return [
        *(left_out if hidden else []),
        *([strange] if outside_lung else []),
        *(
            f"label {label} has {count} usable {'patient' if count == 1 else 'patients'}: not in every set"
            for label, count in scarce_labels(cases).items()
        ),
        *field_of_view_notes(cases),
    ]


def field_of_view_notes(cases: Sequence[CaseRecord]) -> list[str]:
    """Notes on the cases whose mask touches an end of the CT, or whose patch is partly outside it, with totals.

    The network sees where the CT ends. If it was cropped at the mask, this shows the nodule's size, and with it the
    diagnosis.
    """
    ends = [case.case_id for case in cases if {FIRST_SLICE, LAST_SLICE} & set(case.mask_faces)]
    sides = [case.case_id for case in cases if case.mask_faces and case.case_id not in set(ends)]
    outside = [case.case_id for case in cases if case.covered_share < 1 - MOST_OUTSIDE]
    texts = (
        (ends, "the mask touches the first or last slice of the CT"),
        (sides, "the mask touches a side of the CT, but neither the first nor the last slice"),
        (outside, f"more than {MOST_OUTSIDE:.0%} of the patch is outside the CT"),
    )
    notes = [f"{text} in {len(found)} of {len(cases)} cases: {_names(found)}" for found, text in texts if found]
    if len({*ends, *sides, *outside}) > _MOST_CUT * len(cases):
        notes.append(
            "scores on this dataset cannot be trusted unless the extent of the CTs is independent of the labels: the "
            "network sees where a CT ends. An evaluation measures what this alone predicts"
        )
    return notes


def _names(case_ids: Sequence[str]) -> str:
    more = len(case_ids) - _NAMED
    return ", ".join(case_ids[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def records_of(findings: Iterable[Finding]) -> list[CaseRecord]:
    """The records of the usable cases."""
    return [finding.record for finding in findings if finding.record is not None]


def _count(findings: Sequence[Finding]) -> LabelCounts:
    records = records_of(findings)
    return LabelCounts(len(findings), len(records), len({record.patient_id for record in records}))
