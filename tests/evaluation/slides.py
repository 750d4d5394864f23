"""Gallery nodules made in code: a ball in noise, two masks that miss it a little, and evidence in its middle."""

from collections.abc import Sequence

import numpy as np

from ggn_tf.evaluation.gallery import Slides

SIZE = 16


def make_slides(case_ids: Sequence[str], stages: Sequence[str] = ("segment", "joint")) -> list[Slides]:
    """Slides of 16 voxels along each axis, in which no slice equals another."""
    generator = np.random.default_rng(0)
    distance = np.sqrt(np.sum((np.indices((SIZE,) * 3) - (SIZE - 1) / 2) ** 2, axis=0))
    return [
        Slides(
            case_id=case,
            reason="surely wrong",
            gray=generator.integers(20, 60, (SIZE,) * 3).astype(np.uint8) + 150 * (distance < 5).astype(np.uint8),
            reference=distance < 5,
            masks={stage: distance < 4 + index for index, stage in enumerate(stages)},
            heat=np.exp(-distance / 4).astype(np.float32),
        )
        for case in case_ids
    ]
