"""The outcome of preparing a case: it is accepted into the dataset, or rejected."""

from dataclasses import dataclass

import numpy as np

from ggn_tf.cases.field_of_view import field_of_view_of
from ggn_tf.cases.lung_context import lung_context_of
from ggn_tf.cases.patches import Patch
from ggn_tf.cases.tables.table import Case
from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.identity import Pseudonyms
from ggn_tf.dataset.records import digest_patch
from ggn_tf.errors import GgnError


@dataclass(frozen=True)
class AcceptedCase:
    """A case that goes into the dataset.

    Attributes:
        record: Its record; shard and offset are filled in when it is written.
        hu: float32, z, y, x, `PatchProtocol.stored_zyx` voxels, Hounsfield units, not windowed.
        mask: uint8 of the same shape, 0 or 1.
        radiomics: Radiomic features on the CT's own voxels, if they were measured.
        in_lung: Whether there is lung around the nodule.
        series: SeriesInstanceUID of the CT, which no dataset contains; None for a volume file.
        ct_digests: As in `Patch`; no dataset contains them.
    """

    record: CaseRecord
    hu: np.ndarray
    mask: np.ndarray
    radiomics: dict[str, float] | None = None
    in_lung: bool = True
    series: str | None = None
    ct_digests: tuple[str, ...] = ()


@dataclass(frozen=True)
class RejectedCase:
    """A case that does not go into the dataset, and why, without anything that identifies a patient."""

    case_id: str
    reason: str
    remedy: str


def outcome_of(
    case: Case, patch: Patch | GgnError, pseudonyms: Pseudonyms, hidden_columns: set[str]
) -> AcceptedCase | RejectedCase:
    """The outcome of a case whose patch was cut, or could not be.

    Raises:
        ValueError: The patch has no mask.
    """
    case_id = pseudonyms.id_of(case.case_id)
    if isinstance(patch, GgnError):
        return RejectedCase(
            case_id, _reason(patch, case, pseudonyms), pseudonyms.hide(patch.parts()["remedy"] or "", case)
        )
    if patch.stored_hu is None or patch.stored_mask is None or patch.measurements is None:
        raise ValueError(f"Expected a patch with a mask. Received: a patch without one for case {case.case_id}")
    record = CaseRecord(
        case_id=case_id,
        patient_id=pseudonyms.id_of(case.patient_id),
        label=case.label,
        columns={column: text for column, text in case.extra.items() if column not in hidden_columns},
        spacing_mm_zyx=patch.ct_grid.spacing_mm_zyx,
        direction=patch.ct_grid.direction,
        center_mm_lps=patch.center_mm_lps,
        **field_of_view_of(patch)._asdict(),
        repaired=tuple(pseudonyms.hide(note, case) for note in patch.repaired),
        digest=digest_patch(patch.stored_hu, patch.stored_mask),
        **patch.measurements._asdict(),
    )
    around = lung_context_of(patch)
    in_lung = not (around.no_lung or around.below_air)
    return AcceptedCase(
        record, patch.stored_hu, patch.stored_mask, patch.radiomics, in_lung, patch.series, patch.ct_digests
    )


def _reason(error: GgnError, case: Case, pseudonyms: Pseudonyms) -> str:
    """What is wrong; what was found only where ids are kept.

    What was found may quote a series description, a segment's name or a header's value: each may be a patient's name.
    """
    what, found, expected = error.what.rstrip("."), error.found, error.expected
    if pseudonyms.salt is not None:
        what, found = pseudonyms.hide(what, case), None
        expected = expected if expected is None or pseudonyms.hide(expected, case) == expected else None
    named = (("", what), ("found: ", found), ("expected: ", expected))
    return "; ".join(name + text for name, text in named if text is not None)
