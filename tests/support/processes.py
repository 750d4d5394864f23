"""Processes of the product that tests watch, signal and kill."""

import os
import pickle
import runpy
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PROGRAM = "import pickle, sys; function, *arguments = pickle.loads(bytes.fromhex(sys.argv[1])); function(*arguments)"


class Process(subprocess.Popen):
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
        program = [sys.executable, "-c", _PROGRAM, pickle.dumps((function, *arguments)).hex()]
        variables = {**os.environ, **(environment or {})}
        stderr = None if errors is None else os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        super().__init__(
            program, cwd=ROOT, env=variables, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True
        )
        if stderr is not None:
            os.close(stderr)
        # Not `errors`, which Popen uses for its own.
        self.errors_file = errors


def run_code(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Run Python code that needs a process without TensorFlow, Keras's settings and a log level; for five minutes."""
    unset = ("KERAS_", "TF_CPP_MIN_LOG_LEVEL")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    variables |= {"PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=variables, timeout=300)


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
    return any(folder.glob(f".ggn-tf-temporary.{name}.*/*"))
