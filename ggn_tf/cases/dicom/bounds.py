"""Check that a DICOM file can contain what it announces, before GDCM reserves memory for it.

GDCM reserves the announced length before it reads, up to 4 GB, and fills missing pixels with zeros.
"""

import mmap
import struct
import zlib
from collections.abc import Collection, Container, Iterator
from pathlib import Path

import pydicom
from pydicom.filereader import read_file_meta_info

from ggn_tf.cases.dicom.codestreams import find_other_size
from ggn_tf.cases.dicom.elements import (
    EXPLICIT,
    IMPLICIT,
    LONG_REPRESENTATIONS,
    PIXELS,
    PREAMBLE,
    SHORT_REPRESENTATIONS,
    UNDEFINED,
    Element,
    walk,
)

_BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_META_GROUP, _FIRST_GROUP, _SYNTAX = 0x0002, 0x0008, 0x00020010
# All elements of the file meta information.
_META = range(_META_GROUP << 16, (_META_GROUP + 1) << 16)
_SAMPLES, _FRAMES, _ROWS, _COLUMNS, _BITS = 0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100
# Of a deflated data set: five hundred slices.
_MOST_INFLATED = 2**28
# Far more than a CT slice has; a larger compressed image must not exceed the highest compression ratio.
_PLAUSIBLE_PIXELS, _MOST_PIXELS_PER_BYTE = 4096 * 4096, 1032


def find_overrun(path: Path) -> str | None:
    """What a DICOM file announces but cannot contain.

    Returns:
        What was found, also of a file that is not DICOM; or None.
    """
    if path.stat().st_size <= PREAMBLE:
        return f"{path.stat().st_size} bytes, too few for a DICOM header"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = PREAMBLE if content[PREAMBLE - 4 : PREAMBLE] == b"DICM" else 0
        group = int.from_bytes(content[start : start + 2], "little")
        if group not in (_META_GROUP, _FIRST_GROUP):
            return f"an element of group {group:04x} where the header starts"
        try:
            return _check(content, start)
        except struct.error:
            return "the end of the file inside the header"
        except ValueError as error:
            return str(error)


def read_bounded(path: Path) -> pydicom.FileDataset:
    """Read a DICOM file by pydicom, which follows any depth and inflates any length.

    Raises:
        ValueError: It announces what it cannot contain; pydicom raises further types.
    """
    overrun = find_overrun(path)
    if overrun is not None:
        raise ValueError(overrun)
    return pydicom.dcmread(path)


def read_without_pixels(path: Path) -> pydicom.FileDataset:
    """Read a DICOM file's header by pydicom, which would inflate all of a deflated one.

    Raises:
        ValueError: It is deflated, and announces what it cannot contain; pydicom raises further types.
    """
    if read_file_meta_info(path).get("TransferSyntaxUID") == _DEFLATED:
        return read_bounded(path)
    return pydicom.dcmread(path, stop_before_pixels=True)


def read_texts(path: Path, tags: Collection[int]) -> dict[int, str]:
    """Elements with text of a DICOM file, until all are found or its first damage.

    pydicom makes an object of each element, and damaged files have millions.

    Raises:
        ValueError: It is damaged before the first of them, or deflated and far larger than a CT.
        struct.error: It ends before.
    """
    texts: dict[int, str] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = PREAMBLE if content[PREAMBLE - 4 : PREAMBLE] == b"DICM" else 0
        data_set, dataset, syntax = _after_meta(content, start)
        try:
            for element in _walk_data_set(data_set, dataset, syntax, tags):
                if element.tag == PIXELS or len(texts) == len(tags):
                    break
                texts[element.tag] = _text(data_set, element)
        except (ValueError, struct.error):
            if not texts:
                raise
    return texts


def _text(content: bytes | mmap.mmap, element: Element) -> str:
    return content[element.start : element.start + element.length].decode("ascii", "replace").strip(" \0")


def _check(content: mmap.mmap, start: int) -> str | None:
    return _check_data_set(*_after_meta(content, start))


def _after_meta(content: mmap.mmap, start: int) -> tuple[bytes | mmap.mmap, int, str]:
    """Where the data set is, its start there, and its transfer syntax."""
    syntax, dataset = "", start
    for element in walk(content, start, len(content), _META, explicit=True, group=_META_GROUP, thorough=True):
        dataset = element.start + element.length
        if element.tag == _SYNTAX:
            syntax = _text(content, element)
    return (_inflated(content, dataset), 0, EXPLICIT) if syntax == _DEFLATED else (content, dataset, syntax)


def _inflated(content: mmap.mmap, start: int) -> bytes:
    """A deflated data set.

    Raises:
        ValueError: It is damaged, or longer than a CT.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(content[start:], _MOST_INFLATED)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if stream.unconsumed_tail:
        raise ValueError(f"a deflated data set of more than {_MOST_INFLATED} bytes")
    return inflated


def _walk_data_set(content: bytes | mmap.mmap, dataset: int, syntax: str, tags: Container[int]) -> Iterator[Element]:
    explicit = syntax != IMPLICIT
    if not syntax:
        # Without file meta information, the first element shows whether representations are explicit.
        explicit = content[dataset + 4 : dataset + 6] in LONG_REPRESENTATIONS | SHORT_REPRESENTATIONS
    return walk(content, dataset, len(content), tags, explicit=explicit, order=_order(syntax), thorough=True)


def _order(syntax: str) -> str:
    return ">" if syntax == _BIG_ENDIAN else "<"


def _check_data_set(content: bytes | mmap.mmap, dataset: int, syntax: str) -> str | None:
    numbers = {_SAMPLES: 1, _FRAMES: 1, _ROWS: 0, _COLUMNS: 0, _BITS: 16}
    for element in _walk_data_set(content, dataset, syntax, numbers):
        if element.tag == PIXELS:
            problem = _check_pixels(numbers, element.length, len(content))
            size = (numbers[_COLUMNS], numbers[_ROWS])
            return problem or (find_other_size(content, element.start, size) if element.length == UNDEFINED else None)
        numbers[element.tag] = _number(content, element, _order(syntax))
    return None


def _number(content: bytes | mmap.mmap, element: Element, order: str) -> int:
    value = content[element.start : element.start + element.length]
    if element.tag == _FRAMES:
        text = value.decode("ascii", "replace").strip(" \0")
        return int(text) if text.isdigit() else 1
    return int(struct.unpack(f"{order}H", value[:2])[0])


def _check_pixels(numbers: dict[int, int], length: int, size: int) -> str | None:
    pixels = numbers[_ROWS] * numbers[_COLUMNS] * numbers[_SAMPLES]
    if length == UNDEFINED:
        # Compressed: a slice of air takes few bytes.
        if pixels > max(_PLAUSIBLE_PIXELS, _MOST_PIXELS_PER_BYTE * size):
            return f"{numbers[_ROWS]} x {numbers[_COLUMNS]} pixels announced, in a file of {size} bytes"
        return None
    if numbers[_SAMPLES] != 1:
        # A colour image, which may be stored with fewer colours than pixels (YBR_FULL_422).
        return None
    needed = pixels * numbers[_FRAMES] * numbers[_BITS] // 8
    return f"{length} bytes of pixels, where the header announces {needed}" if length < needed else None
