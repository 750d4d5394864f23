"""The audit of a stage: which variables moved, by how much, and that what was frozen stood still."""

from collections.abc import Mapping

import keras
import numpy as np

from ggn_tf.errors import RunError
from ggn_tf.training.stages import Stage, parts_of


def snapshot(model: keras.Model) -> dict[str, list[np.ndarray]]:
    """Copies of the weights and batch-norm statistics of every part of the model."""
    return {name: [np.array(weight) for weight in part.get_weights()] for name, part in parts_of(model).items()}


def audit_stage(model: keras.Model, stage: Stage, before: Mapping[str, list[np.ndarray]]) -> dict[str, float]:
    """The largest change of any weight or statistic, by part.

    Args:
        model: After the stage.
        stage: What should have moved.
        before: `snapshot` from before the stage.

    Raises:
        RunError: A frozen part moved, or a trained one did not.
    """
    moved = {name: _largest_change(part.get_weights(), before[name]) for name, part in parts_of(model).items()}
    for part, change in moved.items():
        if (change > 0) != (part in stage.trains):
            raise RunError(
                f"Stage {stage.name} broke its promise about {part}.",
                case=part,
                found=f"its largest change is {change:g}",
                expected="some change" if part in stage.trains else "no change: it is frozen in this stage",
                remedy="Nothing was kept of this stage. Report it, with run.json.",
            )
    return moved


def _largest_change(after: list[np.ndarray], before: list[np.ndarray]) -> float:
    return max(float(np.max(np.abs(np.asarray(a) - b))) for a, b in zip(after, before, strict=True))
