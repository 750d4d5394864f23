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

DONE = "done"


@dataclass(frozen=True)
class WorkerMessage:
    """How far an item is.

    Attributes:
        item: Its name.
        share: In [0, 1].
        what: At work, for example `joint epoch 3`; `DONE` at the end.
    """

    item: str
    share: float
    what: str


def run_item(pickled: bytes, parent: int, stop: Event, connection: Connection) -> None:
    """Do an item, and send news of it; at the end the error, if it is one of ours.

    Args:
        pickled: The item and its place; pickled apart, because unpickling them imports TensorFlow.
        parent: The process that started this one.
        stop: Set when the work is to come to a place from which it can go on.
        connection: Where `WorkerMessage` go.
    """
    # Ctrl-C reaches every process of a terminal, SIGTERM those of a batch job; only the parent decides what they mean.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    load_tensorflow()
    from ggn_tf.study.item import WorkerChannel

    item, place = pickle.loads(pickled)

    def tell(share: float, what: str) -> None:
        with suppress(BrokenPipeError):
            connection.send(WorkerMessage(item.name, share, what))

    # The children of a killed parent would train on, and hold the locks that the repeated command needs.
    line = WorkerChannel(tell, lambda: stop.is_set() or os.getppid() != parent)
    try:
        item.run(place, line)
        tell(1.0, DONE)
    except KeyboardInterrupt:
        pass
    except (GgnError, OSError) as error:
        connection.send(error)
