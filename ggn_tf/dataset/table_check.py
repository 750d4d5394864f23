"""Checks a case table, case by case and as a whole, without writing a dataset and without TensorFlow."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ggn_tf.cases.measurements import Measurements
from ggn_tf.cases.patches import Patch
from ggn_tf.cases.table import Case
from ggn_tf.dataset.case_outcome import AcceptedCase, RejectedCase, outcome_of
from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.identity import Pseudonyms
from ggn_tf.dataset.records import digest_patch, duplicate_patches
from ggn_tf.dataset.splits import make_splits, scarce_labels
from ggn_tf.errors import GgnError, SplitError
from ggn_tf.protocol import SplitProtocol

USABLE, REJECTED = "usable", "rejected"
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
            **{name: None if record is None else getattr(record, name) for name in Measurements._fields},
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

    Args:
        case: The row of the table.
        patch: Its patch with the mask, or the error that rejects it.

    Returns:
        The finding; and the case as a dataset would store it, or None where it is rejected.
    """
    outcome = outcome_of(case, patch, _REAL_IDS, set())
    if isinstance(outcome, RejectedCase):
        return Finding(case, rejection=outcome, error=patch if isinstance(patch, GgnError) else None), None
    record = dataclasses.replace(outcome.record, digest=digest_patch(outcome.hu, outcome.mask))
    return Finding(case, record, in_lung=outcome.in_lung), outcome


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
    """Warnings to read before training.

    Args:
        cases: The usable cases.
        hidden: Columns of the table that the dataset leaves out.
        outside_lung: Ids of usable cases without lung around the nodule.
    """
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
        *(
            f"the same patch under several patients, so it may be in two sets: {', '.join(copies)}"
            for copies in duplicate_patches(cases)
        ),
    ]


def records_of(findings: Iterable[Finding]) -> list[CaseRecord]:
    """The records of the usable cases."""
    return [finding.record for finding in findings if finding.record is not None]


def _count(findings: Sequence[Finding]) -> LabelCounts:
    records = records_of(findings)
    return LabelCounts(len(findings), len(records), len({record.patient_id for record in records}))
