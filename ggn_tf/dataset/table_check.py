"""What a case table holds, case by case and as a whole: known without writing a dataset, and without TensorFlow."""

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
# What `prepare` draws unless told otherwise.
_SPLITS, _SEED = 5, 0
_UNHIDDEN = Pseudonyms(None)


@dataclass(frozen=True)
class Finding:
    """What is found about a case.

    Attributes:
        case: The row of the table.
        record: Its measures; None where it is rejected.
        rejection: Why, in the words of `rejected.csv`; None where it is usable.
        error: The same with the file that it was found in.
        in_lung: Whether the values around a usable nodule are those of lung.
    """

    case: Case
    record: CaseRecord | None = None
    rejection: RejectedCase | None = None
    error: GgnError | None = None
    in_lung: bool = True

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; what is not known of a rejected case is None."""
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
    """How many cases have a label, how many of them are usable, and of how many patients those are."""

    cases: int
    usable: int
    patients: int


def examine_case(case: Case, patch: Patch | GgnError) -> tuple[Finding, AcceptedCase | None]:
    """What is found about one case, and its nodule where it is usable.

    Args:
        case: The row of the table.
        patch: With its mask; or why there is none.
    """
    outcome = outcome_of(case, patch, _UNHIDDEN, set())
    if isinstance(outcome, RejectedCase):
        return Finding(case, rejection=outcome, error=patch if isinstance(patch, GgnError) else None), None
    record = dataclasses.replace(outcome.record, digest=digest_patch(outcome.hu, outcome.mask))
    return Finding(case, record, in_lung=outcome.in_lung), outcome


def count_labels(findings: Iterable[Finding]) -> dict[str, LabelCounts]:
    """The counts of every label, sorted by label."""
    by_label: dict[str, list[Finding]] = {}
    for finding in findings:
        by_label.setdefault(finding.case.label, []).append(finding)
    return {label: _count(some) for label, some in sorted(by_label.items())}


def problems_of(findings: Sequence[Finding], protocol: SplitProtocol) -> list[GgnError]:
    """What keeps the usable cases, taken together, from becoming a dataset: they cannot be split."""
    records = records_of(findings)
    try:
        make_splits(records, protocol, _SPLITS, _SEED)
    except SplitError as error:
        return [error]
    return []


def hidden_columns(findings: Sequence[Finding]) -> set[str]:
    """The table's columns that `prepare` would leave out."""
    # Any salt: what a column tells does not depend on it.
    return Pseudonyms(b"any").identifying_columns([finding.case for finding in findings])


def notes_on(cases: Sequence[CaseRecord], hidden: set[str], outside_lung: Sequence[str]) -> list[str]:
    """What to know before training, though nothing is refused for it.

    Args:
        cases: The usable ones.
        hidden: Columns of the table that are not carried along.
        outside_lung: Ids of usable cases around which there is no lung.
    """
    columns = [f"columns that name cases, patients or files are left out of the dataset: {', '.join(sorted(hidden))}"]
    strange = (
        f"no lung around the {'nodule' if len(outside_lung) == 1 else 'nodules'} of {', '.join(outside_lung)}: "
        "is the mask in its place, and is the CT in Hounsfield units?"
    )
    return [
        *(columns if hidden else []),
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
    """Of the usable cases."""
    return [finding.record for finding in findings if finding.record is not None]


def _count(findings: Sequence[Finding]) -> LabelCounts:
    records = records_of(findings)
    return LabelCounts(len(findings), len(records), len({record.patient_id for record in records}))
