"""Processes that the operating system kills."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = "from ggn_tf.cli import main; main()"


def start(*arguments: object) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], env=environment, start_new_session=True, stdout=subprocess.DEVNULL
    )


def kill_when(
    process: subprocess.Popen,
    ready: Callable[[], bool],
    delay_s: float,
    *,
    workers_too: bool = False,
    patience_s: float = 60,
) -> None:
    """Kill with SIGKILL, and check that no worker process outlives its parent.

    Args:
        process: From `start`.
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
