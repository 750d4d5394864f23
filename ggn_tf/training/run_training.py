"""A training in its run folder: lock it, create or reopen the run, and train it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from ggn_tf.dataset.records import Dataset
from ggn_tf.runs.lock import lock_run
from ggn_tf.runs.package_versions import package_versions
from ggn_tf.runs.reproducibility import Conditions
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.training.observers import Observers
from ggn_tf.training.replicas import ONE_REPLICA, Replicas
from ggn_tf.training.tensorboard import EventWriter
from ggn_tf.training.train_options import TrainOptions
from ggn_tf.training.trainer import Plan, train


def train_run(
    folder: Path,
    dataset: Dataset,
    plan: Plan,
    options: TrainOptions | None = None,
    *,
    command: str = "",
    conditions: Conditions | None = None,
    begin: Callable[[RunFolder], Replicas] = lambda run: ONE_REPLICA,
    histograms: bool = False,
    patience_s: float = 0.0,
) -> RunFolder:
    """Train a run in its folder, with TensorBoard's events. A run that exists is resumed.

    Args:
        folder: The run folder, locked until this returns.
        dataset: The run's dataset.
        plan: From `plan_run`.
        options: How the training is watched, stopped and stored; None for the defaults.
        command: The command, for the record.
        conditions: The conditions of the training, for the record.
        begin: Called with the run before anything is trained; returns who trains.
        histograms: Whether TensorBoard shows every weight's histogram.
        patience_s: Time in seconds to wait for another process to leave the folder.

    Raises:
        KeyboardInterrupt: A stop was requested; the same call resumes the run.
        RunError: The folder contains something else or another run, or the training cannot continue.
    """
    options = options or TrainOptions()
    stored = conditions.to_dict() if conditions else {}
    with lock_run(folder, patience_s):
        run = RunFolder.create(folder, plan.description, dataset.folder, package_versions(), command, stored)
        replicas = begin(run)
        events = EventWriter(folder / "tensorboard", plan.description, histograms=histograms)
        observed = dataclasses.replace(options, observer=Observers([events, options.observer]))
        train(run, dataset, plan, observed, replicas)
    return run
