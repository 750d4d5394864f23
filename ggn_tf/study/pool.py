"""A study's items at work, each in a process of its own, so many at a time."""

import multiprocessing
import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ggn_tf.errors import RunError
from ggn_tf.study.item import Item, WorkFolder
from ggn_tf.study.process import DONE, WorkerMessage, run_item

_POLL_S = 0.5


def run_items(
    items: Sequence[Item],
    place: WorkFolder,
    jobs: int,
    tell: Callable[[WorkerMessage], None],
    stop_requested: Callable[[], bool],
) -> None:
    """Do every item that is not done, those that others need before them.

    A process an item: what TensorFlow keeps of one training never burdens the next.

    Args:
        items: In an order in which each comes after those that it needs.
        place: The study's.
        jobs: Processes at a time.
        tell: Told in this process.
        stop_requested: Asked twice a second; items at work then stop where they can be gone on with.

    Raises:
        KeyboardInterrupt: Asked to stop.
        GgnError: The first item that failed; those at work are stopped as above.
    """
    done = {item.name for item in items if item.is_done(place)}
    for name in done:
        tell(WorkerMessage(name, 1.0, "done"))
    waiting = [item for item in items if item.name not in done]
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    at_work: dict[Connection, _Worker] = {}
    try:
        while waiting or at_work:
            ready = [item for item in waiting if set(item.needs) <= done][: jobs - len(at_work)]
            waiting = [item for item in waiting if item not in ready]
            for item in ready:
                ours, theirs = context.Pipe(duplex=False)
                payload = pickle.dumps((item, place))
                process = context.Process(target=run_item, args=(payload, os.getpid(), stop, theirs))
                process.start()
                theirs.close()
                at_work[ours] = _Worker(item, process)
            ready_to_read = wait(list(at_work), _POLL_S)
            # Asked before listening: who stops a whole process group stops processes that have just begun, too.
            if stop_requested():
                raise KeyboardInterrupt
            for connection in [connection for connection in at_work if connection in ready_to_read]:
                if _listen(connection, at_work[connection], tell):
                    done.add(at_work.pop(connection).item.name)
    finally:
        stop.set()
        for worker in at_work.values():
            worker.process.join()


@dataclass(frozen=True)
class _Worker:
    item: Item
    process: BaseProcess


def _listen(connection: Connection, worker: _Worker, tell: Callable[[WorkerMessage], None]) -> bool:
    """Pass one message on; whether the item is done."""
    try:
        message = connection.recv()
    except EOFError:
        worker.process.join()
        raise RunError(
            "A process of the study died.",
            case=worker.item.name,
            found=f"exit code {worker.process.exitcode}",
            expected="a process that ends by itself",
            remedy="Repeat the command, it goes on. With -9 memory may have run out: fewer --jobs leave each more.",
        ) from None
    if isinstance(message, BaseException):
        raise message
    tell(message)
    return message.what == DONE
