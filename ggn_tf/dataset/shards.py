"""TFRecord shards: patches and masks on disk, each record at a known offset.

TFRecord's checksums verify a record at every read. Its offset lets cases be read in any order without the whole set in
memory.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import tensorflow as tf

from ggn_tf.dataset.dataset_json import COPY_AGAIN
from ggn_tf.errors import DatasetError
from ggn_tf.tfrecords import RECORD_OVERHEAD, check_records

CASES_PER_SHARD = 256
_READ_BUFFER = 256 * 1024


def shard_name(number: int, count: int) -> str:
    """The file name of shard `number` of `count`, counted from 0."""
    return f"patches-{number:05d}-of-{count:05d}.tfrecord"


class ShardWriter:
    """Writes cases into shards; their names contain the number of shards, so `finish` gives them."""

    def __init__(self, folder: Path, cases_per_shard: int = CASES_PER_SHARD) -> None:
        self._folder = folder
        self._cases_per_shard = cases_per_shard
        self._cases = 0
        self._offset = 0
        self._file: tf.io.TFRecordWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def write(self, case_id: str, hu: np.ndarray, mask: np.ndarray) -> tuple[int, int]:
        """Append a case.

        Args:
            case_id: The case's id in the dataset.
            hu: float32 [D, H, W], z, y, x, Hounsfield units.
            mask: uint8 [D, H, W], 0 or 1.

        Returns:
            The number of the shard, from 0, and the offset of the record in it, in bytes.
        """
        shard = self._cases // self._cases_per_shard
        if self._file is None or self._cases % self._cases_per_shard == 0:
            self._close()
            with _disk_errors(self._folder):
                self._file = tf.io.TFRecordWriter(str(self._folder / f"{shard}.tfrecord"))
            self._offset = 0
        offset, record = self._offset, _encode(case_id, hu, mask)
        with _disk_errors(self._folder):
            self._file.write(record)
        self._cases += 1
        self._offset += len(record) + RECORD_OVERHEAD
        return shard, offset

    def finish(self) -> list[Path]:
        """Close the last shard and name all shards.

        Returns:
            The shards in the order of their numbers.
        """
        self._close()
        count = -(-self._cases // self._cases_per_shard)
        temporary = [self._folder / f"{number}.tfrecord" for number in range(count)]
        return [path.rename(self._folder / shard_name(number, count)) for number, path in enumerate(temporary)]

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with _disk_errors(self._folder):
                file.close()


def read_record(path: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Read the serialized case (string) at an offset in bytes (int64), all scalars; works inside a graph."""
    # The public class of TensorFlow 2.21 starts every file at its beginning; the operation behind it takes an offset.
    records = tf.raw_ops.TFRecordDatasetV2(
        filenames=[path], compression_type="", buffer_size=_READ_BUFFER, byte_offsets=[offset]
    )
    return tf.data.experimental.from_variant(records, tf.TensorSpec([], tf.string)).take(1).get_single_element()


def read_shard(path: Path, offsets: Sequence[int], shape_zyx: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Read the cases of one shard whose records begin at some offsets, in bytes.

    `shape_zyx` must be the dataset's `PatchProtocol.stored_zyx`, which includes the margin.

    Returns:
        Hounsfield units, float32 [N, D, H, W, 1], and masks, uint8 [N, D, H, W, 1].

    Raises:
        DatasetError: A record is damaged, truncated or missing.
    """
    try:
        check_records(path, offsets)
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error
    with shard_errors(path), tf.device("/CPU:0"):
        positions = tf.data.Dataset.from_tensor_slices(tf.constant(offsets, tf.int64))
        records = positions.map(lambda offset: read_record(tf.constant(str(path)), offset))
        hu, mask = decode_cases(records.batch(len(offsets)).get_single_element(), shape_zyx)
    return hu.numpy(), mask.numpy()


def decode_cases(records: tf.Tensor, shape_zyx: tuple[int, int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode serialized cases, string [N]; `shape_zyx` is as in `read_shard`.

    Returns:
        Hounsfield units, float32 [N, D, H, W, 1]; masks, uint8 [N, D, H, W, 1].
    """
    content = tf.io.parse_example(records, {name: tf.io.FixedLenFeature([], tf.string) for name in ("hu", "mask")})
    # The batch size is explicit because -1 is undefined for an empty batch (a worker without a share of the last one).
    shape = [tf.shape(records)[0], *shape_zyx, 1]
    hu, mask = tf.io.decode_raw(content["hu"], tf.float32), tf.io.decode_raw(content["mask"], tf.uint8)
    return tf.reshape(hu, shape), tf.reshape(mask, shape)


@contextmanager
def shard_errors(shard: Path) -> Iterator[None]:
    """Turn TensorFlow's errors while it reads a shard into one that names the shard.

    Raises:
        DatasetError: A record is damaged, truncated or missing.
    """
    try:
        yield
    except tf.errors.OpError as error:
        raise _unreadable(shard, error.message.split("\n")[0]) from error


def _unreadable(shard: Path, found: str) -> DatasetError:
    return DatasetError(
        "A shard of the dataset cannot be read.",
        case=shard,
        found=found,
        expected="the records that were written, with their checksums",
        remedy=COPY_AGAIN,
    )


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn TensorFlow's errors while it writes a shard into one of ours."""
    try:
        yield
    except tf.errors.OpError as error:
        raise DatasetError(
            "A shard of the dataset cannot be written.",
            case=folder.parent,
            found=error.message.split("; ")[-1],
            expected="a folder that can be written to, with free space on the disk",
            remedy="Free space, or name another folder. Nothing half-written was left behind.",
            arguments=("output",),
        ) from error


def _encode(case_id: str, hu: np.ndarray, mask: np.ndarray) -> bytes:
    content = {"id": case_id.encode(), "hu": hu.astype("<f4").tobytes(), "mask": mask.astype(np.uint8).tobytes()}
    features = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[data])) for name, data in content.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
