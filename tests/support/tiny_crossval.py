"""A cross-validation with tiny networks of random weights, made in this process: training is tested elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ggn_tf
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import Split
from ggn_tf.runs.lock import lock_run
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.studies.item import Item, WorkerChannel, WorkFolder
from ggn_tf.training.initial_model import initial_model
from ggn_tf.training.trainer import Plan
from tests.support.tiny_protocol import tiny_protocol

TASK = "AAH+AIS,MIA+IAC"


def _run_here(items: Sequence[Item], work: WorkFolder, *_: object) -> None:
    for item in items:
        if not item.is_done(work):
            item.run(work, WorkerChannel())


def _begin_run(folder: Path, dataset: Dataset, plan: Plan, *_: object, own_split: Split, **__: object) -> RunFolder:
    with lock_run(folder):
        run = RunFolder.create(folder, plan.description, dataset.folder, {}, "")
        run.keep_split(own_split)
        for stage in (stage for stage in plan.stages if not run.is_complete(stage.name)):
            run.finish_stage(initial_model(plan.description), {"stage": stage.name, "epochs": 1, "best_epoch": 1})
    return run


def cross_validate(dataset: Dataset, folder: Path, **arguments: Any) -> ggn_tf.Crossval:
    chosen = {"task": TASK, "folds": 2, "protocol": tiny_protocol(1, prior=0.5), "precision": "float32"}
    with patch("ggn_tf.api.crossval.run_items", _run_here), patch("ggn_tf.studies.training.train_run", _begin_run):
        return ggn_tf.crossval(dataset.folder, folder, **{**chosen, **arguments})
