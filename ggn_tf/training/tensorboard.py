"""TensorBoard's event files of a run: scalars a stage, and mask overlays."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ggn_tf.training.monitor import Monitored
from ggn_tf.training.stages import Stage

_OVERLAYS = 4


class EventWriter:
    """An observer of the loop that writes `tensorboard/<stage>`.

    Args:
        folder: The run's tensorboard folder.
    """

    def __init__(self, folder: Path) -> None:
        """See the class."""
        self._folder = folder
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def epoch_started(self, stage: Stage, epoch: int, steps: int, done: int) -> None:
        """Nothing to write yet."""

    def step_done(self, loss: float) -> None:
        """Steps are not written: an epoch is some twenty of them."""

    def epoch_done(self, stage: Stage, row: dict[str, Any], monitored: Monitored) -> None:
        """Write the epoch's scalars and the first monitored cases with both masks."""
        if stage.name not in self._writers:
            self._writers[stage.name] = tf.summary.create_file_writer(str(self._folder / stage.name))
        with self._writers[stage.name].as_default(step=row["epoch"]):
            for name, value in row.items():
                if isinstance(value, float):
                    tf.summary.scalar(name, value)
            if monitored.sample_mask is not None:
                sample = monitored.sample
                images = overlays(sample.patch.numpy(), sample.mask.numpy(), monitored.sample_mask)
                tf.summary.image("mask: reference green, predicted red", images, max_outputs=_OVERLAYS)
        self._writers[stage.name].flush()


def overlays(patch: np.ndarray, reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The slice with the most reference voxels of each case, with both masks tinted in.

    Args:
        patch: [N, S, S, S, 1] in [-1, 1].
        reference: The same shape, 0 or 1.
        predicted: The same shape, in [0, 1].

    Returns:
        RGB float32 [N, S, S, 3] in [0, 1]: the reference tints green, the prediction red, where they agree yellow.
    """
    chosen = reference.sum(axis=(2, 3, 4)).argmax(axis=1)
    cases = np.arange(len(patch))
    grey, truth, found = (volume[cases, chosen, :, :, 0] for volume in (patch, reference, predicted))
    image = np.repeat((grey[..., None] + 1) / 2, 3, axis=-1)
    image[..., 1] += 0.35 * truth
    image[..., 0] += 0.35 * found
    return np.clip(image, 0, 1).astype(np.float32)
