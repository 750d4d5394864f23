"""Checkpoints: everything that a stage needs to resume, in one file that is complete or absent."""

import hashlib
import io
import json
import math
import struct
import tokenize
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ggn_tf.errors import RunError
from ggn_tf.files import atomic_file

_KEPT = 2
_PROGRESS = "progress"
# Raised by zipfile, NumPy's reader of headers and json for archives that are damaged or not theirs.
_UNREADABLE = (
    *(LookupError, RecursionError, NotImplementedError, OSError, EOFError, SyntaxError, TypeError),
    *(zipfile.BadZipFile, struct.error, tokenize.TokenError),
)
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Checkpoint:
    """The state of a stage between two steps: counters and history as JSON types, and every variable by name."""

    progress: dict[str, Any]
    arrays: Mapping[str, np.ndarray]


class CheckpointStore:
    """The checkpoints of one stage: numbered files, of which the last two are kept.

    A file is an uncompressed NumPy archive, which `numpy.load` reads, followed by the SHA-256 of all its bytes: the
    archive's own checksums do not cover its directory, and a flipped bit there can hide a member.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        self._folder = folder
        self._stage = stage

    def write(self, checkpoint: Checkpoint) -> None:
        """Add a checkpoint, then delete all but the last two."""
        files = self._files()
        number = int(files[-1].stem.rsplit("-", 1)[1]) + 1 if files else 1
        with atomic_file(self._folder / f"{self._stage}-{number:06d}.npz") as temporary:
            with temporary.open("wb") as stream:
                write_archive(stream, checkpoint)
            with temporary.open("r+b") as stream:
                digest = hashlib.file_digest(stream, "sha256").digest()
                stream.write(digest)
        for file in self._files()[:-_KEPT]:
            file.unlink()

    def latest(self) -> Checkpoint | None:
        """The newest intact checkpoint, or None if the stage begins at its first step.

        The first checkpoint of a stage has none before it: if it is the only one and damaged, the stage starts again.

        Raises:
            RunError: There are two checkpoints, and both are damaged.
        """
        files = self._files()
        for file in reversed(files):
            checkpoint = _read(file)
            if checkpoint is not None:
                return checkpoint
        if len(files) > 1:
            raise RunError(
                "No checkpoint of the run can be read.",
                case=files[-1],
                found=f"{len(files)} damaged files",
                expected="at least one intact checkpoint",
                remedy=f"Delete {self._folder} to repeat the stage {self._stage} from the stage before it.",
            )
        return None

    def exists(self) -> bool:
        """Whether the stage has a checkpoint, intact or not."""
        return bool(self._files())

    def keep_newest(self) -> None:
        """Delete all but the last, from which more epochs of the finished stage would continue."""
        for file in self._files()[:-1]:
            file.unlink()

    def clear(self) -> None:
        """Delete this stage's checkpoints."""
        for file in self._files():
            file.unlink()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._stage}-[0-9]*.npz"))


def write_archive(stream: BinaryIO, checkpoint: Checkpoint) -> None:
    """Write a checkpoint as a NumPy archive."""
    text = np.frombuffer(json.dumps(checkpoint.progress).encode(), np.uint8)
    np.savez(stream, allow_pickle=False, **{_PROGRESS: text}, **checkpoint.arrays)


def read_archive(content: bytes | memoryview) -> Checkpoint:
    """Read what `write_archive` wrote.

    Raises:
        ValueError: It is not such an archive. No array that is larger than the content is allocated.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # Members may overlap: many of one place.
            if sum(info.file_size for info in archive.infolist()) > len(content):
                raise ValueError("arrays of more bytes than the archive has")
            arrays = {info.filename.removesuffix(".npy"): _array(archive, info) for info in archive.infolist()}
        progress = json.loads(arrays.pop(_PROGRESS).tobytes())
    except _UNREADABLE as error:
        raise ValueError(f"not a checkpoint: {error}") from error
    if not isinstance(progress, dict):
        raise ValueError("not a checkpoint: no counters")
    return Checkpoint(progress, arrays)


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """A member, which NumPy stores uncompressed; its header must declare as many bytes as there are."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
        raise ValueError("a compressed or encrypted array")
    stream = io.BytesIO(archive.read(info))
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(stream)
    if kind.hasobject or math.prod(shape) * kind.itemsize != info.file_size - stream.tell():
        raise ValueError("an array of another size than its header says")
    stream.seek(0)
    array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _read(file: Path) -> Checkpoint | None:
    try:
        archive = memoryview(file.read_bytes())
        content, digest = archive[:-_DIGEST_BYTES], archive[-_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        return read_archive(content)
    except (OSError, ValueError):
        return None
