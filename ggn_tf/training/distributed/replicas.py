"""The devices and processes that train together: one, or several that share every batch (tf.distribute)."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch, CaseStream, Part
from ggn_tf.errors import RunError
from ggn_tf.models.fast.batch_share import BatchShare, in_share
from ggn_tf.protocol import AugmentationProtocol

_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    # A worker that came back as another process before its death was noticed.
    tf.errors.FailedPreconditionError,
)
_WORD = np.dtype(np.int32)


class Replicas:
    """One device in one process, without tf.distribute; and what several have in common with it.

    Attributes:
        count: Replicas over all processes; each holds a copy of the model and a share of every batch.
        workers: Processes.
        worker: This one's number; 0 is the chief, who alone writes.
    """

    count = 1
    workers = 1
    worker = 0

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run folder."""
        return self.worker == 0

    def scope(self) -> AbstractContextManager[Any]:
        """Where variables are made that every replica is to have."""
        return nullcontext()

    def traced(self, step: Callable[[Batch], tuple[tf.Tensor, ...]]) -> Callable[[Any], tuple[tf.Tensor, ...]]:
        """Make a step of one replica a step of all.

        Args:
            step: Takes a replica's share of a batch; what it answers is the same on every replica.

        Returns:
            Takes what `epoch` yields.
        """
        return tf.function(step, reduce_retracing=True)

    def epoch(
        self,
        stream: CaseStream,
        batch_size: int,
        seed: int,
        epoch: int,
        augmentation: AugmentationProtocol,
        skip: int,
    ) -> Iterable[Any]:
        """The batches of an epoch, of each this process's part; arguments as of `CaseStream.training_epoch`."""
        return stream.training_epoch(batch_size, seed, epoch, augmentation, skip=skip)

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum of an array over all processes, the same on each; all must call it, with one shape and type."""
        return values

    def any(self, flag: bool) -> bool:
        """Whether a flag is up in any process; all must call it."""
        return bool(self.total(np.array([flag], np.int32))[0])

    def from_chief(self, content: bytes) -> bytes:
        """The chief's bytes, in every process; all must call it, what the others bring is ignored."""
        return content


ONE_REPLICA = Replicas()


class SharedReplicas(Replicas):
    """Several replicas under a strategy of tf.distribute that mirrors variables.

    Nothing of the result depends on their number but the order of sums: a batch is the batch that one device would see
    (`Part`), batch normalisation and dropout look at all of it (`models/shares.py`), losses are averaged and gradients
    summed over its cases, and each replica then moves its own copy by the same step.

    Args:
        strategy: MirroredStrategy or MultiWorkerMirroredStrategy, made before TensorFlow's first operation.
        worker: This process's number.
        workers: Processes, all with equally many devices.
    """

    def __init__(self, strategy: tf.distribute.Strategy, worker: int = 0, workers: int = 1) -> None:
        """See the class."""
        self._strategy = strategy
        self._devices = strategy.extended.worker_devices
        self.count, self.workers, self.worker = strategy.num_replicas_in_sync, workers, worker
        self._first = worker * len(self._devices)
        self._sum = tf.function(self._sum_over_processes)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """See `Replicas`. The chief sends the others every variable's first value."""
        with worker_loss_as_error(self.worker, self.workers), self._strategy.scope():
            yield

    def traced(self, step: Callable[[Batch], tuple[tf.Tensor, ...]]) -> Callable[[Any], tuple[tf.Tensor, ...]]:
        """See `Replicas`."""

        def on_replica(batch: Batch, share: BatchShare) -> tuple[tf.Tensor, ...]:
            with in_share(share):
                return step(batch)

        def on_all(local: list[tuple[Batch, BatchShare]]) -> tuple[tf.Tensor, ...]:
            answers = self._strategy.run(on_replica, args=self._distributed(local))
            return tf.nest.map_structure(lambda answer: self._strategy.experimental_local_results(answer)[0], answers)

        # One trace for every size of a share: the processes must build the same collective operations equally often.
        traced: list[Callable[..., tuple[tf.Tensor, ...]]] = []

        def call(local: list[tuple[Batch, BatchShare]]) -> tuple[tf.Tensor, ...]:
            if not traced:
                traced.append(tf.function(on_all, input_signature=[tf.nest.map_structure(_any_size, local)]))
            with worker_loss_as_error(self.worker, self.workers):
                return traced[0](local)

        return call

    def epoch(
        self,
        stream: CaseStream,
        batch_size: int,
        seed: int,
        epoch: int,
        augmentation: AugmentationProtocol,
        skip: int,
    ) -> Iterator[list[tuple[Batch, BatchShare]]]:
        """See `Replicas`. Yields a share for each of this process's devices."""
        parts = [Part(self._first + index, self.count) for index in range(len(self._devices))]
        streams = [
            stream.training_epoch(batch_size, seed, epoch, augmentation, skip=skip, device=_gpu(device), part=part)
            for device, part in zip(self._devices, parts, strict=True)
        ]
        sizes = stream.batch_sizes(batch_size)[skip:]
        for size, *batches in zip(sizes, *streams, strict=True):
            shares = [BatchShare(tf.constant(part.rows(size)[0]), tf.constant(size)) for part in parts]
            yield list(zip(batches, shares, strict=True))

    def total(self, values: np.ndarray) -> np.ndarray:
        """See `Replicas`."""
        if self.workers == 1:
            return values
        with worker_loss_as_error(self.worker, self.workers):
            return self._sum(tf.constant(values)).numpy()

    def from_chief(self, content: bytes) -> bytes:
        """See `Replicas`."""
        size = int(self.total(np.array([len(content) if self.is_chief else 0], np.int64))[0])
        if size == 0:
            return b""
        words = np.zeros(-(-size // _WORD.itemsize), _WORD)
        if self.is_chief:
            words.view(np.uint8)[:size] = np.frombuffer(content, np.uint8)
        return self.total(words).tobytes()[:size]

    def _sum_over_processes(self, values: tf.Tensor) -> tf.Tensor:
        # A process has one say, however many devices it has.
        says = [values, *[tf.zeros_like(values)] * (len(self._devices) - 1)]
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, self._distributed(says), axis=None)

    def _distributed(self, local: list[Any]) -> Any:
        """A value for each of this process's devices as tf.distribute takes it."""
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: local[context.replica_id_in_sync_group - self._first]
        )


@contextmanager
def worker_loss_as_error(worker: int, workers: int) -> Iterator[None]:
    """Say so where TensorFlow cannot reach another process; of one process its errors are others.

    Args:
        worker: This process's number.
        workers: How many there are.

    Raises:
        RunError: In place of TensorFlow's own error.
    """
    try:
        yield
    except _GONE as error:
        if workers == 1:
            raise
        raise RunError(
            "A worker of the training is gone, or cannot be reached.",
            case=f"worker {worker} of {workers}",
            found=f"{type(error).__name__}: {_reason(str(error))}",
            expected=f"{workers} workers that train together",
            remedy="Start the same command on every worker again; it goes on from the chief's last checkpoint.",
        ) from error


def _reason(text: str) -> str:
    """The line of an error of TensorFlow's that says why, not where in the graph."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("Collective ops")), lines[0] if lines else "")


def _any_size(tensor: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *tensor.shape[1:]] if tensor.shape.rank else [], tensor.dtype)


def _gpu(device: str) -> str | None:
    return device if "GPU" in device else None
