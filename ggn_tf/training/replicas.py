"""Who trains a run: one device in one process. `ggn_tf.training.distributed` has several that share every batch."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch, CaseStream
from ggn_tf.protocol import AugmentationProtocol
from ggn_tf.runs.checkpoints import Checkpoint

Step = Callable[[Batch], tuple[tf.Tensor, ...]]


class Replicas:
    """One device in one process, and the interface of several.

    Attributes:
        count: Number of replicas over all processes. Each has a copy of the model and a share of every batch.
        is_chief: Whether this process reads and writes the run folder. One process does.
    """

    count = 1
    is_chief = True

    def scope(self) -> AbstractContextManager[Any]:
        """The block within which variables are made for every replica."""
        return nullcontext()

    def model(self, build: Callable[[], keras.Model], load: Callable[[], keras.Model] | None) -> keras.Model:
        """The model that a stage starts from, with the chief's weights in every process.

        `load`, called only in the chief, loads it with the weights to start from; without it the weights are initial.
        """
        return load() if load else build()

    def traced(self, step: Step) -> Callable[[Any], tuple[tf.Tensor, ...]]:
        """Turn the step of a replica, which takes its share, into one of all, which takes what `epoch` yields."""
        return tf.function(step, reduce_retracing=True, autograph=False)

    def epoch(
        self,
        stream: CaseStream,
        batch_size: int,
        seed: int,
        epoch: int,
        augmentation: AugmentationProtocol,
        shift_mm: float,
        skip: int,
    ) -> Iterable[Any]:
        """This process's part of every batch of an epoch; arguments as of `CaseStream.training_epoch`."""
        return stream.training_epoch(batch_size, seed, epoch, augmentation, shift_mm=shift_mm, skip=skip)

    def part(self, cases: int) -> tuple[int, int]:
        """First and last (exclusive) of the cases that this process predicts, of so many."""
        return 0, cases

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum of an array over all processes, the same on each; all must call it, with one shape and type."""
        return values

    def any(self, flag: bool) -> bool:
        """Whether a flag is set in any process; all must call it, so that they also wait for each other."""
        return bool(self.sum(np.array([flag], np.int32))[0])

    def from_chief(self, read: Callable[[], Checkpoint | None]) -> Checkpoint | None:
        """What `read` returns in the chief, in every process; all must call it."""
        return read()

    def require_same(self, settings: Mapping[str, Any]) -> None:
        """Raise RunError if processes train with other settings, and would wait for each other; all must call it."""


ONE_REPLICA = Replicas()
