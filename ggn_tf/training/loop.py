"""The training loop of one stage, step by step, so that it can stop after any step and go on bit for bit.

Keras's own `fit` is not used: it forgets best scores, dropout and shuffle states between processes, and keeps to the
`trainable` flags of its first trace.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from ggn_tf.dataset.pipeline import CaseStream
from ggn_tf.errors import RunError
from ggn_tf.protocol import AugmentationProtocol, TrainingProtocol
from ggn_tf.runs.checkpoints import Checkpoint
from ggn_tf.runs.stages import Stage
from ggn_tf.training import schedule
from ggn_tf.training.distributed.replicas import ONE_REPLICA, Replicas
from ggn_tf.training.distributed.shared_run import SharedStore
from ggn_tf.training.monitor import Monitored, monitor_by
from ggn_tf.training.observers import Observer
from ggn_tf.training.schedule import EpochScore
from ggn_tf.training.step import TrainStep

SUMS = ("loss", "classification_loss", "dice_loss")


@dataclass
class Progress:
    """Counters of a stage, all that a restart needs beside the variables.

    Attributes:
        step: Steps done in the epoch under way.
        sums: Sums of the losses over these steps' cases.
        cases: How many cases they held.
        rows: A line of the history for each finished epoch.
        scores: (score, loss) of each finished epoch on the monitored set.
    """

    step: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SUMS, 0.0))
    cases: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    scores: list[EpochScore] = field(default_factory=list)

    def begin_epoch(self) -> None:
        """Forget the finished epoch's sums."""
        self.step, self.cases, self.sums = 0, 0, dict.fromkeys(SUMS, 0.0)


