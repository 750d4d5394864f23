"""The items of a study as tasks of a Dask cluster: submitted, observed and stopped from here."""

import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from distributed import CancelledError, Client, Future, LocalCluster
from distributed.client import ClosedClientError
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker
from distributed.utils import LoopRunner

from ggn_tf.errors import GgnError, GgnWarning, RunError
from ggn_tf.studies.item import Item, WorkFolder
from ggn_tf.studies.item_process import ItemTask, describe_item, do_item, ignore_interrupts, installed_versions
from ggn_tf.studies.pool import WorkerMessage, done_message
from ggn_tf.studies.workers import Cluster

_CONNECT_S = 10.0
_LOOP_STARTS = 6
_POLL_S = 0.5
_RESULT_S = 5.0
# How often the scheduler is asked for its workers.
_ASK_S = 10.0
# For the step and the checkpoint of items that are to stop; an item whose worker has died never reports its end.
_STOP_S = 60.0
# Dask repeats an item whose process ended unexpectedly; it resumes.
_RETRIES = 2

Perform = Callable[[ItemTask], GgnError | OSError | None]


def run_on_cluster(
    items: Sequence[Item],
    folder: WorkFolder,
    cluster: Cluster,
    report: Callable[[WorkerMessage], None],
    stop_requested: Callable[[], bool],
    perform: Perform = do_item,
) -> None:
    """Do every item that is not done, after those that it needs, which come earlier in the list.

    The item of a lost worker resumes on another. Where `stop_requested`, which is called twice a second, returns true,
    running items stop where they can be resumed; they also do so where this process or the scheduler ends.

    The work folder is on a file system that all workers see under the same path.

    Raises:
        KeyboardInterrupt: A stop was requested.
        GgnError: The error of the first item that failed, where running items are stopped in the same way; or the
            scheduler cannot be reached or was lost, or workers have other versions or do not see the folders.
    """
    done = {item.name for item in items if item.is_done(folder)}
    for name in done:
        report(done_message(name))
    waiting = [item for item in items if item.name not in done]
    if not waiting:
        return
    with _connected(cluster, len(waiting)) as client, _marked(folder.folder) as mark:
        versions, priorities = installed_versions(), {item.name: -number for number, item in enumerate(items)}
        work = _ItemsAtWork(client, cluster.resources, perform, priorities)
        try:
            while waiting or work.futures:
                ready = [item for item in waiting if set(item.needs) <= done]
                waiting = [item for item in waiting if not set(item.needs) <= done]
                for item in ready:
                    work.submit(describe_item(item, folder, mark, work.topic, versions))
                for message in work.messages():
                    report(message)
                    if message.done:
                        done.add(message.item)
                if stop_requested():
                    raise KeyboardInterrupt
        except (CancelledError, ClosedClientError, CommClosedError):
            # Found before the futures' own messages about it came.
            raise _lost() from None
        finally:
            work.stop()


@contextmanager
def _connected(cluster: Cluster, items: int) -> Iterator[Client]:
    """A client of the cluster, which is started here where it has no address."""
    with ExitStack() as stack:
        local, loop = None, stack.enter_context(_event_loop())
        if cluster.address is None:
            # Encrypted with keys of its own: else every user of this machine could have it execute code.
            local = LocalCluster(
                n_workers=min(cluster.workers, items),
                threads_per_worker=1,
                memory_limit=None,
                dashboard_address="127.0.0.1:0",
                security=True,
                loop=loop,
            )
            stack.enter_context(local)
        try:
            client = Client(local or cluster.address, timeout=_CONNECT_S, set_as_default=False, loop=loop)
            stack.enter_context(client)
        # Dask raises the last two for addresses that its security settings do not allow.
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise RunError(
                "The scheduler of the cluster cannot be reached.",
                case=cluster.address,
                found=str(error) or type(error).__name__,
                expected="a Dask scheduler that accepts this machine",
                remedy="Start `dask scheduler`, and check address, port and the TLS settings of Dask's configuration.",
                arguments=("cluster",),
            ) from None
        if local is not None:
            client.run(ignore_interrupts)
        yield client


@contextmanager
def _event_loop() -> Iterator[Any]:
    """A started event loop for Dask, which gives its thread 10 s to start: too few on a machine that is very busy."""
    for _ in range(_LOOP_STARTS):
        runner = LoopRunner()
        # Dask's check that it has started. The thread of a failed start ends with the process.
        with suppress(AssertionError):
            runner.start()
            break
    if not runner.is_started():
        raise TimeoutError("The event loop of Dask did not start within a minute.")
    try:
        yield runner.loop
    finally:
        runner.stop()


@contextmanager
def _marked(folder: Path) -> Iterator[str]:
    """Write what only this call has written into the folder, so that a worker can verify that it sees this folder."""
    mark = folder / f".cluster-{uuid.uuid4().hex}"
    mark.touch()
    try:
        yield mark.name
    finally:
        mark.unlink(missing_ok=True)


