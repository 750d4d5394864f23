"""Where a run's training step spends its time: a trace of some steps, and a summary of it."""

import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch, CaseStream
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import Split
from ggn_tf.errors import RunError
from ggn_tf.protocol import TrainingProtocol
from ggn_tf.runs.run_description import RunDescription, frozen_layers
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import STAGES, Stage
from ggn_tf.training.initial_model import initial_model
from ggn_tf.training.step import TrainStep
from ggn_tf.training.trainer import plan_run

_SUMMARY_TOOL = "framework_op_stats"


@dataclass(frozen=True)
class OpTime:
    """The time of one operation over all traced steps, without the operations that it called, and its share.

    The kind is its type, for example `Conv3D`; `Dataset` for a part of the input pipeline.
    """

    kind: str
    name: str
    calls: int
    self_ms: float
    share: float


@dataclass(frozen=True)
class Profile:
    """Some traced steps of a stage: duration, including the wait for the batch, and operations, slowest first.

    The trace is the `.xplane.pb` file that TensorBoard's profile plugin opens.
    """

    stage: str
    trace: Path
    step_ms: tuple[float, ...]
    waited_ms: tuple[float, ...]
    ops: tuple[OpTime, ...]

    @property
    def input_share(self) -> float:
        """The input pipeline's share of the step: the time that the step waits for its batch."""
        return sum(self.waited_ms) / sum(self.step_ms)


def profile_run(run: RunFolder, dataset: Dataset, split: Split, folder: Path, *, steps: int, warm_up: int) -> Profile:
    """Trace training steps of the stage that the run reached last, on its own data. The run is not changed.

    The steps start from the last finished stage's weights, or from the initial ones. No checkpoint is read and nothing
    but the trace is written, so a process that trains the run is not disturbed.
    """
    description = run.description
    stage = _stage(run)
    training = description.protocol.training
    stream = plan_run(description, dataset, split, stage.name).stream(dataset, stage, "train")
    model = run.load_model() if run.finished_stages() else initial_model(description)
    step = TrainStep(model, stage, training, frozen=frozen_layers(description))
    batches = _batches(stream, training, stage, run.description)
    for batch in itertools.islice(batches, warm_up):
        step(batch)
    times = _traced(step, batches, folder, steps)
    trace = max(folder.glob("plugins/profile/*/*.xplane.pb"), key=lambda path: path.stat().st_mtime_ns)
    durations, waits = (tuple(1000 * row for row in rows) for rows in zip(*times, strict=True))
    return Profile(stage.name, trace, durations, waits, read_ops(trace))


def read_ops(trace: Path) -> tuple[OpTime, ...]:
    """The operations of a trace, the slowest first; raises RunError where TensorFlow cannot read it."""
    # TensorFlow's own converter for the profile plugin. It has no public name; the version is pinned.
    from tensorflow.python.profiler.internal import _pywrap_profiler_plugin as plugin

    # On a copy: it leaves a cache beside what it reads, which the plugin, of another version, would use as its own.
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(trace, folder)
        content, succeeded = plugin.xspace_to_tools_data([copy], _SUMMARY_TOOL, {})
    if not succeeded:
        raise RunError(
            "The trace cannot be read.",
            case=trace,
            found="TensorFlow's converter rejects it",
            expected="a trace of training steps",
            remedy="Trace the run again.",
        )
    return op_table(json.loads(content))


def op_table(tables: list[dict[str, Any]]) -> tuple[OpTime, ...]:
    """Read the profile plugin's tables of framework operations: the second, which leaves out idle time."""
    table = tables[1]
    columns = [column["id"] for column in table["cols"]]
    rows = [dict(zip(columns, (cell["v"] for cell in row["c"]), strict=True)) for row in table["rows"]]
    total_us = sum(row["total_self_time"] for row in rows)
    ops = [
        OpTime(
            str(row["type"]),
            str(row["operation"]),
            int(row["occurrences"]),
            row["total_self_time"] / 1000,
            row["total_self_time"] / total_us,
        )
        for row in rows
    ]
    return tuple(sorted(ops, key=lambda op: -op.self_ms))


def _stage(run: RunFolder) -> Stage:
    stages = STAGES[run.description.model]
    begun = [stage for stage in stages if stage.name in run.finished_stages() or run.checkpoints(stage.name).exists()]
    return begun[-1] if begun else stages[0]


def _batches(
    stream: CaseStream, training: TrainingProtocol, stage: Stage, description: RunDescription
) -> Iterator[Batch]:
    augmentation, shift_mm = description.protocol.augmentation, stage.numbers(training).shift_mm
    for epoch in itertools.count():
        yield from stream.training_epoch(training.batch_size, description.seed, epoch, augmentation, shift_mm=shift_mm)


def _traced(step: TrainStep, batches: Iterator[Batch], folder: Path, steps: int) -> list[tuple[float, float]]:
    """(seconds, seconds waited for the batch) of each step."""
    times = []
    tf.profiler.experimental.start(str(folder))
    try:
        for number in range(steps):
            with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
                begun = time.perf_counter()
                batch = next(batches)
                waited = time.perf_counter() - begun
                # Read the result, so that the measured time includes the step's work on every device.
                np.asarray(step(batch)[0])
                times.append((time.perf_counter() - begun, waited))
    finally:
        tf.profiler.experimental.stop()
    return times
