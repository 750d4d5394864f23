"""The items of a study: pieces of work that may need one another, each with one result on disk."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ggn_tf.dataset.records import Dataset
from ggn_tf.tasks import Task

PREDICTIONS, RUNS = "predictions", "runs"


@dataclass(frozen=True)
class WorkFolder:
    """Where a study's items read and write.

    Attributes:
        folder: The study's folder.
        dataset: What all items are trained on.
        command: The command line, for the records of the runs.
    """

    folder: Path
    dataset: Dataset
    command: str

    def run(self, name: str) -> Path:
        """The run folder of a training."""
        return self.folder / RUNS / name

    def fitted(self, name: str) -> Path:
        """The file of a fitted baseline that is not a network."""
        return self.folder / RUNS / f"{name}.skops"

    def predictions(self, name: str) -> Path:
        """The predictions table of an item."""
        return self.folder / PREDICTIONS / f"{name}.csv"


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
    def needs(self) -> tuple[str, ...]:
        """The names of the items that must be done first."""

    @property
    def cost(self) -> float:
        """Expected duration in epochs of joint training."""

    def is_done(self, folder: WorkFolder) -> bool:
        """Whether its result exists.

        Raises:
            RunError: The existing result was made with other settings.
        """

    def run(self, folder: WorkFolder, channel: WorkerChannel) -> None:
        """Do the work, or resume it.

        Raises:
            KeyboardInterrupt: A stop was requested.
        """
