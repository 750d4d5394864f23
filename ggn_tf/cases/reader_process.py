"""Processes that read files of unknown origin: a file that ends its reader ends nothing else.

GDCM, ITK, their codecs and pydicom are native or recursive code that a damaged or hostile file can end, or fill the
memory with. Each process runs one function after another and starts again after its end, in some milliseconds: it is
forked from a server process that has imported the readers, and never TensorFlow.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from ggn_tf.machine import memory_bytes

_Result = TypeVar("_Result")
# The rest is for other processes. Real thoraxes need about 1 GB.
_SHARE_OF_MEMORY = 0.75
# Of one function, or of one case of several, seconds; a large thorax takes ten. Of a damaged file a native reader may
# never come to the end.
_MOST_PROCESSOR_S = 600
_PRELOADED = ["ggn_tf.dataset.preparation", "ggn_tf.prediction.ct_patches"]
# Of modules, signals and the server process, which all threads share.
_STARTING = threading.Lock()
_SAFE_PATH, _LONGEST_TEMPORARY = "PYTHONSAFEPATH", 70
_TIME_IS_UP = getattr(signal, "SIGPROF", 0)  # Windows has none
_OOM_SCORE = Path("/proc/self/oom_score_adj")
# Of this process, which is a reader; 0: it is none.
_allowed_s = 0.0


class ReaderEndedError(Exception):
    """A reader process ended before it returned; the text is why, for example `signal 11 (SIGSEGV)`."""


class ReaderProcess(AbstractContextManager["ReaderProcess"]):
    """One process; started when it is first needed, and again after its end.

    A function that takes more than `most_processor_s` seconds of its processor time ends it; see `restart_time`.
    """

    def __init__(self, most_processor_s: float = _MOST_PROCESSOR_S) -> None:
        self._most_processor_s = most_processor_s
        self._running = threading.Lock()
        self._process: ForkServerProcess | SpawnProcess | None = None
        self._connection: Connection | None = None
        self._closed = False

    def run(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Run a function in the process.

        Arguments and result can be pickled.

        Returns:
            The function's result.

        Raises:
            ReaderEndedError: The process ended, or used more memory or processor time than it may.
            Exception: What the function raises.
        """
        if multiprocessing.current_process().daemon:
            # Which may not have processes of its own.
            return function(*arguments)
        with self._running:
            succeeded, value = self._answer(function, arguments)
        if succeeded:
            result: _Result = value
            return result
        raise ReaderEndedError("memory ran out") if isinstance(value, MemoryError) else value

    def close(self) -> None:
        """End the process, whatever it does, and start no other."""
        self._closed = True
        # A thread that waits for its result stops waiting when the process ends.
        while not self._running.acquire(timeout=0.1):
            self._kill()
        self._kill()
        self._end()
        self._running.release()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, function: Callable[..., Any], arguments: tuple[object, ...]) -> tuple[bool, Any]:
        if self._closed:
            raise ReaderEndedError("closed")
        try:
            if self._connection is None:
                self._connection = self._start()
            self._connection.send((_working_folder(), function, arguments))
            succeeded, value = self._connection.recv()
            return succeeded, value
        except (EOFError, ConnectionError) as error:
            raise ReaderEndedError(self._end()) from error
        except BaseException:
            # Its answer would be taken for that of the next function.
            self._kill()
            self._end()
            raise

    def _kill(self) -> None:
        if (process := self._process) is not None:
            process.kill()

    def _start(self) -> Connection:
        # Not forked from this process: the fork of a process with TensorFlow's threads can hang.
        context = _context()
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, dict(os.environ), self._most_processor_s), daemon=True)
        with _starting():
            process.start()
        # Only now: a process that has not started can neither be killed nor waited for.
        self._process = process
        there.close()
        return here

    def _end(self) -> str:
        """Wait for the process, and say why it ended."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        if process is None:
            return "not started"
        process.join()
        code = process.exitcode or 0
        if _TIME_IS_UP and code == -_TIME_IS_UP:
            return f"more than {self._most_processor_s:g} s of processor time"
        if code >= 0:
            return f"exit status {code}"
        names = {item.value: item.name for item in signal.Signals}
        return f"signal {-code} ({names.get(-code, 'unknown')})"


# Of `run_in_reader`.
_IDLE: list[ReaderProcess] = []
if hasattr(os, "register_at_fork"):
    # They belong to the parent.
    os.register_at_fork(after_in_child=_IDLE.clear)


def run_in_reader(function: Callable[..., _Result], *arguments: object) -> _Result:
    """As `ReaderProcess.run`, in a process that stays for the next call; calls of several threads run side by side."""
    try:
        reader = _IDLE.pop()
    except IndexError:
        reader = ReaderProcess()
    try:
        return reader.run(function, *arguments)
    finally:
        _IDLE.append(reader)


def start_ahead() -> None:
    """Start the server process, which imports the readers beside what the caller imports until it needs one."""
    # What prevents it, prevents the first reader too, and is reported then.
    with suppress(OSError):
        if _context().get_start_method() == "forkserver":
            with _starting():
                forkserver.ensure_running()


def restart_time() -> None:
    """Give the rest of a function as much processor time as its beginning had: for one of its cases.

    Nothing happens outside of a reader process.
    """
    if _allowed_s:
        _limit_time(_allowed_s)


def _context() -> ForkServerContext | SpawnContext:
    # The server process has a socket in the temporary folder, whose path may have 107 bytes.
    socket_fits = len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_TEMPORARY
    if not socket_fits or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


@contextmanager
def _starting() -> Iterator[None]:
    with _STARTING, _interrupts_blocked(), _main_hidden(), _working_folder_hidden():
        yield


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Start a process without the caller's script, which it would run again where it has no `__main__` guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _working_folder_hidden() -> Iterator[None]:
    """Start a process that imports no module from the working folder, where a user may have a random.py."""
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start processes with Ctrl-C blocked, which reaches the whole process group; the parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, environment: dict[str, str], most_processor_s: float) -> None:
    global _allowed_s
    _allowed_s = most_processor_s
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The server process has the environment of its own start.
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit_resources()
    # Imported here, so that the server process can be started before its parent imports as much.
    import SimpleITK as sitk  # noqa: N813

    # One process per core is faster than resampling on all cores.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        while True:
            request = connection.recv()
            restart_time()
            outcome = _outcome(*request)
            _limit_time(0)
            connection.send(outcome)
    except BaseException:
        # The parent sees the end. A traceback would be one of this process, and could quote a file.
        os._exit(1)


def _outcome(folder: str | None, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        # This process began in the folder of an earlier call, and paths may be relative.
        if folder is not None:
            os.chdir(folder)
        return True, function(*arguments)
    except Exception as error:
        return False, error


def _working_folder() -> str | None:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        # It was deleted: only absolute paths lead anywhere.
        return None


def _limit_time(seconds: float) -> None:
    """End this process after further seconds of processor time; 0 for no limit."""
    if _TIME_IS_UP:
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit_resources() -> None:
    """A bound of memory, no core files, which would contain patients' data, and be what a full memory ends first."""
    with suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        total = memory_bytes()
        if total is not None and sys.platform == "linux":
            # Without the memory of mapped files, which are not in it.
            least = int(total * _SHARE_OF_MEMORY)
            soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
            stricter = [limit for limit in (least, soft, hard) if limit != resource.RLIM_INFINITY]
            resource.setrlimit(resource.RLIMIT_DATA, (min(stricter), hard))
    with suppress(OSError):
        _OOM_SCORE.write_text("800", encoding="ascii")


def _end_with_parent() -> None:
    """End this process when its parent is killed; otherwise it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
