"""The process that does one item of a study."""

import os
import pickle
import signal
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

from ggn_tf.errors import GgnError
from ggn_tf.tensorflow_import import load_tensorflow


@dataclass(frozen=True)
class WorkerMessage:
    """The progress of an item.

    Attributes:
        item: Its name.
        share: The share of its work that is done, in [0, 1].
        what: The current step, for example `joint epoch 3`, for a reader.
        done: Whether the item is done.
    """

    item: str
    share: float
    what: str
    done: bool = False


def done_message(item: str) -> WorkerMessage:
    """The last message about an item."""
    return WorkerMessage(item, 1.0, "done", done=True)


def run_item(pickled: bytes, parent: int, stop: Event, connection: Connection) -> None:
    """Do an item and send its progress; at the end its error, if it is one that a user can correct.

    Args:
        pickled: The item and its work folder; pickled separately, because unpickling them imports TensorFlow.
        parent: The process that started this one.
        stop: Set when the work shall stop where it can be resumed.
        connection: Where `WorkerMessage` are sent.
    """
    # Ctrl-C reaches every process of a terminal, SIGTERM those of a batch job; only the parent decides what they mean.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    load_tensorflow()
    from ggn_tf.studies.item import WorkerChannel

    item, folder = pickle.loads(pickled)

    def send(message: WorkerMessage) -> None:
        with suppress(BrokenPipeError):
            connection.send(message)

    # The children of a killed parent would train on, and keep the locks that the repeated command needs.
    channel = WorkerChannel(
        lambda share, step: send(WorkerMessage(item.name, share, step)),
        lambda: stop.is_set() or os.getppid() != parent,
    )
    try:
        item.run(folder, channel)
        send(done_message(item.name))
    except KeyboardInterrupt:
        pass
    except (GgnError, OSError) as error:
        connection.send(error)