class StageLoop:
    """Trains one stage of a model.

    Args:
        model: The whole model, with the weights that the stage starts from.
        stage: What is trained, and how.
        protocol: Batch size, learning rates, lengths.
        augmentation: Of the training cases.
        training: The training cases.
        monitored: The cases that select the weights.
        monitored_set: Their set's name, for the history's columns.
        seed: Of order and augmentation.
        store: Where checkpoints go.
        observer: Told of every step.
        record: Given the stage's history after every epoch.
        stop_requested: Asked after every step; when it says yes, a checkpoint is written and KeyboardInterrupt raised.
        checkpoint_minutes: A checkpoint is also written within an epoch, this often.
        clock: Seconds, for `checkpoint_minutes`.
        replicas: Who trains, together.
    """

    def __init__(
        self,
        model: keras.Model,
        stage: Stage,
        protocol: TrainingProtocol,
        augmentation: AugmentationProtocol,
        training: CaseStream,
        monitored: CaseStream,
        *,
        monitored_set: str,
        seed: int,
        store: SharedStore,
        observer: Observer,
        record: Callable[[list[dict[str, Any]]], None],
        stop_requested: Callable[[], bool] = lambda: False,
        checkpoint_minutes: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        replicas: Replicas = ONE_REPLICA,
    ) -> None:
        """Freeze what the stage freezes, and go to where its last checkpoint stands."""
        self._model, self._stage, self._protocol, self._augmentation = model, stage, protocol, augmentation
        self._training, self._seed, self._store, self._record = training, seed, store, record
        self._monitored_set, self._observer, self._stop_requested = monitored_set, observer, stop_requested
        self._checkpoint_seconds, self._clock = 60 * checkpoint_minutes, clock
        self._replicas = replicas
        self._train_step = TrainStep(model, stage, protocol, replicas)
        self._optimizer = self._train_step.optimizer
        self._monitor = monitor_by(model, stage, monitored, protocol, replicas)
        self._best: list[np.ndarray] = []
        self.progress = Progress()
        self._restore()

    def run(self) -> str:
        """Train to the stage's end and leave the best weights in the model.

        Returns:
            Why it ended.

        Raises:
            KeyboardInterrupt: `stop_requested` said yes; a checkpoint is written.
            RunError: The loss is no longer a finite number.
        """
        numbers = self._stage.numbers(self._protocol)
        while (reason := schedule.stop_reason(numbers, self.progress.scores)) is None:
            learning_rate = schedule.learning_rate(numbers, self.progress.scores)
            self._optimizer.learning_rate.assign(learning_rate)
            self._train_epoch()
            self._close_epoch(learning_rate, self._monitor())
        for variable, best in zip(self._model.variables, self._best, strict=True):
            variable.assign(best)
        return reason

    def _train_epoch(self) -> None:
        progress = self.progress
        sizes, epoch = self._training.batch_sizes(self._protocol.batch_size), len(progress.rows)
        self._observer.epoch_started(self._stage, epoch + 1, len(sizes), progress.step)
        written = self._clock()
        for batch in self._replicas.epoch(
            self._training, self._protocol.batch_size, self._seed, epoch, self._augmentation, progress.step
        ):
            losses = [float(value) for value in self._train_step(batch)]
            self._check_finite(losses[0])
            cases = sizes[progress.step]
            progress.step, progress.cases = progress.step + 1, progress.cases + cases
            progress.sums = {
                name: progress.sums[name] + value * cases for name, value in zip(SUMS, losses, strict=True)
            }
            self._observer.step_done(losses[0])
            stopping = self._replicas.any(self._stop_requested())
            if stopping or self._clock() - written > self._checkpoint_seconds:
                self._save()
                written = self._clock()
            if stopping:
                raise KeyboardInterrupt

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise RunError(
                f"Training diverged: the loss of stage {self._stage.name} is not a finite number.",
                case=f"epoch {len(self.progress.rows) + 1}, step {self.progress.step + 1}",
                found=loss,
                expected="a finite loss",
                remedy="Begin another run (-o) with smaller --learning-rates, or with --precision float32.",
            )

    def _close_epoch(self, learning_rate: float, monitored: Monitored) -> None:
        progress = self.progress
        means = {name: total / progress.cases for name, total in progress.sums.items()}
        row = {
            "stage": self._stage.name,
            "epoch": len(progress.rows) + 1,
            "learning_rate": learning_rate,
            "loss": means["loss"],
            "classification_loss": means["classification_loss"] if "probabilities" in self._stage.losses else None,
            "dice_loss": means["dice_loss"] if "mask" in self._stage.losses else None,
            f"{self._monitored_set}_loss": monitored.loss,
            f"{self._monitored_set}_dice": monitored.dice,
            f"{self._monitored_set}_accuracy": monitored.accuracy,
        }
        progress.rows.append(row)
        progress.scores.append(monitored.epoch_score(self._stage))
        if schedule.best_epoch(progress.scores) == len(progress.scores) - 1:
            self._best = [variable.numpy() for variable in self._model.variables]
        progress.begin_epoch()
        self._save()
        self._record(progress.rows)
        self._observer.epoch_done(self._stage, row, monitored)

    def _save(self) -> None:
        if not self._store.writes:
            return
        arrays = {f"model/{i}": variable.numpy() for i, variable in enumerate(self._model.variables)}
        arrays |= {f"optimizer/{i}": variable.numpy() for i, variable in enumerate(self._optimizer.variables)}
        arrays |= {f"best/{i}": array for i, array in enumerate(self._best)}
        self._store.write(Checkpoint(dict(vars(self.progress)), arrays))

    def _restore(self) -> None:
        checkpoint = self._store.latest()
        if checkpoint is None:
            return
        self.progress = Progress(**checkpoint.progress)
        self.progress.scores = [EpochScore(*score) for score in self.progress.scores]
        for prefix, variables in (("model", self._model.variables), ("optimizer", self._optimizer.variables)):
            for i, variable in enumerate(variables):
                variable.assign(checkpoint.arrays[f"{prefix}/{i}"])
        count = sum(name.startswith("best/") for name in checkpoint.arrays)
        self._best = [checkpoint.arrays[f"best/{i}"] for i in range(count)]
