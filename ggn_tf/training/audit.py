"""The audit of a stage: which variables moved, by how much, and that what was frozen stood still."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ggn_tf.errors import RunError
from ggn_tf.runs.stages import Stage, parts_of

_STATISTICS = ("moving_mean", "moving_variance")


@dataclass(frozen=True)
class Change:
    """How far one variable moved during a stage.

    Attributes:
        part: The part of the model that it belongs to.
        variable: Its path, for example `segmentation/conv_1/kernel`.
        largest: Largest change of an element.
        mean: Mean change of its elements.
    """

    part: str
    variable: str
    largest: float
    mean: float


def snapshot(model: keras.Model) -> dict[str, list[np.ndarray]]:
    """Copies of the weights and batch-norm statistics of every part of the model."""
    return {name: [np.array(weight) for weight in part.get_weights()] for name, part in parts_of(model).items()}


def audit_stage(model: keras.Model, stage: Stage, before: Mapping[str, list[np.ndarray]]) -> list[Change]:
    """Measure every variable's change, and hold it against what the stage may move.

    Nothing of a frozen part may move, batch-norm statistics included. Of a trained part the statistics and every kernel
    must: even a kernel without a gradient shrinks, by the L2 term.

    Args:
        model: After the stage.
        stage: What should have moved.
        before: `snapshot` from before the stage.

    Returns:
        A change a variable, statistics included.

    Raises:
        RunError: A frozen variable moved, or one that is trained did not.
    """
    changes = [
        _change(name, weight, old)
        for name, part in parts_of(model).items()
        for weight, old in zip(part.weights, before[name], strict=True)
    ]
    for change in changes:
        trained = change.part in stage.trains
        must_move = trained and change.variable.rsplit("/", 1)[-1] in (*_STATISTICS, "kernel")
        if (change.largest != 0 and not trained) or (change.largest == 0 and must_move):
            raise RunError(
                f"Stage {stage.name} broke its promise about {change.part}.",
                case=change.variable,
                found=f"its largest change is {change.largest:g}",
                expected="some change" if trained else "no change: it is frozen in this stage",
                remedy="Nothing was kept of this stage. Report it, with run.json.",
            )
    return changes


def summarise(changes: list[Change]) -> dict[str, Any]:
    """For the ledger: the largest change of each part, and of each variable the largest and the mean."""
    parts = dict.fromkeys(change.part for change in changes)
    return {
        "largest_change": {part: max(change.largest for change in changes if change.part == part) for part in parts},
        "changes": {change.variable: {"largest": change.largest, "mean": change.mean} for change in changes},
    }


def _change(part: str, weight: keras.Variable, before: np.ndarray) -> Change:
    moved = np.abs(np.asarray(weight.numpy(), np.float64) - before)
    return Change(part, f"{part}/{weight.path}", float(moved.max()), float(moved.mean()))
