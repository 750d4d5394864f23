"""The training loop of one stage, step by step, so that it can stop after any step and resume with the same bits.

Keras's own `fit` is not used: it forgets best scores, dropout and shuffle states between processes, and keeps to the
`trainable` flags of its first trace.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from ggn_tf.dataset.pipeline import CaseStream, read_batches
from ggn_tf.errors import RecordError, RunError
from ggn_tf.json_records import from_json
from ggn_tf.protocol import Protocol
from ggn_tf.runs.checkpoints import Checkpoint, CheckpointStore
from ggn_tf.runs.ledger import StopReason
from ggn_tf.runs.stages import Stage
from ggn_tf.training import monitor
from ggn_tf.training.monitor import EpochResult, EpochScore, build_monitor
from ggn_tf.training.replicas import ONE_REPLICA, Replicas
from ggn_tf.training.step import TrainStep
from ggn_tf.training.train_options import TrainOptions

SUMS = ("loss", "classification_loss", "dice_loss")


@dataclass(frozen=True)
class StageSetup:
    """What one stage trains on and how: everything that decides its weights. The monitored cases select the weights.

    The `frozen` layers stay as they are, whatever the stage trains.
    """

    stage: Stage
    protocol: Protocol
    training: CaseStream
    monitored: CaseStream
    monitored_set: str
    seed: int
    frozen: tuple[str, ...] = ()


@dataclass
class Progress:
    """Counters of a stage: all that a restart needs beside the variables.

    Steps, sums of the losses over their cases, and the number of these cases are of the current epoch; rows of the
    history and scores are of the finished ones.
    """

    step: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SUMS, 0.0))
    cases: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    scores: list[EpochScore] = field(default_factory=list)

    def begin_epoch(self) -> None:
        """Reset the sums of the finished epoch."""
        self.step, self.cases, self.sums = 0, 0, dict.fromkeys(SUMS, 0.0)


@dataclass(frozen=True)
class _StoredProgress:
    """`Progress` as a checkpoint contains it."""

    step: int
    sums: dict[str, float]
    cases: int
    rows: tuple[dict[str, Any], ...]
    scores: tuple[tuple[float, float], ...]


class StageLoop:
    """Trains one stage of a model, from its last checkpoint if it has one. Freezes what the stage does not train.

    The model has the weights that the stage starts from; `record` is given the stage's history after every epoch.
    """

    def __init__(
        self,
        model: keras.Model,
        setup: StageSetup,
        store: CheckpointStore,
        record: Callable[[list[dict[str, Any]]], None],
        options: TrainOptions,
        replicas: Replicas = ONE_REPLICA,
    ) -> None:
        self._model, self._setup, self._options, self._replicas = model, setup, options, replicas
        self._store, self._record = store, record
        training = setup.protocol.training
        self._stage, self._batch_size = setup.stage, training.batch_size
        self._train_step = TrainStep(model, setup.stage, training, replicas, setup.frozen)
        self._optimizer = self._train_step.optimizer
        self._monitor = build_monitor(model, setup.stage, setup.monitored, training, replicas)
        self._best: list[np.ndarray] = []
        self.progress = Progress()
        self._restore()

    def run(self) -> StopReason:
        """Train to the stage's end, leave the best weights in the model, and return why it ended.

        Raises:
            KeyboardInterrupt: A stop was requested; a checkpoint is written.
            RunError: The loss is no longer a finite number.
        """
        numbers = self._stage.numbers(self._setup.protocol.training)
        while (reason := monitor.stop_reason(numbers, self.progress.scores)) is None:
            learning_rate = monitor.learning_rate(numbers, self.progress.scores)
            self._optimizer.learning_rate.assign(learning_rate)
            self._train_epoch()
            self._close_epoch(learning_rate, self._monitor())
        for variable, best in zip(self._model.variables, self._best, strict=True):
            variable.assign(best)
        return reason

    def _train_epoch(self) -> None:
        progress, setup, options = self.progress, self._setup, self._options
        sizes, epoch = setup.training.batch_sizes(self._batch_size), len(progress.rows)
        for observer in options.observers:
            observer.epoch_started(self._stage, epoch + 1, len(sizes), progress.step)
        written = options.clock()
        batches = self._replicas.epoch(
            setup.training,
            self._batch_size,
            setup.seed,
            epoch,
            setup.protocol.augmentation,
            self._stage.numbers(setup.protocol.training).shift_mm,
            progress.step,
        )
        for batch in read_batches(batches, setup.training):
            losses = [float(value) for value in self._train_step(batch)]
            self._check_finite(losses[0])
            self._count(sizes[progress.step], losses)
            for observer in options.observers:
                observer.step_done(losses[0])
            stopping = self._replicas.any(options.stop_requested())
            if stopping or options.clock() - written > 60 * options.checkpoint_minutes:
                self._save()
                written = options.clock()
            if stopping:
                raise KeyboardInterrupt

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise RunError(
                f"Training diverged: the loss of stage {self._stage.name} is not a finite number.",
                case=f"epoch {len(self.progress.rows) + 1}, step {self.progress.step + 1}",
                found=loss,
                expected="a finite loss",
                remedy="Start another run in another folder with smaller learning rates or in float32.",
                arguments=("learning_rates", "precision", "run"),
            )

    def _count(self, cases: int, losses: list[float]) -> None:
        progress = self.progress
        progress.step, progress.cases = progress.step + 1, progress.cases + cases
        progress.sums = {name: progress.sums[name] + value * cases for name, value in zip(SUMS, losses, strict=True)}

    def _close_epoch(self, learning_rate: float, result: EpochResult) -> None:
        progress, monitored_set = self.progress, self._setup.monitored_set
        selected_by = self._stage.selected_by(self._setup.protocol.training)
        score = result.epoch_score(selected_by)
        means = {name: total / progress.cases for name, total in progress.sums.items()}
        row = {
            "stage": self._stage.name,
            "epoch": len(progress.rows) + 1,
            "learning_rate": learning_rate,
            "loss": means["loss"],
            "classification_loss": means["classification_loss"] if "probabilities" in self._stage.losses else None,
            "dice_loss": means["dice_loss"] if "mask" in self._stage.losses else None,
            f"{monitored_set}_loss": result.loss,
            f"{monitored_set}_dice": result.dice,
            f"{monitored_set}_accuracy": result.accuracy,
            f"{monitored_set}_{selected_by}": getattr(result, selected_by),
        }
        progress.rows.append(row)
        progress.scores.append(score)
        if monitor.best_epoch(progress.scores) == len(progress.scores) - 1:
            self._best = [variable.numpy() for variable in self._model.variables]
        progress.begin_epoch()
        self._save()
        if self._replicas.is_chief:
            self._record(progress.rows)
        for observer in self._options.observers:
            observer.epoch_done(self._stage, row, result)

    def _save(self) -> None:
        if not self._replicas.is_chief:
            return
        arrays = {f"model/{i}": variable.numpy() for i, variable in enumerate(self._model.variables)}
        arrays |= {f"optimizer/{i}": variable.numpy() for i, variable in enumerate(self._optimizer.variables)}
        arrays |= {f"best/{i}": array for i, array in enumerate(self._best)}
        self._store.write(Checkpoint(dict(vars(self.progress)), arrays))

    def _restore(self) -> None:
        checkpoint = self._replicas.from_chief(self._store.latest)
        if checkpoint is None:
            return
        try:
            self._take(checkpoint)
        except (KeyError, TypeError, ValueError, RecordError) as error:
            found = str(error.case if isinstance(error, RecordError) else error)
            raise RunError(
                "A checkpoint of the run is of another model.",
                case=f"stage {self._stage.name}",
                found=f"{type(error).__name__}: {found[:200]}",
                expected="counters, weights and the optimizer's state of this run",
                remedy="Restore the run's checkpoints from a copy, or delete them to repeat the stage.",
            ) from error

    def _take(self, checkpoint: Checkpoint) -> None:
        stored = from_json(_StoredProgress, checkpoint.progress)
        scores = [EpochScore(*score) for score in stored.scores]
        self.progress = Progress(stored.step, stored.sums, stored.cases, list(stored.rows), scores)
        for prefix, variables in (("model", self._model.variables), ("optimizer", self._optimizer.variables)):
            for i, variable in enumerate(variables):
                variable.assign(checkpoint.arrays[f"{prefix}/{i}"])
        count = sum(name.startswith("best/") for name in checkpoint.arrays)
        self._best = [checkpoint.arrays[f"best/{i}"] for i in range(count)]
