"""Ctrl-C and SIGTERM as a request to stop: the work at hand comes to a point from which it can be resumed."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click


class StopSignal:
    """Turns the first SIGINT or SIGTERM into a request to stop; the second ends at once."""

    def __init__(self, message: str) -> None:
        self._message, self._requested = message, False

    def __enter__(self) -> "StopSignal":
        """Catch the signals."""
        self._former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._catch()
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the previous handlers."""
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        """Whether a signal came."""
        return self._requested

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Within the block Ctrl-C ends the process: TensorFlow waits for other machines where Python never wakes."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            yield
        finally:
            # SIGTERM too: TensorFlow takes it for itself when it starts a cluster.
            self._catch()

    def _catch(self) -> None:
        for number in self._former:
            signal.signal(number, self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
        click.echo(self._message, err=True)
