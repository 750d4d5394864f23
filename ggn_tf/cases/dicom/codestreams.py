"""The image size that compressed pixels state themselves: decoders reserve memory for it, whatever the header says."""

import mmap
import struct
from collections.abc import Iterator

_ITEM, _ITEM_HEADER = b"\xfe\xff\x00\xe0", struct.Struct("<I")
# ISO 15444-1, A.5.1: after the capabilities the reference grid, the image's offset on it, and the size of a tile.
_JPEG_2000, _SIZES, _SIZES_AT = b"\xff\x4f\xff\x51", struct.Struct(">6I"), 8
_MOST_TILES = 65_535
# ISO 10918-1, B.2.2: start of frame; C4, C8 and CC have other meanings. F7 is that of JPEG-LS.
_JPEG, _SEGMENT, _FRAME = b"\xff\xd8", struct.Struct(">BBH"), struct.Struct(">HH")
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
# Of a CT slice ten at most, of a few bytes each: they fit into the first fragment.
_MOST_SEGMENTS = 64


def find_other_size(content: bytes | mmap.mmap, start: int, size_xy: tuple[int, int]) -> str | None:
    """What a JPEG, JPEG-LS or JPEG 2000 stream announces other than the header.

    Args:
        content: A DICOM file.
        start: Where the value of its encapsulated pixels starts.
        size_xy: Columns and rows by the header.

    Returns:
        What was found, or None; also of other codecs, whose streams state no size.

    Raises:
        struct.error: The file ends inside a stream's header.
        ValueError: A fragment reaches beyond the end, or a JPEG stream does not begin with its header; decoders look
            for it further on.
    """
    for position, end in _fragments(content, start):
        found = _stated_size(content, position, end)
        if found is not None and found != size_xy:
            stated, announced = (" x ".join(map(str, size)) for size in (found, size_xy))
            return f"compressed pixels of {stated}, where the header announces {announced}"
    return None


def _fragments(content: bytes | mmap.mmap, position: int) -> Iterator[tuple[int, int]]:
    while content[position : position + 4] == _ITEM:
        length = _ITEM_HEADER.unpack_from(content, position + 4)[0]
        if length > len(content) - position - 8:
            raise ValueError(f"a fragment of {length} bytes at byte {position}, in a file of {len(content)}")
        yield position + 8, position + 8 + length
        position += 8 + length


def _stated_size(content: bytes | mmap.mmap, position: int, end: int) -> tuple[int, int] | None:
    if content[position : position + 4] == _JPEG_2000:
        right, bottom, left, top, tile_width, tile_height = _SIZES.unpack_from(content, position + _SIZES_AT)
        tiles = -(-right // max(tile_width, 1)) * -(-bottom // max(tile_height, 1))
        # Of too many tiles, a size that no header has.
        return (right - left, bottom - top) if tiles <= _MOST_TILES else (right, bottom * tiles)
    if content[position : position + 2] == _JPEG:
        return _size_of_jpeg(content, position + 2, end)
    return None


def _size_of_jpeg(content: bytes | mmap.mmap, position: int, end: int) -> tuple[int, int] | None:
    for _ in range(_MOST_SEGMENTS):
        begin, marker, length = _SEGMENT.unpack_from(content, position)
        if begin != 0xFF or position >= end:
            break
        if marker in _FRAME_MARKERS:
            height, width = _FRAME.unpack_from(content, position + 5)
            # A height of 0 follows after the pixels.
            return (width, height) if height else None
        position += 1 if marker == 0xFF else 2 + length
    raise ValueError(f"compressed pixels at byte {position} without a JPEG header")
