"""Synthetic nodules for reports: a ball in noise with two imperfect masks and a heat map, and case records."""

from collections.abc import Sequence

import numpy as np

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.evaluation.report_inputs import Slides
from tests.support.measured import case_record

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
    known = {"patient_id": "patient", "volume_mm3": 500.0, "diameter_mm": 9.8, "mean_hu": -500.0}
    sizes = ({"longest_diameter_mm": 7.0, "solid_fraction": 0.0}, {"longest_diameter_mm": 12.0, "solid_fraction": 0.3})
    return {case: case_record(case_id=case, **known, **sizes[index % 2]) for index, case in enumerate(case_ids)}
