"""What a DICOM file announces, against what it can hold: looked at before GDCM reserves memory for it.

GDCM reserves what a length says before it reads, up to 4 GB, and fills an image that lacks pixels with zeros.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ggn_tf.cases.dicom.plain_header import LONG_REPRESENTATIONS, SHORT_REPRESENTATIONS

_IMPLICIT, _BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_PREAMBLE, _META_GROUP, _FIRST_GROUP, _ITEM_GROUP = 132, 0x0002, 0x0008, 0xFFFE
_SYNTAX, _PIXELS = 0x00020010, 0x7FE00010
_SAMPLES, _FRAMES, _ROWS, _COLUMNS, _BITS = 0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100
_ENDS = (0xFFFEE00D, 0xFFFEE0DD)
_UNDEFINED = 0xFFFFFFFF
# What old software writes where it does not know the representation; GDCM reads these.
_PLACEHOLDERS = frozenset((b"??", b"--", b"  ", b"\0\0", b"OX"))
# Far more than a CT slice has; a larger one must at least be as large as compression can make its file's bytes.
_PLAUSIBLE_PIXELS, _MOST_PIXELS_A_BYTE = 4096 * 4096, 1032


class _Element(NamedTuple):
    """A data element of the data set itself, not of a sequence in it."""

    tag: int
    start: int
    length: int


def find_overrun(path: Path) -> str | None:
    """What a DICOM file announces and cannot hold.

    Args:
        path: Any file; one that does not begin as DICOM does is not looked at.

    Returns:
        What was found, or None.
    """
    if path.stat().st_size <= _PREAMBLE:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = _PREAMBLE if content[_PREAMBLE - 4 : _PREAMBLE] == b"DICM" else 0
        if int.from_bytes(content[start : start + 2], "little") not in (_META_GROUP, _FIRST_GROUP):
            return None
        try:
            return _check(content, start)
        except struct.error:
            # The file ends within the header.
            return None
        except ValueError as error:
            return str(error)


def _check(content: mmap.mmap, start: int) -> str | None:
    syntax, dataset = "", start
    for element in _elements(content, start, "<", explicit=True, group=_META_GROUP):
        dataset = element.start + element.length
        if element.tag == _SYNTAX:
            syntax = content[element.start : dataset].decode("ascii", "replace").strip(" \0")
    if syntax == _DEFLATED:
        return None
    order, explicit = ">" if syntax == _BIG_ENDIAN else "<", syntax != _IMPLICIT
    if not syntax:
        # Without file meta information the first element tells whether representations are written out.
        explicit = content[dataset + 4 : dataset + 6] in LONG_REPRESENTATIONS | SHORT_REPRESENTATIONS
    numbers = {_SAMPLES: 1, _FRAMES: 1, _ROWS: 0, _COLUMNS: 0, _BITS: 16}
    for element in _elements(content, dataset, order, explicit):
        if element.tag in numbers:
            numbers[element.tag] = _number(content, element, order)
        elif element.tag == _PIXELS:
            return _check_pixels(numbers, element.length, len(content))
    return None


def _number(content: mmap.mmap, element: _Element, order: str) -> int:
    value = content[element.start : element.start + element.length]
    if element.tag == _FRAMES:
        text = value.decode("ascii", "replace").strip(" \0")
        return int(text) if text.isdigit() else 1
    return int(struct.unpack(f"{order}H", value[:2])[0])


def _check_pixels(numbers: dict[int, int], length: int, size: int) -> str | None:
    pixels = numbers[_ROWS] * numbers[_COLUMNS] * numbers[_SAMPLES]
    if length == _UNDEFINED:
        # Compressed: a slice of nothing but air takes hardly a byte.
        if pixels > max(_PLAUSIBLE_PIXELS, _MOST_PIXELS_A_BYTE * size):
            return f"{numbers[_ROWS]} x {numbers[_COLUMNS]} pixels announced, in a file of {size} bytes"
        return None
    if numbers[_SAMPLES] != 1:
        # A picture in colours, which may be stored with fewer of them than pixels (YBR_FULL_422).
        return None
    needed = pixels * numbers[_FRAMES] * numbers[_BITS] // 8
    return f"{length} bytes of pixels, where the header announces {needed}" if length < needed else None


def _elements(content: mmap.mmap, at: int, order: str, explicit: bool, group: int | None = None) -> Iterator[_Element]:
    """The elements of a data set, or of one group at its start; sequences are walked through.

    Raises:
        struct.error: The file ends within an element's header.
        ValueError: A length reaches beyond the file, or there is no header of an element.
    """
    fields, long = struct.Struct(f"{order}HH"), struct.Struct(f"{order}I")
    # Where the sequences and items end that are being walked through; None where a delimiter will tell.
    open_ends: list[int | None] = []
    while at < len(content):
        while open_ends and open_ends[-1] is not None and at >= open_ends[-1]:
            open_ends.pop()
        place = at
        high, low = fields.unpack_from(content, at)
        tag = high << 16 | low
        if group is not None and high != group:
            return
        representation, at, length = _length(content, at + fields.size, long, explicit and high != _ITEM_GROUP, order)
        if tag in _ENDS:
            if open_ends:
                open_ends.pop()
            continue
        if length != _UNDEFINED and length > len(content) - at:
            raise ValueError(
                f"an element ({high:04x},{low:04x}) of {length} bytes at byte {place}, in a file of {len(content)}"
            )
        if tag == _PIXELS and not open_ends:
            yield _Element(tag, at, length)
            return
        nested = high == _ITEM_GROUP or representation == b"SQ" or length == _UNDEFINED
        if nested and representation != b"UN":
            open_ends.append(None if length == _UNDEFINED else at + length)
            continue
        if length == _UNDEFINED:
            # Of unknown content, which is written otherwise than the rest.
            return
        if not open_ends:
            yield _Element(tag, at, length)
        at += length


def _length(content: mmap.mmap, at: int, long: struct.Struct, explicit: bool, order: str) -> tuple[bytes, int, int]:
    """An element's representation, where its value starts, and its length."""
    if not explicit:
        return b"", at + 4, long.unpack_from(content, at)[0]
    representation = content[at : at + 2]
    if representation in LONG_REPRESENTATIONS:
        return representation, at + 8, long.unpack_from(content, at + 4)[0]
    if representation in SHORT_REPRESENTATIONS or representation in _PLACEHOLDERS:
        return representation, at + 4, struct.unpack_from(f"{order}H", content, at + 2)[0]
    raise ValueError(f"no value representation, but {representation!r}, at byte {at}")
