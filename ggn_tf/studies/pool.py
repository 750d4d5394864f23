"""The items of a study at work, each in a process of its own, several at a time."""

import multiprocessing
import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ggn_tf.errors import RunError
from ggn_tf.studies.item import Item, WorkFolder
from ggn_tf.studies.process import WorkerMessage, done_message, run_item

_POLL_S = 0.5


@dataclass(frozen=True)
class _Worker:
    item: Item
    process: BaseProcess


def run_items(
    items: Sequence[Item],
    folder: WorkFolder,
    jobs: int,
    report: Callable[[WorkerMessage], None],
    stop_requested: Callable[[], bool],
) -> None:
    """Do every item that is not done, after those that it needs.

    Each item has a process of its own, so that what TensorFlow keeps of one training does not slow the next.

    Args:
        items: In an order in which each comes after those that it needs.
        folder: The study's folder.
        jobs: Number of processes at a time.
        report: Called in this process with the progress of the items.
        stop_requested: Called twice a second; if true, running items stop where they can be resumed.

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
                process = context.Process(
                    target=run_item, args=(pickle.dumps((item, folder)), os.getpid(), stop, theirs)
                )
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
