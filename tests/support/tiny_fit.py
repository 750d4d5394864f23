"""A whole training of three stages in some seconds. As a program, a process that can be killed:

python -m tests.support.tiny_fit DATASET RUN [EPOCHS]
"""

import hashlib
import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py

from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.tasks import Task
from ggn_tf.training.train_options import TrainOptions
from ggn_tf.training.trainer import plan_run, train_run
from tests.support.tiny_protocol import tiny_protocol


def tiny_description(dataset: Dataset, epochs: int = 2, learning_rate: float = 1e-3) -> RunDescription:
    return RunDescription(
        task=Task.parse("AAH+AIS,MIA+IAC"),
        model="cascade",
        split=1,
        seed=7,
        precision="float32",
        select_on="validation",
        protocol=tiny_protocol(epochs, learning_rate),
        dataset_fingerprint=dataset.fingerprint,
    )


def fit(
    folder: Path,
    description: RunDescription,
    dataset: Dataset,
    stage: str | None = "joint",
    stop: Callable[[], bool] = lambda: False,
    checkpoint_minutes: float = 10.0,
) -> RunFolder:
    plan = plan_run(description, dataset, read_split(dataset, description.split), stage)
    options = TrainOptions(stop_requested=stop, checkpoint_minutes=checkpoint_minutes)
    return train_run(folder, dataset, plan, options)


def results(run: RunFolder) -> dict[str, str]:
    """A hash of every stage's weights, and the history."""
    hashes = {stage: _weights_hash(run.folder / "stages" / f"{stage}.keras") for stage in run.finished_stages()}
    return {**hashes, "history": (run.folder / "history.csv").read_text(encoding="utf-8")}


def _weights_hash(file: Path) -> str:
    """Of the arrays in a .keras file, with their names; to build the network would take a second."""
    found = hashlib.sha256()

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found.update(name.encode() + item[()].tobytes())

    with zipfile.ZipFile(file) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
        weights.visititems(add)
    return found.hexdigest()


if __name__ == "__main__":
    opened = open_dataset(Path(sys.argv[1]), tiny_protocol().patch)
    # A checkpoint after every step: most kills then hit the writing of one.
    asked = tiny_description(opened, *map(int, sys.argv[3:]))
    fit(Path(sys.argv[2]), asked, opened, checkpoint_minutes=0.0)
