"""Standard output and error that never end the work: any text can be written, and what cannot be written is counted."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from ggn_tf.shown_text import on_terminal


class WorkStream(io.TextIOBase):
    """A text stream whose failures are kept instead of raised.

    Characters that the stream's encoding lacks are written as escapes, and so are control characters. After a failure
    everything goes to nowhere, in this process and in those that it starts.

    Args:
        stream: `sys.stdout` or `sys.stderr`; None where the process has none, so that all text is lost.
        drawn: Whether progress bars are drawn there, if it is a terminal.

    Attributes:
        failure: The first failure; None without one.
    """

    def __init__(self, stream: TextIO | None, *, drawn: bool = False) -> None:
        self._stream = stream
        self.failure: OSError | None = None
        self._drawn = drawn and stream is not None and stream.isatty()
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        # A program before us may have left the terminal so that a write fails instead of waiting.
        with suppress(OSError, AttributeError):
            os.set_blocking(self.fileno(), True)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's; UTF-8 without a stream."""
        return "utf-8" if self._stream is None else self._stream.encoding or "utf-8"

    def write(self, text: str) -> int:
        """Write, or keep the failure."""
        if self._stream is None and text:
            self.failure = OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self._stream is not None and self.failure is None:
            try:
                self._stream.write(on_terminal(text, drawn=self._drawn))
            except OSError as error:
                self._give_up(self._stream, error)
        return len(text)

    def flush(self) -> None:
        """Flush, or keep the failure."""
        if self._stream is not None and self.failure is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(self._stream, error)

    def writable(self) -> bool:
        """Always."""
        return True

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """The stream's descriptor."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    @property
    def lost(self) -> OSError | None:
        """The failure, unless the reader of a pipe has left, as `head` does: then the rest is not missed."""
        return None if self.failure is None or self.failure.errno == errno.EPIPE else self.failure

    def _give_up(self, stream: TextIO, error: OSError) -> None:
        self.failure = error
        # Python flushes the stream once more when it ends.
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


@contextmanager
def work_streams() -> Iterator[WorkStream]:
    """Replace standard output and error within the block; yields the output."""
    _open_closed_descriptors()
    former = sys.stdout, sys.stderr
    output = WorkStream(sys.stdout)
    sys.stdout, sys.stderr = output, WorkStream(sys.stderr, drawn=True)
    try:
        yield output
    finally:
        output.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = former


def _open_closed_descriptors() -> None:
    """Open 0, 1 and 2 where they are closed: the next file would get the number, and what libraries print."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
