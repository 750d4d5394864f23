"""A training in its run folder: lock it, create or reopen the run, and train it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ggn_tf.dataset.records import Dataset
from ggn_tf.runs.lock import lock_run
from ggn_tf.runs.package_versions import package_versions
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.training.distributed.replicas import ONE_REPLICA, Replicas
from ggn_tf.training.observers import Observer, Observers
from ggn_tf.training.tensorboard import EventWriter
from ggn_tf.training.trainer import Plan, train


def train_run(
    folder: Path,
    dataset: Dataset,
    plan: Plan,
    *,
    command: str = "",
    conditions: Mapping[str, Any] | None = None,
    begin: Callable[[RunFolder], Replicas] = lambda run: ONE_REPLICA,
    observer: Observer | None = None,
    histograms: bool = False,
    patience_s: float = 0.0,
    **options: Any,
) -> RunFolder:
    """Train a run in its folder; a run that is already there is resumed.

    Args:
        folder: The run folder, locked for as long as this takes.
        dataset: The run's dataset.
        plan: From `plan_run`.
        command: The command, for the record.
        conditions: From `conditions_here`, for the record.
        begin: Called with the run before anything is trained; returns the devices that train together.
        observer: Called at every step, beside TensorBoard's.
        histograms: Whether TensorBoard shows every weight's histogram.
        patience_s: Seconds to wait for another process that is about to leave the folder.
        options: Of `train`.

    Raises:
        KeyboardInterrupt: A stop was requested; the same call resumes the run.
        RunError: The folder contains something else, or another run.
    """
    with lock_run(folder, patience_s):
        run = RunFolder.create(folder, plan.asked, dataset.folder, package_versions(), command, dict(conditions or {}))
        replicas = begin(run)
        events = EventWriter(folder / "tensorboard", plan.asked, histograms=histograms)
        train(run, dataset, plan, Observers([events, observer or Observer()]), replicas=replicas, **options)
    return run
