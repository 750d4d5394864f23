"""Progress of the work that an API function does, for callers that show it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a step is.

    Attributes:
        step: What is being done, for example `cutting patches`.
        done: Number of finished units, for example cases.
        total: Number of all units; None where a step is not counted.
    """

    step: str
    done: int = 0
    total: int | None = None


OnProgress = Callable[[Progress], None]


def ignore(progress: object) -> None:
    """Show nothing."""
