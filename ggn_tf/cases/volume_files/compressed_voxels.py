"""Whether the compressed voxels of a NRRD or MetaImage file are undamaged.

ITK ignores the checksums of both formats, and returns memory as it is where it cannot decompress a stream.
"""

import os
from io import BufferedReader
from pathlib import Path

from zlib_ng import zlib_ng

from ggn_tf.cases.volume_files.detached import META_SUFFIXES, voxel_files
from ggn_tf.cases.volume_files.stated_geometry import TRUE, header_fields

# Voxels may begin after bytes of another program.
_PART_BYTES, _MOST_FURTHER_BYTES = 1 << 18, 5 << 20
# The window bits of zlib for a stream with the header of gzip, and of either zlib or gzip.
_GZIP, _EITHER = 31, 47
_MAGIC = b"\x1f\x8b"
_ENCODINGS = ("gz", "gzip")


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
        if fields.get("compresseddata", "").lower() in TRUE:
            _check_meta(path, fields, start, voxel_bytes)
    elif fields.get("encoding", "").lower() in _ENCODINGS:
        for file in voxel_files(path):
            _check_members(file, start if file == path else 0, most, int(fields.get("lineskip", 0)))


def _check_meta(path: Path, fields: dict[str, str], start: int, voxel_bytes: int) -> None:
    file, *others = voxel_files(path)
    if others:
        raise ValueError("compressed voxels in several files")
    first = start if file == path else max(int(fields.get("headersize", 0)), 0)
    with file.open("rb") as opened:
        opened.seek(first)
        length = _check_member(opened, _EITHER, voxel_bytes + _MOST_FURTHER_BYTES)
        used = opened.tell() - first
    if length < voxel_bytes:
        # ITK takes the rest as 0.
        raise ValueError(f"{length} bytes of compressed voxels, where the header announces {voxel_bytes}")
    stated = fields.get("compresseddatasize", "")
    if file != path and not first and stated in ("", "0"):
        # ITK takes all of the file.
        return
    if not stated.isdigit() or int(stated) < used:
        raise ValueError(f"CompressedDataSize {stated or 'missing'}, where the voxels have {used} bytes")


def _check_members(path: Path, start: int, most: int, lines: int) -> None:
    """Decompress a stream of gzip, or several in a row, after lines of text."""
    with path.open("rb") as file:
        file.seek(start)
        for _ in range(lines):
            file.readline()
        magic = _MAGIC
        while magic == _MAGIC:
            most -= _check_member(file, _GZIP, most)
            magic = file.read(len(_MAGIC))
            file.seek(-len(magic), os.SEEK_CUR)


def _check_member(file: BufferedReader, window: int, most: int) -> int:
    """Decompress a stream to its end, which compares its checksum, and return the number of bytes that it contains."""
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
