"""The lengths of TFRecord's records: TensorFlow reserves what a length announces, and ends the process if it cannot."""

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

# Length (8 bytes) and its checksum (4) before the content, the content's checksum (4) after it.
RECORD_OVERHEAD = 16
_LENGTH_BYTES = 8


def check_records(path: Path, offsets: Iterable[int] | None = None) -> None:
    """Check that records end within their file.

    Args:
        path: A TFRecord file that is not compressed.
        offsets: Where the records begin, in bytes; None for all, one after another.

    Raises:
        ValueError: A record does not.
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        if offsets is not None:
            for offset in offsets:
                _end_of(stream, offset, size)
            return
        position = 0
        while position < size:
            position = _end_of(stream, position, size)


def _end_of(stream: BinaryIO, offset: int, size: int) -> int:
    if not 0 <= offset <= size - RECORD_OVERHEAD:
        raise ValueError(f"a record at byte {offset}, in a file of {size}")
    stream.seek(offset)
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    end = offset + RECORD_OVERHEAD + length
    if end > size:
        raise ValueError(f"a record of {length} bytes at byte {offset}, in a file of {size}")
    return end
