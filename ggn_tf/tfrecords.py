"""TFRecord files: the lengths of their records, which TensorFlow believes, and their contents without TensorFlow.

TensorFlow reserves the memory that a length announces, and ends the process if it cannot.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

# Length (8 bytes) and its checksum (4) before the content, the content's checksum (4) after it.
RECORD_OVERHEAD = 16
_LENGTH_BYTES, _CHECKSUM_BYTES = 8, 4


def check_records(path: Path, offsets: Iterable[int] | None = None) -> None:
    """Check that records end within their file.

    The file is not compressed. Records begin at the offsets; None for all, one after another.

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
        for _ in _contents(stream, size):
            pass


def read_records(path: Path) -> Iterator[bytes]:
    """The content of each record, without TensorFlow; their checksums are not compared.

    The file is not compressed.

    Raises:
        ValueError: A record does not end within the file.
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        for begin, end in _contents(stream, path.stat().st_size):
            stream.seek(begin)
            yield stream.read(end - begin)


def _contents(stream: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    position = 0
    while position < size:
        begin, position = position, _end_of(stream, position, size)
        yield begin + RECORD_OVERHEAD - _CHECKSUM_BYTES, position - _CHECKSUM_BYTES


def _end_of(stream: BinaryIO, offset: int, size: int) -> int:
    if not 0 <= offset <= size - RECORD_OVERHEAD:
        raise ValueError(f"a record at byte {offset}, in a file of {size}")
    stream.seek(offset)
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    end = offset + RECORD_OVERHEAD + length
    if end > size:
        raise ValueError(f"a record of {length} bytes at byte {offset}, in a file of {size}")
    return end
