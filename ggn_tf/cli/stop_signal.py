"""Ctrl-C and SIGTERM as a request: what is at work comes to a place from which it can go on."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click


class StopSignal:
    """Turns the first SIGINT or SIGTERM into a request to stop; the second ends at once.

    Args:
        told: Said to the person at the first.
    """

    def __init__(self, told: str) -> None:
        """Nothing is caught before the block begins."""
        self._told, self._asked = told, False

    def __enter__(self) -> "StopSignal":
        """Catch."""
        self._former = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        """As it was."""
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        """Whether a signal came."""
        return self._asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        click.echo(self._told, err=True)


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Within the block Ctrl-C ends the process: TensorFlow waits for other machines where Python never wakes."""
    former = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
