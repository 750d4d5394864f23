"""Synthetic nodules for reports: a ball in noise with two imperfect masks and a heat map, and case records."""

from collections.abc import Sequence

import numpy as np

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.evaluation.report_inputs import Slides
from tests.support.measured import FURTHER

SIZE = 16


def make_slides(case_ids: Sequence[str], stages: Sequence[str] = ("segment", "joint")) -> list[Slides]:
    """Slides of 16 voxels along each axis, in which no slice equals another."""
    generator = np.random.default_rng(0)
    distance = np.sqrt(np.sum((np.indices((SIZE,) * 3) - (SIZE - 1) / 2) ** 2, axis=0))
    return [
        Slides(
            case_id=case,
            reason="confident wrong prediction",
            gray=generator.integers(20, 60, (SIZE,) * 3).astype(np.uint8) + 150 * (distance < 5).astype(np.uint8),
            reference=distance < 5,
            masks={stage: distance < 4 + index for index, stage in enumerate(stages)},
            heat=np.exp(-distance / 4).astype(np.float32),
        )
        for case in case_ids
    ]


def make_records(case_ids: Sequence[str]) -> dict[str, CaseRecord]:
    """Every second nodule is 7 mm and ground glass, the others 12 mm and part-solid."""
    return {case: _record(case, large=bool(index % 2)) for index, case in enumerate(case_ids)}


def _record(case: str, *, large: bool) -> CaseRecord:
    return CaseRecord(
        case_id=case,
        patient_id="patient",
        label="MIA",
        columns={},
        spacing_mm_zyx=(1.25, 0.7, 0.7),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        center_mm_lps=(0.0, 0.0, 0.0),
        volume_mm3=500.0,
        diameter_mm=9.8,
        longest_diameter_mm=12.0 if large else 7.0,
        mean_hu=-500.0,
        solid_fraction=0.3 if large else 0.0,
        **FURTHER,
        covered_layers=32,
        covered_share=1.0,
        mask_faces=(),
    )
