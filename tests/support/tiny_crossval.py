"""A cross-validation with tiny networks of random weights, made in this process: training is tested elsewhere.

As a program, `ggn-tf crossval` with a tiny protocol in place of the quick one, which can be killed:

python -m tests.support.tiny_crossval DATASET CV EPOCHS
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ggn_tf
from ggn_tf.api.study import Study, study
from ggn_tf.cli import main
from ggn_tf.dataset.records import Dataset
from ggn_tf.studies.item import Item, WorkerChannel, WorkFolder
from tests.support.tiny_protocol import tiny_protocol
from tests.support.untrained_training import finish_untrained

TASK = "AAH+AIS,MIA+IAC"


def run_here(items: Sequence[Item], work: WorkFolder, *_: object) -> None:
    for item in items:
        if not item.is_done(work):
            item.run(work, WorkerChannel())


_NUMBERS = {"folds": 2, "protocol": tiny_protocol(1, prior=0.5), "precision": "float32"}


def cross_validate(dataset: Dataset, folder: Path, **arguments: Any) -> ggn_tf.Crossval:
    chosen = {"task": TASK, **_NUMBERS, **arguments}
    with (
        patch("ggn_tf.api.crossval.run_items", run_here),
        patch("ggn_tf.studies.training.train_run", finish_untrained),
    ):
        return ggn_tf.crossval(dataset.folder, folder, **chosen)


def compare_on_folds(dataset: Dataset, folder: Path, **arguments: Any) -> Study:
    """A study of the cascade alone, on the folds of `cross_validate`."""
    chosen = {"tasks": [TASK], "models": ["cascade"], "repeats": 1, "joint_weights": [1.0], "gallery": 2}
    with (
        patch("ggn_tf.api.study.run_items", run_here),
        patch("ggn_tf.studies.training.train_run", finish_untrained),
    ):
        return study(dataset.folder, folder, **{**chosen, **_NUMBERS, **arguments})


OPTIONS = "--protocol=quick --task=AAH+AIS,MIA+IAC --model=raw --folds=2 --precision=float32 --jobs=2"

if __name__ == "__main__":
    dataset_folder, cv, epochs = sys.argv[1:]
    with patch.dict("ggn_tf.protocol.PROTOCOLS", quick=partial(tiny_protocol, int(epochs))):
        main(["crossval", dataset_folder, "-o", cv, *OPTIONS.split()])
