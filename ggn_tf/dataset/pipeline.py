"""From a dataset to batches: read, cache, shuffle, batch, copy to the device, augment there, prefetch.

The batches of an epoch are a pure function of (seed, epoch): the order is drawn outside tf.data and every batch carries
its own draw of the augmentation, so no iterator has a state that a resumed run would have to restore. The decoded cases
are cached in memory where they fit (740 cases: 120 MB); otherwise every batch reads its records from the shards. The
batches are the same either way.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import tensorflow as tf

from ggn_tf.dataset.augmentation import (
    Augmentation,
    apply_augmentation,
    cut_shifted,
    draw_augmentation,
    draw_shift,
)
from ggn_tf.dataset.records import Dataset, digest_patch, read_patches_uint8, read_with_margin
from ggn_tf.dataset.shards import decode_cases, read_record, shard_errors
from ggn_tf.errors import DatasetError
from ggn_tf.protocol import AugmentationProtocol
from ggn_tf.tasks import Task

# Some 13,000 cases of 32^3 voxels, at five bytes per voxel.
CACHE_BYTES = 2 * 1024**3

Batches = TypeVar("Batches")

_BYTES_PER_VOXEL = 5
_CHECKED_AT_ONCE = 256
_SHIFT = 1


class Batch(NamedTuple):
    """The cases of one step.

    Attributes:
        patch: float32 [N, S, S, S, 1], z, y, x, normalised to [-1, 1].
        mask: float32 [N, S, S, S, 1], 0 or 1.
        label: int32 [N], the index of the task's class; 0 without a task.
    """

    patch: tf.Tensor
    mask: tf.Tensor
    label: tf.Tensor


class _Read(Protocol):
    def __call__(self, rows: tf.Tensor, shift: tf.Tensor | None = None) -> Batch: ...


class Part(NamedTuple):
    """A worker's part of every batch: number `worker` (from 0) of `workers` equal parts."""

    worker: int
    workers: int

    def rows(self, size: int) -> tuple[int, int]:
        """The first row, and the one after the last, of this part in a batch of `size` cases.

        With fewer cases than workers each takes all of them: no part may be empty, and averages stay the same.
        """
        if size < self.workers:
            return 0, size
        return size * self.worker // self.workers, size * (self.worker + 1) // self.workers


WHOLE = Part(0, 1)


def normalise_hu(hu: tf.Tensor, window_hu: tuple[float, float]) -> tf.Tensor:
    """Clip Hounsfield units, float32 of any shape, to the window and map it to [-1, 1] (eq. 5)."""
    low, high = window_hu
    return (tf.clip_by_value(hu, low, high) - low) / (high - low) * 2 - 1


