"""A cross-validation with tiny networks of random weights, made in this process: training is tested elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ggn_tf
from ggn_tf.dataset.records import Dataset
from ggn_tf.studies.item import Item, WorkerChannel, WorkFolder
from tests.support.tiny_protocol import tiny_protocol
from tests.support.untrained_training import finish_untrained

TASK = "AAH+AIS,MIA+IAC"


def _run_here(items: Sequence[Item], work: WorkFolder, *_: object) -> None:
    for item in items:
        if not item.is_done(work):
            item.run(work, WorkerChannel())


def cross_validate(dataset: Dataset, folder: Path, **arguments: Any) -> ggn_tf.Crossval:
    chosen = {"task": TASK, "folds": 2, "protocol": tiny_protocol(1, prior=0.5), "precision": "float32"}
    with (
        patch("ggn_tf.api.crossval.run_items", _run_here),
        patch("ggn_tf.studies.training.train_run", finish_untrained),
    ):
        return ggn_tf.crossval(dataset.folder, folder, **{**chosen, **arguments})
