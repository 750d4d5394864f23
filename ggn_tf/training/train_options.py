"""How a training is watched, stopped and stored."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ggn_tf.training.observers import Observer


@dataclass(frozen=True)
class TrainOptions:
    """How a training is watched, stopped and stored. Nothing here changes its weights.

    Attributes:
        observer: Notified of every step.
        stop_requested: Called after every step. If it returns True, training stops with a checkpoint.
        checkpoint_minutes: Longest time between two checkpoints within an epoch.
        deterministic: Whether the caller requested deterministic kernels, for the ledger.
        keep_last_checkpoint: Whether the last stage can be given more epochs later; some 160 MB.
        clock: Current time in seconds, for `checkpoint_minutes`.
    """

    observer: Observer = field(default_factory=Observer)
    stop_requested: Callable[[], bool] = lambda: False
    checkpoint_minutes: float = 10.0
    deterministic: bool = False
    keep_last_checkpoint: bool = True
    clock: Callable[[], float] = time.monotonic
