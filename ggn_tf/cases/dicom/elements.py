"""The data elements of a DICOM file, by their tags and lengths (DICOM PS3.5, section 7)."""

import mmap
import struct
from collections.abc import Container, Iterator
from typing import NamedTuple

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
PREAMBLE, PIXELS, UNDEFINED = 132, 0x7FE00010, 0xFFFFFFFF
# Value representations whose length takes four bytes, and the others (PS3.5, 7.1.2).
LONG_REPRESENTATIONS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT_REPRESENTATIONS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
# Written by old software that does not know the representation, and accepted by GDCM.
_PLACEHOLDERS = frozenset((b"??", b"--", b"  ", b"\0\0", b"OX"))
_ITEM_GROUP, _ENDS = 0xFFFE, (0xFFFEE00D, 0xFFFEE0DD)
# Of sequences and their items; real files have about ten. GDCM and pydicom read each level by a call within a call.
_MOST_LEVELS = 64
# Segmentations of 50,000 frames have as many; pydicom and GDCM make an object of each.
_MOST_ELEMENTS = 2_000_000
# Shorter sequences of known length cannot be nested as deeply: each has 12 bytes and its item 8 before its content.
_SHORT_SEQUENCE = 20 * _MOST_LEVELS
_TAG, _SHORT, _LONG = ({order: struct.Struct(f"{order}{kind}") for order in "<>"} for kind in ("HH", "H", "I"))


class Element(NamedTuple):
    """A data element outside sequences; its representation is empty if the file does not contain it."""

    tag: int
    representation: bytes
    start: int
    length: int


def walk(
    content: bytes | mmap.mmap,
    start: int,
    end: int,
    tags: Container[int],
    explicit: bool,
    order: str = "<",
    group: int | None = None,
    thorough: bool = False,
) -> Iterator[Element]:
    """The elements of a data set without those inside sequences, until the pixels.

    Args:
        content: The file, or its first bytes.
        start: The first element's position.
        end: The last element's end, which may be after the end of `content`.
        tags: The tags of the elements to return; the pixels are always returned.
        explicit: Whether elements contain their value representation.
        order: The byte order, as in `struct`.
        group: Stop at the first element of another group.
        thorough: Whether to check elements inside short sequences of known length, too, and to accept placeholders for
            representations and any order of tags.

    Raises:
        struct.error: The content ends inside an element's header.
        ValueError: A length reaches beyond the end, there is no element where one must be, sequences are nested too
            deeply, or there are too many elements.
    """
    read_tag = _TAG[order].unpack_from
    # The ends of the sequences and items around the position, None if a delimiter marks it; and whether the elements
    # after each contain their value representation.
    ends: list[tuple[int | None, bool]] = []
    position, last, count = start, 0, 0
    while position < end:
        count += 1
        if count > _MOST_ELEMENTS:
            raise ValueError(f"more than {_MOST_ELEMENTS} elements")
        while ends and (until := ends[-1][0]) is not None and position >= until:
            explicit = ends.pop()[1]
        high, low = read_tag(content, position)
        tag = high << 16 | low
        if group is not None and high != group:
            return
        representation = content[position + 4 : position + 6] if explicit and high != _ITEM_GROUP else b""
        begin = position
        position, length = _value_field(content, begin, representation, order, thorough)
        if tag in _ENDS and ends:
            explicit = ends.pop()[1]
            continue
        if length != UNDEFINED and length > end - position:
            name = f"({high:04x},{low:04x})"
            raise ValueError(f"an element {name} of {length} bytes at byte {begin}, in a file of {end}")
        if tag == PIXELS and not ends:
            yield Element(tag, representation, position, length)
            return
        nested = representation == b"SQ" and (thorough or length > _SHORT_SEQUENCE)
        if high == _ITEM_GROUP or length == UNDEFINED or nested:
            ends.append((None if length == UNDEFINED else position + length, explicit))
            if len(ends) > _MOST_LEVELS:
                raise ValueError(f"sequences nested more than {_MOST_LEVELS} levels deep, at byte {begin}")
            # Of undefined length: a sequence without representations (PS3.5, 6.2.2), which some writers keep.
            if representation == b"UN":
                explicit = content[position + 12 : position + 14] in SHORT_REPRESENTATIONS | LONG_REPRESENTATIONS
            continue
        if not ends:
            if tag <= last and not thorough:
                raise ValueError("not in order")
            last = tag
            if tag in tags:
                yield Element(tag, representation, position, length)
        position += length


def _value_field(
    content: bytes | mmap.mmap, position: int, representation: bytes, order: str, thorough: bool
) -> tuple[int, int]:
    """Where an element's value starts, and its length."""
    if representation in LONG_REPRESENTATIONS:
        return position + 12, _LONG[order].unpack_from(content, position + 8)[0]
    if not representation:
        return position + 8, _LONG[order].unpack_from(content, position + 4)[0]
    if representation in SHORT_REPRESENTATIONS or (thorough and representation in _PLACEHOLDERS):
        return position + 8, _SHORT[order].unpack_from(content, position + 6)[0]
    raise ValueError(f"no value representation, but {representation!r}, at byte {position + 4}")
