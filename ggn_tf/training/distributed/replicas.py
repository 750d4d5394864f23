"""Several devices, of one process or of several, that share every batch (tf.distribute)."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch, CaseStream, Part
from ggn_tf.errors import RunError
from ggn_tf.models.fast.batch_layers import BatchShare, in_share
from ggn_tf.protocol import AugmentationProtocol
from ggn_tf.runs.checkpoints import Checkpoint, read_archive, write_archive
from ggn_tf.runs.reproducibility import threads_of_an_operation
from ggn_tf.training.replicas import Replicas, Step

_UNREACHABLE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    # A worker that came back as another process before its death was noticed.
    tf.errors.FailedPreconditionError,
)
_WORD = np.dtype(np.int32)


class SharedReplicas(Replicas):
    """Several replicas under a strategy of tf.distribute that mirrors variables.

    The strategy is made before TensorFlow's first operation. The number of replicas changes nothing in the result but
    the order of sums: a batch is the batch that one device would see (`Part`), batch normalisation and dropout look at
    all of it (`models.fast.batch_layers`), losses are averaged and gradients summed over its cases, and each replica
    then moves its own copy by the same step.

    `worker` is the number of this process, 0 for the chief, of `workers` processes with equally many devices.
    """

    def __init__(self, strategy: tf.distribute.Strategy, worker: int = 0, workers: int = 1) -> None:
        self._strategy = strategy
        self._devices = strategy.extended.worker_devices
        self._worker, self._workers = worker, workers
        self.count, self.is_chief = strategy.num_replicas_in_sync, worker == 0
        self._first = worker * len(self._devices)
        self._sum = tf.function(self._sum_over_processes, autograph=False)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """The block within which variables are made for every replica. The chief sends every variable's first value."""
        with worker_loss_as_error(self._worker, self._workers), self._strategy.scope():
            yield

    def model(self, build: Callable[[], keras.Model], load: Callable[[], keras.Model] | None) -> keras.Model:
        """Build the model on every replica, then give each the weights that the chief has loaded or built."""
        with self.scope():
            model = build()

        def read_weights() -> Checkpoint:
            weights = (load() if load else model).variables
            return Checkpoint({}, {str(index): weight.numpy() for index, weight in enumerate(weights)})

        sent = self.from_chief(read_weights)
        if sent is not None:
            for index, variable in enumerate(model.variables):
                variable.assign(sent.arrays[str(index)])
        return model

    def traced(self, step: Step) -> Callable[[Any], tuple[tf.Tensor, ...]]:
        """Run the step on every replica's share; each result is the first local replica's, as all are the same."""

        def on_replica(batch: Batch, share: BatchShare) -> tuple[tf.Tensor, ...]:
            with in_share(share):
                return step(batch)

        def on_all(local: list[tuple[Batch, BatchShare]]) -> tuple[tf.Tensor, ...]:
            results = self._strategy.run(on_replica, args=self._distributed(local))
            return tf.nest.map_structure(lambda result: self._strategy.experimental_local_results(result)[0], results)

        # One trace for every size of a share: the processes must build the same collective operations equally often.
        traced: list[Callable[..., tuple[tf.Tensor, ...]]] = []

        def call(local: list[tuple[Batch, BatchShare]]) -> tuple[tf.Tensor, ...]:
            if not traced:
                traced.append(tf.function(on_all, input_signature=[tf.nest.map_structure(_any_size, local)]))
            with worker_loss_as_error(self._worker, self._workers):
                return traced[0](local)

        return call

    def epoch(
        self,
        stream: CaseStream,
        batch_size: int,
        seed: int,
        epoch: int,
        augmentation: AugmentationProtocol,
        shift_mm: float,
        skip: int,
    ) -> Iterator[list[tuple[Batch, BatchShare]]]:
        """Yield, for every batch, a share for each of this process's devices."""
        parts = [Part(self._first + index, self.count) for index in range(len(self._devices))]
        streams = [
            stream.training_epoch(
                batch_size, seed, epoch, augmentation, shift_mm=shift_mm, skip=skip, device=_gpu(device), part=part
            )
            for device, part in zip(self._devices, parts, strict=True)
        ]
        sizes = stream.batch_sizes(batch_size)[skip:]
        for size, *batches in zip(sizes, *streams, strict=True):
            shares = [BatchShare(tf.constant(part.rows(size)[0]), tf.constant(size)) for part in parts]
            yield list(zip(batches, shares, strict=True))

    def part(self, cases: int) -> tuple[int, int]:
        """This process's part, rounded up: the chief, whose first batch TensorBoard shows, always has some."""
        start, stop = (-(-cases * worker // self._workers) for worker in (self._worker, self._worker + 1))
        return start, stop

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum of an array over all processes."""
        if self._workers == 1:
            return values
        with worker_loss_as_error(self._worker, self._workers):
            return self._sum(tf.constant(values)).numpy()

    def from_chief(self, read: Callable[[], Checkpoint | None]) -> Checkpoint | None:
        """What `read` returns in the chief, sent to the other processes."""
        checkpoint = read() if self.is_chief else None
        if self._workers == 1:
            return checkpoint
        stream = io.BytesIO()
        if checkpoint is not None:
            write_archive(stream, checkpoint)
        content = self._broadcast(stream.getvalue())
        return read_archive(content) if content else None

    def require_same(self, settings: Mapping[str, Any]) -> None:
        """Compare the settings and the number of threads with the chief's."""
        if self._workers == 1:
            return
        content = json.dumps({**settings, "threads": threads_of_an_operation()}).encode()
        local, chiefs = json.loads(content), json.loads(self._broadcast(content))
        different = [name for name, value in local.items() if chiefs.get(name) != value]
        if self.any(bool(different)):
            raise RunError(
                "The workers do not train the same run.",
                case=f"worker {self._worker} of {self._workers}",
                found=f"other than the chief's: {', '.join(different)}" if different else "another worker differs",
                expected="the same dataset, task, model, stages, split, seed, precision, numbers and threads",
                remedy="Start the same command with the same dataset and a fixed precision on every worker. The "
                "environment variable TF_NUM_INTRAOP_THREADS sets the number of threads.",
                arguments=("precision",),
            )

    def _broadcast(self, content: bytes) -> bytes:
        """The chief's bytes, in every process; those of the others are ignored."""
        size = int(self.sum(np.array([len(content) if self.is_chief else 0], np.int64))[0])
        if size == 0:
            return b""
        words = np.zeros(-(-size // _WORD.itemsize), _WORD)
        if self.is_chief:
            words.view(np.uint8)[:size] = np.frombuffer(content, np.uint8)
        return self.sum(words).tobytes()[:size]

    def _sum_over_processes(self, values: tf.Tensor) -> tf.Tensor:
        # Each process contributes once, whatever its number of devices.
        contributions = [values, *[tf.zeros_like(values)] * (len(self._devices) - 1)]
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, self._distributed(contributions), axis=None)

    def _distributed(self, local: list[Any]) -> Any:
        """One value per local device, as tf.distribute takes them."""
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: local[context.replica_id_in_sync_group - self._first]
        )


@contextmanager
def worker_loss_as_error(worker: int, workers: int) -> Iterator[None]:
    """Raise a RunError where TensorFlow cannot reach another process; of one process its errors pass unchanged."""
    try:
        yield
    except _UNREACHABLE as error:
        if workers == 1:
            raise
        raise RunError(
            "A worker of the training has ended or cannot be reached.",
            case=f"worker {worker} of {workers}",
            found=f"{type(error).__name__}: {_reason(str(error))}",
            expected=f"{workers} workers that train together",
            remedy="Start the same command on every worker again. Training resumes from the chief's last checkpoint.",
        ) from error


def _reason(text: str) -> str:
    """The line of a TensorFlow error that gives the reason, rather than the place in the graph."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("Collective ops")), lines[0] if lines else "")


def _any_size(tensor: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *tensor.shape[1:]] if tensor.shape.rank else [], tensor.dtype)


def _gpu(device: str) -> str | None:
    return device if "GPU" in device else None
