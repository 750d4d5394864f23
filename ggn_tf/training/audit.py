"""The audit of a stage: how much every variable changed, and that frozen parts did not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ggn_tf.errors import RunError
from ggn_tf.models.named_layers import named_layers
from ggn_tf.runs.stages import Stage, parts_of

_STATISTICS = ("moving_mean", "moving_variance")


@dataclass(frozen=True)
class Change:
    """How much the elements of one variable, for example `segmentation/conv_1/kernel`, changed during a stage."""

    part: str
    variable: str
    largest: float
    mean: float
    frozen: bool


def snapshot(model: keras.Model) -> dict[str, list[np.ndarray]]:
    """Copies of the weights and batch-norm statistics of every part of the model."""
    return {name: [np.array(weight) for weight in part.get_weights()] for name, part in parts_of(model).items()}


def audit_stage(
    model: keras.Model, stage: Stage, before: Mapping[str, list[np.ndarray]], frozen: Iterable[str] = ()
) -> list[Change]:
    """Measure every variable's change, statistics included, and check it against what the stage trains.

    A frozen part or layer must not change, including its batch-norm statistics. In a trained part the statistics and
    every kernel must change: even a kernel without a gradient shrinks, by the L2 term.

    Raises:
        RunError: A frozen variable changed, or a trained one did not.
    """
    layers = named_layers(model)
    fixed = {id(weight) for name in frozen for weight in layers[name].weights}
    changes = [
        _change(name, weight, old, frozen=name not in stage.trains or id(weight) in fixed)
        for name, part in parts_of(model).items()
        for weight, old in zip(part.weights, before[name], strict=True)
    ]
    for change in changes:
        must_move = not change.frozen and change.variable.rsplit("/", 1)[-1] in (*_STATISTICS, "kernel")
        if (change.largest != 0 and change.frozen) or (change.largest == 0 and must_move):
            raise RunError(
                f"Stage {stage.name} changed a frozen variable or left a trained one unchanged.",
                case=change.variable,
                found=f"its largest change is {change.largest:g}",
                expected="no change: it is frozen in this stage" if change.frozen else "some change",
                remedy="Nothing of this stage was saved. Please report it as a bug, with run.json.",
            )
    return changes


def summarise(changes: list[Change]) -> dict[str, Any]:
    """For the ledger: the largest change of each part, and of each variable the largest and the mean."""
    parts = dict.fromkeys(change.part for change in changes)
    return {
        "largest_change": {part: max(change.largest for change in changes if change.part == part) for part in parts},
        "changes": {change.variable: {"largest": change.largest, "mean": change.mean} for change in changes},
    }


def _change(part: str, weight: keras.Variable, before: np.ndarray, *, frozen: bool) -> Change:
    moved = np.abs(np.asarray(weight.numpy(), np.float64) - before)
    return Change(part, f"{part}/{weight.path}", float(moved.max()), float(moved.mean()), frozen)
