"""The items of a study: pieces of work that may need one another, each with one result on disk.

Each file of a result has its SHA-256 beside it, in the form that `sha256sum -c` reads. Items that train no network are
here: the paper's Table 4 system, and the radiomics baseline of its Table 6.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pandas as pd

from ggn_tf.dataset.radiomics import read_radiomics
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import Split, read_split
from ggn_tf.errors import RadiomicsError, RunError
from ggn_tf.evaluation.baselines import fit_radiomics, load_radiomics, save_radiomics
from ggn_tf.evaluation.run_predictions import predict_transfer
from ggn_tf.evaluation.statistics.predictions_table import write_predictions
from ggn_tf.files import atomic_file, make_private_folder, refuse_links, sha256
from ggn_tf.models.names import TRANSFER
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.tasks import Task

_SUFFIX = ".sha256"
_LARGEST_BYTES = 4096


@contextmanager
def recorded(path: Path) -> Iterator[None]:
    """Record the digest of the file that the block writes."""
    record = _record_of(path)
    # A kill in between leaves a file without a record and never one with another's.
    record.unlink(missing_ok=True)
    yield
    with atomic_file(record) as temporary:
        temporary.write_text(f"{sha256(path)}  {path.name}\n", encoding="utf-8")


def check_recorded(path: Path, *, required: bool = False) -> None:
    """Raise RunError for a file that is not the one that was written; files of older versions have no record.

    Where it is required, a missing file and one without a record are refused too.
    """
    record = _record_of(path)
    if not record.is_file():
        if not required:
            return
        expected = f"in {record.name}"
    else:
        with record.open("rb") as stream:
            expected = stream.read(_LARGEST_BYTES).decode("utf-8", "replace").partition("  ")[0]
    found = sha256(path) if path.is_file() else "of no file"
    if found != expected:
        raise RunError(
            "A result of the study is not the one that was written.",
            case=path,
            found=f"SHA-256 {found}",
            expected=f"SHA-256 {expected}",
            remedy=f"Restore the file from a copy, or delete it and {record.name}; the study then makes it again.",
        )


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + _SUFFIX)


PREDICTIONS, RUNS = "predictions", "runs"


@dataclass(frozen=True)
class WorkFolder:
    """Where a study's items read and write.

    The command line is for the records of the runs; whether the folder is shared is as in `fit`. The splits are the
    user's own by number; None for the dataset's.
    """

    folder: Path
    dataset: Dataset
    command: str
    shared: bool = False
    own_splits: Mapping[int, Split] | None = None

    def split(self, number: int) -> Split:
        """A split of the study."""
        return read_split(self.dataset, number) if self.own_splits is None else self.own_splits[number]

    def create(self) -> None:
        """Make the folder; raises RunError where a folder of ours in it is a link."""
        refuse_links(self.folder, (RUNS, PREDICTIONS), RunError)
        make_private_folder(self.folder, shared=self.shared)

    def run(self, name: str) -> Path:
        """The run folder of a training."""
        return self.folder / RUNS / name

    def fitted(self, name: str) -> Path:
        """The file of a fitted baseline that is not a network."""
        return self.folder / RUNS / f"{name}.skops"

    def predictions(self, name: str) -> Path:
        """The predictions table of an item."""
        return self.folder / PREDICTIONS / f"{name}.csv"

    def write_predictions(self, name: str, frame: pd.DataFrame) -> None:
        """Write the predictions table of an item, with its digest."""
        with recorded(self.predictions(name)):
            write_predictions(frame, self.predictions(name))

    def has_predictions(self, name: str) -> bool:
        """Whether an item has a predictions table; raises RunError where it is not the one that was written."""
        exists = self.predictions(name).exists()
        if exists:
            check_recorded(self.predictions(name))
        return exists


@dataclass(frozen=True)
class WorkerChannel:
    """How a running item is observed and stopped from outside.

    Attributes:
        report: Called with the share of the work that is done, in [0, 1], and the current step.
        stop_requested: Polled often; if true, the item raises KeyboardInterrupt and can be resumed later.
    """

    report: Callable[[float, str], None] = field(default=lambda share, step: None)
    stop_requested: Callable[[], bool] = field(default=lambda: False)


class Item(Protocol):
    """A piece of a study's work."""

    @property
    def name(self) -> str:
        """Unique in the study; the name of its run or table."""

    @property
    def task(self) -> Task:
        """The classes that it predicts."""

    @property
    def split(self) -> int:
        """Number of its split."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the items that must be done first."""

    @property
    def cost(self) -> float:
        """Expected duration in epochs of joint training."""

    def is_done(self, folder: WorkFolder) -> bool:
        """Whether its result exists; raises RunError where the existing result was made with other settings."""

    def run(self, folder: WorkFolder, channel: WorkerChannel) -> None:
        """Do the work, or resume it; raises KeyboardInterrupt where a stop was requested."""


