"""Processes of the product that tests watch, signal and kill. They are forked from one that has imported TensorFlow.

An import of TensorFlow costs as much as the training of a tiny network.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(["tensorflow"])


class Process(ForkServerProcess):
    """A started process, the leader of its own group.

    Args:
        function: What it runs; of a module, not local.
        arguments: The function's arguments.
        environment: Variables in addition to those of the test.
        errors: The file for its stderr; None for that of the test.
    """

    def __init__(
        self,
        function: Callable[..., object],
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        errors: Path | None = None,
    ) -> None:
        self.errors = errors
        super().__init__(target=_run, args=(function, arguments, {**os.environ, **(environment or {})}, errors))
        self.start()

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self.exitcode

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for the end and return the exit code."""
        self.join(timeout_s)
        return self.exitcode


def _run(
    function: Callable[..., object], arguments: tuple[object, ...], environment: dict[str, str], errors: Path | None
) -> None:
    os.setsid()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if errors is not None:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    try:
        function(*arguments)
    finally:
        # As at the end of a program: a process of this module would leave them out.
        atexit._run_exitfuncs()


def run_module(name: str, *arguments: object) -> None:
    """What `python -m NAME ARGUMENTS` does."""
    sys.argv = [name, *map(str, arguments)]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def kill_when(
    process: Process,
    ready: Callable[[], bool],
    delay_s: float,
    *,
    workers_too: bool = False,
    patience_s: float = 60,
) -> None:
    """Kill with SIGKILL, and check that no worker process outlives its parent.

    Args:
        process: A running one.
        ready: Called until it returns True.
        delay_s: Time in seconds from then on.
        workers_too: Whether the worker processes are killed with it, as when a machine is switched off.
        patience_s: Time in seconds within which workers must end.
    """
    while process.poll() is None and not ready():
        time.sleep(0.002)
    time.sleep(delay_s)
    (os.killpg if workers_too else os.kill)(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed: kill earlier"
    ends = time.monotonic() + patience_s
    while alive(process.pid):
        assert time.monotonic() < ends, "a worker process outlives its killed parent"
        time.sleep(0.05)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def has_begun_writing(folder: Path, name: str) -> bool:
    """Whether the temporary folder for an atomic folder contains something."""
    return any(folder.glob(f".{name}-*/*"))