class CaseStream:
    """Cases of a dataset as batches of a task; the cases are read, or checked, once.

    Args:
        dataset: An opened dataset.
        case_ids: For example one set of a split.
        task: Gives each label its class, or leaves it out. None: every case is kept, and none has a class.
        cache: Whether to keep the cases in memory. None: if they take less than `CACHE_BYTES`.
        shifted: Whether `training_epoch` shifts the centres: the cases are then kept with their margin.

    Attributes:
        case_ids: The cases that it yields, in the given order, without those whose label the task leaves out.
        labels: int32 [cases], their classes.
        folder: The dataset's folder.

    Raises:
        TaskError: The task names labels that the dataset does not contain.
        DatasetError: A case is unknown, none is left, or a record cannot be read.
    """

    def __init__(
        self,
        dataset: Dataset,
        case_ids: Sequence[str],
        task: Task | None,
        *,
        cache: bool | None = None,
        shifted: bool = False,
    ) -> None:
        if task:
            task.check_labels(dataset.labels)
        classes = [(case, task.class_of(case.label) if task else 0) for case in dataset.select(case_ids)]
        kept = [(case, number) for case, number in classes if number is not None]
        if not kept:
            raise DatasetError(
                "No case is left for the task.",
                case=dataset.folder,
                found=f"{len(classes)} cases, none with a label of the task {str(task)!r}",
                expected="at least one",
                remedy="Choose another task, or prepare more cases.",
            )
        self.case_ids = tuple(case.case_id for case, _ in kept)
        self.labels = np.array([number for _, number in kept], np.int32)
        self.folder, self._protocol, self._shifted = dataset.folder, dataset.protocol, shifted
        if cache is None:
            voxels = math.prod(dataset.protocol.stored_zyx) if shifted else dataset.protocol.size**3
            cache = len(kept) * voxels * _BYTES_PER_VOXEL <= CACHE_BYTES
        self._read = self._from_memory(dataset) if cache else self._from_shards(dataset)

    def __len__(self) -> int:
        """The number of cases."""
        return len(self.case_ids)

    def batch_sizes(self, batch_size: int) -> list[int]:
        """The number of cases in each batch of an epoch; the last may be smaller."""
        return [min(batch_size, len(self) - start) for start in range(0, len(self), batch_size)]

    def training_epoch(
        self,
        batch_size: int,
        seed: int,
        epoch: int,
        augmentation: AugmentationProtocol,
        *,
        shift_mm: float = 0.0,
        skip: int = 0,
        device: str | None = None,
        part: Part = WHOLE,
    ) -> tf.data.Dataset:
        """The batches of one epoch, shuffled and augmented; always the same for the same seed and epoch.

        Args:
            batch_size: Cases in a batch, over all workers.
            seed: The run's seed.
            epoch: Number of the epoch, from 0; it must only differ between epochs.
            augmentation: The numbers of the augmentation.
            shift_mm: How far centres are shifted at most, in every direction; not more than the dataset's margin.
            skip: Number of batches of this epoch to leave out, because a resumed run has seen them.
            device: Where batches are copied to and augmented. None: the first GPU if there is one, else the host.
            part: The worker's part of every batch; all parts together are the batch of a single worker.

        Returns:
            A dataset of `Batch`; the last one may be smaller.
        """
        draw = self._draw(batch_size, seed, epoch, augmentation, shift_mm, part)

        @tf.autograph.experimental.do_not_convert
        def read(number: tf.Tensor) -> tuple[Batch, Augmentation]:
            rows, shift, drawn = draw(number)
            return self._read(rows, shift), drawn

        device = device or _default_device()
        with tf.device("/CPU:0"):
            numbers = tf.data.Dataset.range(skip, len(self.batch_sizes(batch_size)))
            batches = numbers.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            if device is None:
                return batches.map(_augmented, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)
            on_device = batches.prefetch(2).apply(tf.data.experimental.copy_to_device(device))
        with tf.device(device):
            return on_device.map(_augmented).prefetch(1)

    def in_order(self, batch_size: int, start: int = 0, stop: int | None = None) -> tf.data.Dataset:
        """The cases from `start` to before `stop`, in the order of `case_ids`, without augmentation, for evaluation.

        Returns:
            A dataset of `Batch`; the last one may be smaller.
        """
        rows = tf.data.Dataset.range(start, len(self) if stop is None else stop).batch(batch_size)
        read = tf.autograph.experimental.do_not_convert(self._read)
        return rows.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)

    def _from_memory(self, dataset: Dataset) -> "_Read":
        hu, mask = (read_with_margin if self._shifted else read_patches_uint8)(dataset, self.case_ids)
        # On the host: TensorFlow would put the constants, the whole set, on the GPU.
        with tf.device("/CPU:0"):
            kept = tf.constant(hu), tf.constant(mask), tf.constant(self.labels)

        def read(rows: tf.Tensor, shift: tf.Tensor | None = None) -> Batch:
            hu, mask, label = (tf.gather(whole, rows) for whole in kept)
            return self._batch(hu, mask, label, shift)

        return read

    def _from_shards(self, dataset: Dataset) -> "_Read":
        # All records are read once now, so that damage is reported here and not as a TensorFlow error in a later epoch.
        for start in range(0, len(self), _CHECKED_AT_ONCE):
            read_patches_uint8(dataset, self.case_ids[start : start + _CHECKED_AT_ONCE])
        cases = dataset.select(self.case_ids)
        with tf.device("/CPU:0"):
            paths = tf.constant([str(dataset.folder / case.shard) for case in cases])
            offsets = tf.constant([case.offset for case in cases], tf.int64)
            labels = tf.constant(self.labels)
        digests = [case.digest for case in cases]

        def check(rows: np.ndarray, hu: np.ndarray, mask: np.ndarray) -> bool:
            for row, case_hu, case_mask in zip(rows, hu, mask, strict=True):
                if digest_patch(case_hu, case_mask) != digests[row]:
                    raise ValueError(f"another patch than was written for case {self.case_ids[row]}")
            return True

        def read(rows: tf.Tensor, shift: tf.Tensor | None = None) -> Batch:
            text = tf.TensorSpec([], tf.string)
            records = tf.map_fn(lambda row: read_record(paths[row], offsets[row]), rows, fn_output_signature=text)
            hu, mask = decode_cases(records, self._protocol.stored_zyx)
            # The shards may have been exchanged since they were checked, which TFRecord's checksums do not show.
            with tf.control_dependencies([tf.numpy_function(check, [rows, hu, mask], tf.bool)]):
                return self._batch(tf.identity(hu), mask, tf.gather(labels, rows), shift)

        return read

    def _batch(self, hu: tf.Tensor, mask: tf.Tensor, label: tf.Tensor, shift: tf.Tensor | None) -> Batch:
        if shift is not None:
            hu, mask = (cut_shifted(stored, shift, self._protocol) for stored in (hu, mask))
        elif tuple(hu.shape[1:4]) == self._protocol.stored_zyx:
            hu, mask = self._protocol.without_margin(hu), self._protocol.without_margin(mask)
        return Batch(normalise_hu(hu, self._protocol.window_hu), tf.cast(mask, tf.float32), label)

    def _draw(
        self, batch_size: int, seed: int, epoch: int, augmentation: AugmentationProtocol, shift_mm: float, part: Part
    ) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor | None, Augmentation]]:
        """A function from a batch's number to the worker's cases in it, the shifts of their centres, and the rest."""
        if shift_mm and not self._shifted:
            raise ValueError("Expected cases with their margin. Received: shift_mm without shifted=True")
        order = tf.constant(np.random.default_rng((seed, epoch)).permutation(len(self)))
        shares = tf.constant([part.rows(size) for size in self.batch_sizes(batch_size)])
        epoch_seed = tf.constant(np.random.SeedSequence((seed, epoch)).generate_state(2).view(np.int32))

        def draw(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None, Augmentation]:
            whole = order[number * batch_size : (number + 1) * batch_size]
            start, stop = tf.unstack(shares[number])
            seed = tf.random.experimental.stateless_fold_in(epoch_seed, number)
            drawn = _drawn(tf.shape(whole)[0], seed, augmentation).part(start, stop)
            if not shift_mm:
                return whole[start:stop], None, drawn
            # A seed of its own, so that shifts change nothing else of the draw.
            shift_seed = tf.random.experimental.stateless_fold_in(seed, _SHIFT)
            shift = draw_shift(tf.shape(whole)[0], shift_seed, shift_mm, self._protocol.spacing_mm_zyx)
            return whole[start:stop], shift[start:stop], drawn

        return draw


def read_batches(batches: Iterable[Batches], stream: CaseStream) -> Iterator[Batches]:
    """Yield a stream's batches, with an error of ours where one cannot be read.

    Raises:
        DatasetError: A shard was damaged, exchanged or deleted since the stream was made.
    """
    iterator = iter(batches)
    while True:
        with shard_errors(stream.folder):
            batch = next(iterator, None)
        if batch is None:
            return
        yield batch


# Traced once, not once per epoch.
_drawn = tf.function(draw_augmentation, autograph=False)


@tf.function(autograph=False)
def _augmented(batch: Batch, drawn: Augmentation) -> Batch:
    return Batch(*apply_augmentation(batch.patch, batch.mask, drawn), batch.label)


def _default_device() -> str | None:
    return "/GPU:0" if tf.config.list_logical_devices("GPU") else None
