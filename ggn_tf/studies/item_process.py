"""An item of a study on a worker of a Dask cluster: in a process of its own, which the worker watches.

As in `pool`, so that what TensorFlow keeps of one training does not slow the next, and a process that ends for want of
memory does not end its worker. Workers are daemons, which `multiprocessing` refuses children. What a worker imports of
this module does not import TensorFlow.
"""

import dataclasses
import importlib.metadata
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ggn_tf
from ggn_tf.errors import GgnError, RunError
from ggn_tf.studies.pool import WorkerMessage, done_message, run_item

if TYPE_CHECKING:
    from ggn_tf.studies.item import Item, WorkFolder

# Dask gives its workers one thread for linear algebra, which would change last bits and take longer, and makes glibc
# return freed memory at once, so that every step of a training would have the kernel clear its memory again.
_OF_DASK = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}
_POLL_S = 0.5
_PROGRAM = "import sys; from ggn_tf.studies.item_process import run_process; run_process(int(sys.argv[1]))"


@dataclass(frozen=True)
class ItemTask:
    """What a worker receives of an item: paths on the shared file system, and no dataset.

    Attributes:
        pickled: The item and its work folder, as `load_item` reads them.
        mark: Name of a file in the work folder that only the submitting call has written.
        topic: Name under which the client receives the fields of `WorkerMessage`.
        versions: Versions of the packages on which the results depend, where the item was submitted.
    """

    name: str
    pickled: bytes
    folder: Path
    dataset: Path
    mark: str
    topic: str
    versions: Mapping[str, str]


def ignore_interrupts() -> None:
    """Let Ctrl-C, which reaches every process of a terminal, have its meaning in the client alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def installed_versions() -> dict[str, str]:
    """The versions here of the packages on which the results depend."""
    return {"ggn-tf": ggn_tf.__version__} | {name: importlib.metadata.version(name) for name in ("tensorflow", "keras")}


def describe_item(item: "Item", folder: "WorkFolder", mark: str, topic: str, versions: Mapping[str, str]) -> ItemTask:
    """An item for a worker: of the user's own splits only the item's, of the dataset its place and fingerprint."""
    path, dataset = folder.folder.absolute(), folder.dataset.folder.absolute()
    own = None if folder.own_splits is None else {item.split: folder.own_splits[item.split]}
    place = dataclasses.replace(folder.dataset, folder=dataset, cases=())
    sent = dataclasses.replace(folder, folder=path, dataset=place, own_splits=own)
    return ItemTask(item.name, pickle.dumps((item, sent)), path, dataset, mark, topic, versions)


def load_item(pickled: bytes) -> "tuple[Item, WorkFolder]":
    """The item and its work folder with the dataset opened; raises RunError where it is another one here."""
    from ggn_tf.dataset.records import open_dataset

    item, sent = pickle.loads(pickled)
    dataset = open_dataset(sent.dataset.folder, sent.dataset.protocol)
    if dataset.fingerprint != sent.dataset.fingerprint:
        raise RunError(
            "A worker of the cluster sees another dataset in the same folder.",
            case=dataset.folder,
            found=f"fingerprint {dataset.fingerprint[:12]}",
            expected=sent.dataset.fingerprint[:12],
            remedy="Use a folder of the shared file system.",
        )
    return item, dataclasses.replace(sent, dataset=dataset)


def do_item(task: ItemTask) -> GgnError | OSError | None:
    """Do an item on this worker, or resume it, until it is done or no longer needed.

    Returns:
        The error that a user can correct, which no repetition would.

    Raises:
        RunError: The item's process ended unexpectedly.
    """
    from distributed import get_worker

    worker = get_worker()
    refusal = _refusal(task, worker.address)
    if refusal is not None:
        return refusal
    needed = partial(_is_needed, worker, worker.get_current_task())

    def send(message: WorkerMessage) -> None:
        worker.log_event(task.topic, dataclasses.astuple(message))

    send(WorkerMessage(task.name, 0.0, "starting"))
    try:
        return watch_process(task, needed, send)
    finally:
        send(done_message(task.name))


def watch_process(
    task: ItemTask, needed: Callable[[], bool], send: Callable[[WorkerMessage], None]
) -> GgnError | OSError | None:
    """Start an item's process and pass on its messages; where the item is not `needed`, stop it. As `do_item`."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        command = [sys.executable, "-c", _PROGRAM, str(theirs.fileno())]
        env = {name: value for name, value in os.environ.items() if _OF_DASK.get(name) != value}
        # Ctrl-C in the worker's terminal shall not reach it.
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True, env=env)
        theirs.close()
        stopped, done, error = False, False, None
        with suppress(EOFError, ConnectionError):
            ours.send_bytes(task.pickled)
            while True:
                if not (stopped or needed()):
                    stopped = True
                    ours.send_bytes(b"")
                if not ours.poll(_POLL_S):
                    continue
                message = ours.recv()
                if isinstance(message, WorkerMessage):
                    done = message.done
                    send(message)
                else:
                    error = message
    code = process.wait()
    # Also of an item that was stopped: Dask must not take it for done where it still accepts its result.
    if not (done or error):
        raise RunError(
            "A process of the study ended unexpectedly on the cluster.",
            case=task.name,
            found=f"exit code {code}",
            expected="a process that ends by itself",
            remedy="Read the worker's log. After exit code -9 memory may be short: give workers fewer threads.",
        )
    return error


def run_process(handle: int) -> None:
    """Do the item that comes through a connection, and stop when a message comes; the program of an item's process."""
    connection, stop = Connection(handle), threading.Event()
    pickled = connection.recv_bytes()
    threading.Thread(target=_listen, args=(connection, stop), daemon=True).start()
    run_item(partial(load_item, pickled), os.getppid(), stop.is_set, connection)


def _listen(connection: Connection, stop: threading.Event) -> None:
    with suppress(EOFError, OSError):
        connection.recv_bytes()
        stop.set()
        connection.recv_bytes()
    # The worker was killed. The item can be resumed from what is on the disk, and its lock is needed elsewhere.
    os._exit(1)


def _is_needed(worker: Any, key: object) -> bool:
    """Whether the scheduler still expects the result: the client was not stopped or killed, and the worker stays."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state == "executing" and worker.status.name in ("running", "paused")


def _refusal(task: ItemTask, worker: str) -> RunError | None:
    """Why an item cannot be done on this worker."""
    versions = installed_versions()
    if versions != task.versions:
        return RunError(
            "A worker of the cluster has other versions.",
            case=worker,
            found=_listed(versions),
            expected=_listed(task.versions),
            remedy="Install the same versions for client and workers, for example with one image or environment.",
        )
    seen = (task.folder / task.mark).is_file()
    if seen and task.dataset.is_dir():
        return None
    return RunError(
        "A worker of the cluster does not see a folder.",
        case=worker,
        found=f"no folder {task.dataset}" if seen else f"no folder {task.folder}, or another one",
        expected="the folders of dataset and results under the same paths as here",
        remedy="Put both on a file system that all workers mount under the same path.",
    )


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