@dataclass(frozen=True)
class Transfer:
    """Predict with two finished trainings: of the model `reference`, and one with a finished stage `segment`.

    The masks of the second are soft or `binary`; `system` is the name in the predictions table.
    """

    name: str
    task: Task
    split: int
    repeat: int
    classifier: str
    segmenter: str
    system: str = TRANSFER
    binary: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """Both trainings."""
        return (self.classifier, self.segmenter)

    @property
    def cost(self) -> float:
        """Expected duration in epochs of joint training."""
        return 0.5

    def is_done(self, folder: WorkFolder) -> bool:
        """Whether the predictions table exists; the trainings check that it has these settings."""
        return folder.has_predictions(self.name)

    def run(self, folder: WorkFolder, channel: WorkerChannel) -> None:
        """Predict and write the predictions."""
        channel.report(0.0, "predicting")
        classifier, segmenter = (RunFolder.open(folder.run(name)) for name in self.needs)
        split = folder.split(self.split)
        frame = predict_transfer(classifier, segmenter, folder.dataset, split, repeat=self.repeat, binary=self.binary)
        folder.write_predictions(self.name, frame.assign(model=self.system))


@dataclass(frozen=True)
class Radiomics:
    """Fit the support vector machine on one task and split. The seed only draws its folds, so one repeat is enough."""

    name: str
    task: Task
    split: int
    seed: int

    @property
    def needs(self) -> tuple[str, ...]:
        """No other items."""
        return ()

    @property
    def cost(self) -> float:
        """Expected duration in epochs of joint training."""
        return 1.0

    def is_done(self, folder: WorkFolder) -> bool:
        """Whether the predictions table exists, with these settings; an unreadable fit is repeated."""
        if not folder.has_predictions(self.name):
            return False
        try:
            check_recorded(folder.fitted(self.name))
            fitted = load_radiomics(folder.fitted(self.name))
        except RadiomicsError:
            return False
        found = (fitted.seed, fitted.dataset_fingerprint, fitted.settings)
        expected = (self.seed, folder.dataset.fingerprint, read_radiomics(folder.dataset).settings)
        if found != expected:
            raise RunError(
                "The study contains a radiomics baseline with other settings.",
                case=folder.fitted(self.name),
                found=_settings(*found),
                expected=_settings(*expected),
                remedy="Choose another folder for this study.",
                arguments=("folder",),
            )
        return True

    def run(self, folder: WorkFolder, channel: WorkerChannel) -> None:
        """Fit, store the fit, and write the predictions last."""
        channel.report(0.0, "fitting")
        fitted, frame = fit_radiomics(folder.dataset, folder.split(self.split), self.task, self.seed)
        folder.fitted(self.name).parent.mkdir(parents=True, exist_ok=True)
        with recorded(folder.fitted(self.name)):
            save_radiomics(fitted, folder.fitted(self.name))
        folder.write_predictions(self.name, frame)


def _settings(seed: int, fingerprint: str, measured_with: object) -> str:
    return f"seed {seed}, dataset {fingerprint[:12]}, measured with {measured_with}"
