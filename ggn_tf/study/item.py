"""What a study is made of: pieces of work that need one another, each with one result on disk."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ggn_tf.dataset.records import Dataset
from ggn_tf.tasks import Task

PREDICTIONS, RUNS = "predictions", "runs"


@dataclass(frozen=True)
class WorkFolder:
    """Where a study lies and what it is about.

    Attributes:
        folder: The study's.
        dataset: What all items are trained on.
        command: The command line, for the runs' records.
    """

    folder: Path
    dataset: Dataset
    command: str

    def run(self, name: str) -> Path:
        """The run folder of a training."""
        return self.folder / RUNS / name

    def fitted(self, name: str) -> Path:
        """The file of a fitted baseline that is no network."""
        return self.folder / RUNS / f"{name}.skops"

    def predictions(self, name: str) -> Path:
        """The predictions table of an item."""
        return self.folder / PREDICTIONS / f"{name}.csv"


@dataclass(frozen=True)
class WorkerChannel:
    """How an item's work is watched and ended from outside.

    Attributes:
        tell: Given the share of the work that is done, in [0, 1], and what is at work.
        stop_requested: Asked often; an item that sees a yes raises KeyboardInterrupt and can be gone on with.
    """

    tell: Callable[[float, str], None] = field(default=lambda share, what: None)
    stop_requested: Callable[[], bool] = field(default=lambda: False)


class Item(Protocol):
    """A piece of a study's work."""

    @property
    def name(self) -> str:
        """Unique in the study; the name of its run or table."""

    @property
    def task(self) -> Task:
        """What it tells apart."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the items that must be done before."""

    @property
    def cost(self) -> float:
        """How long it takes, in any unit that all items share."""

    def is_done(self, place: WorkFolder) -> bool:
        """Whether its result is there.

        Raises:
            RunError: What is there was made with other settings.
        """

    def run(self, place: WorkFolder, line: WorkerChannel) -> None:
        """Work, or go on where the work was stopped.

        Raises:
            KeyboardInterrupt: Asked to stop.
        """
