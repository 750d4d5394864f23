"""How a training is watched, stopped and stored."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from ggn_tf.runs.stages import Stage
from ggn_tf.training.monitor import EpochResult


class Observer:
    """Receives the progress of a training, for a progress bar or TensorBoard. It changes nothing in the training."""

    def stage_started(self, stage: Stage, model: keras.Model) -> None:
        """A stage begins or resumes; `model` is the whole model."""

    def epoch_started(self, stage: Stage, epoch: int, steps: int, done: int) -> None:
        """An epoch (counted from 1) of so many steps begins; `done` of them were done before a restart."""

    def step_done(self, loss: float) -> None:
        """A step is done; its loss."""

    def epoch_done(self, stage: Stage, row: dict[str, Any], result: EpochResult) -> None:
        """An epoch is done: its row of the history, and the result on the monitored set."""

    def stage_done(self, stage: Stage, best: dict[str, Any]) -> None:
        """A stage is finished: the best epoch's row of the history."""


@dataclass(frozen=True)
class TrainOptions:
    """How a training is watched, stopped and stored. Nothing here changes its weights.

    Attributes:
        observers: Notified of every step, in their order.
        stop_requested: Called after every step. If it returns True, training stops with a checkpoint.
        checkpoint_minutes: Longest time between two checkpoints within an epoch.
        deterministic: Whether the caller requested deterministic kernels, for the ledger.
        keep_last_checkpoint: Whether the last stage can be given more epochs later; some 160 MB.
        clock: Current time in seconds, for `checkpoint_minutes`.
    """

    observers: tuple[Observer, ...] = ()
    stop_requested: Callable[[], bool] = lambda: False
    checkpoint_minutes: float = 10.0
    deterministic: bool = False
    keep_last_checkpoint: bool = True
    clock: Callable[[], float] = time.monotonic
