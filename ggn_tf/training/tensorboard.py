"""TensorBoard's event files of a run: scalars, mask overlays and graph of each stage, weights, and HParams."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from ggn_tf.errors import RunError
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.stages import STAGES, Stage, parts_of
from ggn_tf.training.monitor import EpochResult, traced_inference
from ggn_tf.training.train_options import Observer

_OVERLAYS = 4


class EventWriter(Observer):
    """An observer that writes `tensorboard/<stage>`, and the run's best scores into `tensorboard` itself.

    Without a description there is no HParams page. Histograms of every weight after each epoch take some 10 MB per
    epoch.
    """

    def __init__(self, folder: Path, description: RunDescription | None = None, *, histograms: bool = False) -> None:
        self._folder = folder
        self._histograms = histograms
        self._description = description
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        self._parts: dict[str, keras.Model] = {}

    def stage_started(self, stage: Stage, model: keras.Model) -> None:
        """Write the run's numbers and the stage's graph, unless an earlier process did."""
        self._parts = parts_of(model)
        if self._description is not None and not _has_events(self._folder):
            with self._writing("", 0):
                hparams.hparams(numbers_of(self._description), trial_id=self._folder.resolve().parent.name)
        if not _has_events(self._folder / stage.name):
            with self._writing(stage.name, 0):
                tf.summary.graph(_graph(stage, model))

    def epoch_done(self, stage: Stage, row: dict[str, Any], result: EpochResult) -> None:
        """Write the epoch's scalars, and the first monitored cases with both masks."""
        with self._writing(stage.name, row["epoch"]):
            for name, value in row.items():
                if isinstance(value, float):
                    tf.summary.scalar(name, value)
            sample = result.sample
            if sample is not None and result.sample_mask is not None:
                images = overlays(sample.patch.numpy(), sample.mask.numpy(), result.sample_mask)
                tf.summary.image("mask: reference green, predicted red", images, max_outputs=_OVERLAYS)
            if self._histograms:
                # The parts of a cascade have layers of the same names.
                for name, weight in ((name, weight) for name, part in self._parts.items() for weight in part.weights):
                    tf.summary.histogram(f"weights/{name}/{weight.path}", weight.numpy())

    def stage_done(self, stage: Stage, best: dict[str, Any]) -> None:
        """Write the best epoch's scores, for the HParams page."""
        scores = {name: value for name, value in best.items() if isinstance(value, float) and name != "learning_rate"}
        with self._writing("", 0):
            for name, value in scores.items():
                tf.summary.scalar(f"best {stage.name}/{name}", value)

    @contextmanager
    def _writing(self, name: str, step: int) -> Iterator[None]:
        """Write to `tensorboard/<name>` inside the block; afterwards the events are on the disk."""
        try:
            if name not in self._writers:
                self._writers[name] = tf.summary.create_file_writer(str(self._folder / name))
            with self._writers[name].as_default(step=step):
                yield
            self._writers[name].flush()
        except tf.errors.OpError as error:
            raise _unwritable(self._folder / name, error) from error


def write_scores(folder: Path, scores: Mapping[str, float]) -> None:
    """Add final scores, for example `test joint/accuracy`, to the HParams of a run's tensorboard folder."""
    try:
        writer = tf.summary.create_file_writer(str(folder))
        with writer.as_default(step=0):
            for name, value in scores.items():
                tf.summary.scalar(name, value)
        writer.close()
    except tf.errors.OpError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: tf.errors.OpError) -> RunError:
    return RunError(
        "TensorBoard's events cannot be written.",
        case=folder,
        found=str(error.message).splitlines()[0],
        expected="a writable folder with free space on the disk",
        remedy="Free some space and repeat the command; training resumes from its last checkpoint.",
    )


def numbers_of(description: RunDescription) -> dict[str, str | float | int]:
    """What runs of a study differ in: the columns of the HParams page."""
    training = description.protocol.training
    chosen: dict[str, str | float | int] = {
        **{name: getattr(description, name) for name in ("model", "split", "seed", "precision", "select_on")},
        "task": str(description.task),
        "batch_size": training.batch_size,
        "joint_weight": training.joint_weight,
    }
    for stage in STAGES[description.model]:
        numbers = stage.numbers(training)
        chosen |= {f"{stage.name}.{name}": getattr(numbers, name) for name in ("learning_rate", "max_epochs")}
    return chosen


def overlays(patch: np.ndarray, reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The slice of each case with the most reference voxels, tinted by both masks: RGB float32 [N, S, S, 3] in [0, 1].

    The reference (0 or 1) tints green, the prediction (0 to 1) red, both together yellow. All three arguments are [N,
    S, S, S, 1], the patch in [-1, 1].
    """
    chosen = reference.sum(axis=(2, 3, 4)).argmax(axis=1)
    cases = np.arange(len(patch))
    grey, truth, found = (volume[cases, chosen, :, :, 0] for volume in (patch, reference, predicted))
    image = np.repeat((grey[..., None] + 1) / 2, 3, axis=-1)
    image[..., 1] += 0.35 * truth
    image[..., 0] += 0.35 * found
    return np.clip(image, 0, 1).astype(np.float32)


def _graph(stage: Stage, model: keras.Model) -> Any:
    network = stage.network(model)
    return traced_inference(network, network.model.inputs[0].shape).graph


def _has_events(folder: Path) -> bool:
    return any(folder.glob("events.out.tfevents.*"))
