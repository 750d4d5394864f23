"""Observers: callbacks about the progress of a training."""

from collections.abc import Sequence
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


class Observers(Observer):
    """Several observers as one, notified in their order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def stage_started(self, stage: Stage, model: keras.Model) -> None:
        """Notify each."""
        for observer in self._observers:
            observer.stage_started(stage, model)

    def epoch_started(self, stage: Stage, epoch: int, steps: int, done: int) -> None:
        """Notify each."""
        for observer in self._observers:
            observer.epoch_started(stage, epoch, steps, done)

    def step_done(self, loss: float) -> None:
        """Notify each."""
        for observer in self._observers:
            observer.step_done(loss)

    def epoch_done(self, stage: Stage, row: dict[str, Any], result: EpochResult) -> None:
        """Notify each."""
        for observer in self._observers:
            observer.epoch_done(stage, row, result)

    def stage_done(self, stage: Stage, best: dict[str, Any]) -> None:
        """Notify each."""
        for observer in self._observers:
            observer.stage_done(stage, best)
