"""A run folder made in code: every stage finished with random weights."""

from functools import cache
from pathlib import Path

import keras

from ggn_tf.dataset.records import open_dataset
from ggn_tf.models.systems import build_cascade
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.tasks import Task
from tests.support.synthetic import write_synthetic_dataset
from tests.support.tiny_protocol import SIZE, tiny_protocol

PROTOCOL = tiny_protocol(prior=0.5)


@cache
def _model(classes: int, seed: int) -> keras.Model:
    return build_cascade(classes, PROTOCOL, seed=seed)


def write_untrained_run(
    folder: Path,
    task: str = "AAH+AIS,MIA+IAC",
    stages: tuple[str, ...] = ("segment", "classify", "joint"),
    select_on: str = "validation",
) -> RunFolder:
    """Write `folder`/dataset (30 nodules of 15 patients) and `folder`/run."""
    if not (folder / "dataset").exists():
        write_synthetic_dataset(folder / "dataset", 30, nodules_per_patient=2, size=SIZE)
    dataset = open_dataset(folder / "dataset", PROTOCOL.patch)
    parsed = Task.parse(task)
    description = RunDescription(
        task=parsed,
        model="cascade",
        split=1,
        seed=0,
        precision="float32",
        select_on=select_on,
        protocol=PROTOCOL,
        dataset_fingerprint=dataset.fingerprint,
    )
    run = RunFolder.create(folder / "run", description, dataset.folder, {"ggn-tf": "1.0"}, "ggn-tf fit")
    for seed, stage in enumerate(stages):
        run.finish_stage(
            _model(len(parsed.classes), seed), {"stage": stage, "epochs": 2, "best_epoch": 1, "ended": "2 epochs"}
        )
    return run
