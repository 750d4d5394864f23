"""Those who watch a run while it trains."""

from collections.abc import Sequence
from typing import Any

import keras

from ggn_tf.runs.stages import Stage
from ggn_tf.training.monitor import Monitored


class Observer:
    """Watches a run: a progress bar, TensorBoard. It changes nothing; what it does not want to know it leaves out."""

    def stage_started(self, stage: Stage, model: keras.Model) -> None:
        """A stage begins, or goes on after a restart; the whole model."""

    def epoch_started(self, stage: Stage, epoch: int, steps: int, done: int) -> None:
        """An epoch (from 1) of so many steps begins, `done` of them before a restart."""

    def step_done(self, loss: float) -> None:
        """A step is done; its loss."""

    def epoch_done(self, stage: Stage, row: dict[str, Any], monitored: Monitored) -> None:
        """An epoch is done: its line of the history, and what was monitored."""

    def stage_done(self, stage: Stage, best: dict[str, Any]) -> None:
        """A stage is finished: its best epoch's line of the history."""


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        """Told in this order."""
        self._observers = observers

    def stage_started(self, stage: Stage, model: keras.Model) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.stage_started(stage, model)

    def epoch_started(self, stage: Stage, epoch: int, steps: int, done: int) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.epoch_started(stage, epoch, steps, done)

    def step_done(self, loss: float) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.step_done(loss)

    def epoch_done(self, stage: Stage, row: dict[str, Any], monitored: Monitored) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.epoch_done(stage, row, monitored)

    def stage_done(self, stage: Stage, best: dict[str, Any]) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.stage_done(stage, best)