class _ItemsAtWork:
    """The items that were submitted and are not done."""

    def __init__(
        self, client: Client, resources: Mapping[str, float], perform: Perform, priorities: Mapping[str, int]
    ) -> None:
        self.futures: dict[str, Future[GgnError | OSError | None]] = {}
        self.topic = f"ggn-tf-{uuid.uuid4().hex}"
        self._client, self._resources, self._perform, self._priorities = client, resources, perform, priorities
        self._tasks: dict[str, ItemTask] = {}
        # Shares when an item was submitted, and now.
        self._begun: dict[str, float] = {}
        self._shares: dict[str, float] = {}
        self._running: set[str] = set()
        self._events: SimpleQueue[WorkerMessage | tuple[str, Future[Any]]] = SimpleQueue()
        self._asked_at = time.monotonic()
        self._missing = ""
        client.subscribe_topic(self.topic, lambda event: self._events.put(WorkerMessage(*event[1])))

    def submit(self, task: ItemTask) -> None:
        """Have a worker do an item."""
        name = task.name
        self._tasks[name], self._begun[name] = task, self._shares.get(name, 0.0)
        self.futures[name] = self._client.submit(
            self._perform,
            task,
            key=(self.topic, name, uuid.uuid4().hex),
            retries=_RETRIES,
            resources=dict(self._resources) or None,
            priority=self._priorities[name],
            pure=False,
        )
        self.futures[name].add_done_callback(lambda future: self._events.put((name, future)))

    def messages(self) -> Iterator[WorkerMessage]:
        """The messages that came, after waiting for the first up to half a second; raises what ends the work."""
        with suppress(Empty):
            event = self._events.get(timeout=_POLL_S)
            while True:
                yield from self._handled(event)
                event = self._events.get_nowait()
        self._note_missing_workers()

    def stop(self) -> None:
        """Stop what runs where it can be resumed, and wait for it."""
        if not self.futures or self._client.status != "running":
            return
        with suppress(OSError, CancelledError):
            self._client.cancel(list(self.futures.values()))
        ends = time.monotonic() + _STOP_S
        while self._running and time.monotonic() < ends:
            with suppress(Empty):
                event = self._events.get(timeout=_POLL_S)
                if isinstance(event, WorkerMessage):
                    self._observe(event)

    def _handled(self, event: WorkerMessage | tuple[str, Future[Any]]) -> Iterator[WorkerMessage]:
        if isinstance(event, WorkerMessage):
            self._observe(event)
            if event.item in self.futures and not event.done:
                yield event
            return
        name, future = event
        if future.cancelled():
            raise _lost()
        error = future.exception()
        if isinstance(error, KilledWorker) and self._shares.get(name, 0.0) > self._begun[name]:
            # As often as Dask allows, but never without progress in between.
            self.submit(self._tasks[name])
            return
        if error is not None:
            raise error if isinstance(error, GgnError) else _cannot_run(name, error)
        try:
            result = future.result(timeout=_RESULT_S)
        except TimeoutError:
            # Its worker has ended since: Dask repeats the item.
            self._events.put(event)
            return
        del self.futures[name]
        if result is not None:
            raise result
        yield done_message(name)

    def _observe(self, message: WorkerMessage) -> None:
        """Note which items are at work: their last message is sent at the end of their process, whatever its reason."""
        if message.done:
            self._running.discard(message.item)
        else:
            self._running.add(message.item)
            self._shares[message.item] = max(message.share, self._shares.get(message.item, 0.0))

    def _note_missing_workers(self) -> None:
        """Warn where no worker can do the items, as after the last one has ended."""
        if not self.futures or time.monotonic() < self._asked_at + _ASK_S:
            return
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        self._asked_at = time.monotonic()
        suited = any(all(worker["resources"].get(n, 0) >= a for n, a in self._resources.items()) for worker in workers)
        needed = ", ".join(f"{name} {amount:g}" for name, amount in self._resources.items())
        missing = "" if suited else f"no worker that has {needed}" if workers else "no workers"
        if missing and missing != self._missing:
            text = f"The cluster has {missing}. {len(self.futures)} items wait for one."
            warnings.warn(GgnWarning(text), stacklevel=2)
        self._missing = missing


def _lost() -> RunError:
    return RunError(
        "The connection to the scheduler of the cluster was lost.",
        expected="a scheduler that runs until the last item is done",
        remedy="Start scheduler and workers again where they have ended, and repeat the command; it resumes.",
    )


def _cannot_run(item: str, error: BaseException) -> RunError:
    if isinstance(error, KilledWorker):
        return RunError(
            "Workers of the cluster died over an item, without progress in between.",
            case=item,
            found=str(error),
            expected="workers that stay alive",
            remedy="Read the workers' logs; memory may be short. Repeat the command; it resumes.",
        )
    return RunError(
        "The cluster cannot run the items of a study.",
        case=item,
        found=" ".join(f"{type(error).__name__}: {error}".split()),
        expected="the same version of ggn-tf and Dask for client, scheduler and workers",
        remedy="Install them there, for example from one image or environment, and read the logs.",
    )
