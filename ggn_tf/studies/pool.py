"""The items of a study at work, each in a process of its own, several at a time.

What a new process imports of this module does not import TensorFlow.
"""

import multiprocessing
import os
import pickle
import signal
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from ggn_tf.errors import GgnError, GgnWarning, RunError
from ggn_tf.tensorflow_import import load_tensorflow

if TYPE_CHECKING:
    from ggn_tf.studies.item import Item, WorkFolder


@dataclass(frozen=True)
class WorkerMessage:
    """The progress of an item: the share of its work that is done, in [0, 1], and the current step for a reader."""

    item: str
    share: float
    what: str
    done: bool = False


def done_message(item: str) -> WorkerMessage:
    """The last message about an item."""
    return WorkerMessage(item, 1.0, "done", done=True)


def run_item(
    load: "Callable[[], tuple[Item, WorkFolder]]",
    parent: int,
    stop_requested: Callable[[], bool],
    connection: Connection,
) -> None:
    """Do an item and send its progress; at the end its error, if it is one that a user can correct.

    `load` gives the item and its work folder: unpickling them imports TensorFlow. `parent` is the process that started
    this one.
    """
    # Ctrl-C reaches every process of a terminal, SIGTERM those of a batch job; only the parent decides what they mean.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    load_tensorflow()
    from ggn_tf.studies.item import WorkerChannel

    def send(message: WorkerMessage) -> None:
        with suppress(BrokenPipeError):
            connection.send(message)

    try:
        item, folder = load()
        # The children of a killed parent would train on, and keep the locks that the repeated command needs.
        channel = WorkerChannel(
            lambda share, step: send(WorkerMessage(item.name, share, step)),
            lambda: stop_requested() or os.getppid() != parent,
        )
        item.run(folder, channel)
        send(done_message(item.name))
    except KeyboardInterrupt:
        pass
    except (GgnError, OSError) as error:
        connection.send(error)


def _run_silently(*arguments: Any) -> None:
    # The parent process writes to the same file system, and has warned.
    warnings.simplefilter("ignore", GgnWarning)
    run_item(*arguments)


_POLL_S = 0.5


@dataclass(frozen=True)
class _Worker:
    item: "Item"
    process: BaseProcess


def run_items(
    items: Sequence["Item"],
    folder: "WorkFolder",
    jobs: int,
    report: Callable[[WorkerMessage], None],
    stop_requested: Callable[[], bool],
) -> None:
    """Do every item that is not done, after those that it needs, which come earlier in the list.

    Each item has a process of its own, so that what TensorFlow keeps of one training does not slow the next. Where
    `stop_requested`, which is called twice a second, returns true, running items stop where they can be resumed.

    Raises:
        KeyboardInterrupt: A stop was requested.
        GgnError: The error of the first item that failed; running items are stopped in the same way.
    """
    done = {item.name for item in items if item.is_done(folder)}
    for name in done:
        report(done_message(name))
    waiting = [item for item in items if item.name not in done]
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    running: dict[Connection, _Worker] = {}
    try:
        while waiting or running:
            ready = [item for item in waiting if set(item.needs) <= done][: jobs - len(running)]
            waiting = [item for item in waiting if item not in ready]
            for item in ready:
                ours, theirs = context.Pipe(duplex=False)
                load = partial(pickle.loads, pickle.dumps((item, folder)))
                process = context.Process(target=_run_silently, args=(load, os.getpid(), stop.is_set, theirs))
                process.start()
                theirs.close()
                running[ours] = _Worker(item, process)
            readable = wait(list(running), _POLL_S)
            # Before receiving: a signal to the whole process group also ends processes that have just started.
            if stop_requested():
                raise KeyboardInterrupt
            for connection in [connection for connection in running if connection in readable]:
                message = _receive(connection, running[connection])
                report(message)
                if message.done:
                    done.add(running.pop(connection).item.name)
    finally:
        stop.set()
        for worker in running.values():
            worker.process.join()


def _receive(connection: Connection, worker: _Worker) -> WorkerMessage:
    try:
        message: WorkerMessage | BaseException = connection.recv()
    except EOFError:
        worker.process.join()
        raise RunError(
            "A process of the study ended unexpectedly.",
            case=worker.item.name,
            found=f"exit code {worker.process.exitcode}",
            expected="a process that ends by itself",
            remedy="Repeat the study; it resumes. After exit code -9 memory may be short: run fewer jobs at a time.",
            arguments=("jobs",),
        ) from None
    if isinstance(message, BaseException):
        raise message
    return message
