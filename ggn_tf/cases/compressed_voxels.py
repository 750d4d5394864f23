"""Whether the compressed voxels of a NRRD or MetaImage file are undamaged.

ITK ignores the checksums of both formats, and returns memory as it is where it cannot decompress a stream.
"""

import os
from io import BufferedReader
from pathlib import Path

from zlib_ng import zlib_ng

from ggn_tf.cases.detached import META_SUFFIXES, voxel_files
from ggn_tf.cases.stated_geometry import header_fields

# Voxels may begin after bytes of another program.
_PART_BYTES, _MOST_FURTHER_BYTES = 1 << 18, 5 << 20
# The window bits of zlib for a stream with the header of zlib, and of gzip.
_ZLIB, _GZIP = 15, 31
_MAGIC = b"\x1f\x8b"
_ENCODINGS, _TRUE = ("gz", "gzip"), ("true", "t", "1")


def refuse_damaged_stream(path: Path, voxel_bytes: int) -> None:
    """Decompress the voxels of a file and compare their checksum; files that are not compressed pass.

    Args:
        path: A NRRD or MetaImage file.
        voxel_bytes: The length of all of its voxels, not compressed.

    Raises:
        ValueError, OSError: The voxels are damaged, or have another length than the header states.
    """
    fields, start = header_fields(path)
    most = voxel_bytes + _MOST_FURTHER_BYTES
    if path.suffix.lower() in META_SUFFIXES:
        if fields.get("compresseddata", "").lower() in _TRUE:
            _check_meta(path, fields, start, most)
    elif fields.get("encoding", "").lower() in _ENCODINGS:
        for file in voxel_files(path):
            _check_stream(file, start if file == path else 0, _GZIP, most, int(fields.get("lineskip", 0)))


def _check_meta(path: Path, fields: dict[str, str], start: int, most: int) -> None:
    file, *others = voxel_files(path)
    if others:
        raise ValueError("compressed voxels in several files")
    used = _check_stream(file, start if file == path else max(int(fields.get("headersize", 0)), 0), _ZLIB, most)
    stated = fields.get("compresseddatasize", "")
    if not stated.isdigit() or int(stated) < used:
        raise ValueError(f"CompressedDataSize {stated or 'missing'}, where the voxels have {used} bytes")


def _check_stream(path: Path, start: int, window: int, most: int, lines: int = 0) -> int:
    """Decompress a stream, or several of gzip in a row, to its end, which compares its checksum.

    Returns:
        The length of a stream of zlib in the file.
    """
    with path.open("rb") as file:
        file.seek(start)
        for _ in range(lines):
            file.readline()
        first = file.tell()
        most -= _check_member(file, window, most)
        while window == _GZIP and file.peek(2)[:2] == _MAGIC:
            most -= _check_member(file, window, most)
        return file.tell() - first


def _check_member(file: BufferedReader, window: int, most: int) -> int:
    """Read a file up to the end of a stream, and return the number of bytes of which it is the compressed form."""
    stream, length = zlib_ng.decompressobj(window), 0
    try:
        while not stream.eof and (part := stream.unconsumed_tail or file.read(_PART_BYTES)):
            length += len(stream.decompress(part, _PART_BYTES))
            if length > most:
                raise ValueError("more compressed voxels than the header announces")
    except zlib_ng.error as error:  # type: ignore[misc]  # its stub declares an instance
        raise ValueError(f"compressed voxels that are damaged: {error}") from error
    if not stream.eof:
        raise ValueError("compressed voxels that are cut off")
    file.seek(-len(stream.unused_data), os.SEEK_CUR)
    return length
