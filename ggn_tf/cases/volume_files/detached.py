"""The files with the voxels of a NRRD or MetaImage header, which a header from elsewhere may place anywhere.

They must be regular files in the header's folder or below it. ITK opens whatever a header names, and waits for ever for
a pipe.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

# Far more than the headers of segmentations with a hundred segments have.
MOST_HEADER_BYTES = 4 << 20
_MOST_FILES = 10_000
# ITK compares each key of a NRRD header with all before it, and takes seconds for a million lines of a MetaImage.
_MOST_LINES = 2 * _MOST_FILES
NRRD, META_SUFFIXES = b"NRRD", (".mha", ".mhd")
_LIST, _LOCAL = "LIST", ("LOCAL", "local", "Local")
# ITK ends a line at any of these.
_LINE_END, _NRRD_END = re.compile("\r\n?"), re.compile(rb"(?:\r\n|\r(?!\n)|\n){2}")
# Not a key with a value (:=), which may have any name.
_NRRD_FILE = re.compile(r"^[^\S\n]*data ?file[^\S\n]*:(?!=)[^\S\n]*(.*)$", re.IGNORECASE | re.MULTILINE)
_NRRD_SKIP = re.compile(r"^(?:line|byte) ?skip:\s*(-?\d+)\s*$", re.IGNORECASE | re.MULTILINE)
_META_KEY = b"ElementDataFile"
# Blanks before a key, but no line ends: from each of many empty lines all further ones would be read.
_META_FILE = re.compile(r"^[^\S\n]*ElementDataFile\s*[=:]\s*(.*)$", re.MULTILINE)
_META_SKIP = re.compile(r"^[^\S\n]*HeaderSize\s*[=:]\s*(-?\d+)\s*$", re.MULTILINE)
_META_SIZE = re.compile(r"^[^\S\n]*DimSize\s*[=:]\s*\d+\s+\d+\s+(\d+)", re.MULTILINE)
# One number in the names, with at most two digits for its width.
_PATTERN = re.compile(r"([^\s%]*%0?\d{0,2}d[^\s%]*)\s+(\d{1,6})\s+(\d{1,6})(?:\s+(\d{1,6}))?(?:\s+\d+)?")


def voxel_files(path: Path) -> list[Path]:
    """The files with the voxels of a volume; the file itself where they follow its header.

    Raises:
        ValueError: A file is missing, not a regular file, or outside the header's folder, or there are too many, or
            not as many as slices.
    """
    if not path.is_file():
        raise ValueError(f"{path.name} is not a regular file")
    with path.open("rb") as file:
        content = file.read(MOST_HEADER_BYTES)
    nrrd = content.startswith(NRRD)
    if nrrd:
        start, *voxels = _NRRD_END.split(content, maxsplit=1)
        header = _LINE_END.sub("\n", start.decode("latin-1"))
        _refuse_long(header, ended=bool(voxels) or len(content) < MOST_HEADER_BYTES)
        found, skips = list(_NRRD_FILE.finditer(header)), _NRRD_SKIP.findall(header)
        if len(found) > 1:
            raise ValueError(f"{len(found)} statements about the files with the voxels")
        stated = found[0] if found else None
    elif path.suffix.lower() in META_SUFFIXES:
        if content.count(_META_KEY) > 1:
            raise ValueError("several statements about the files with the voxels")
        header = content.decode("latin-1")
        stated, fields = _META_FILE.search(header), header[: _end_of_meta(header)]
        _refuse_long(_LINE_END.sub("\n", fields), ended=stated is not None or len(content) < MOST_HEADER_BYTES)
        skips = _META_SKIP.findall(fields)
    else:
        return [path]
    if any(int(skip) > MOST_HEADER_BYTES for skip in skips):
        raise ValueError(f"voxels that begin more than {MOST_HEADER_BYTES} bytes after the header")
    text = stated[1].strip() if stated else ""
    if nrrd and stated and not text:
        raise ValueError("an empty name of the file with the voxels")
    if not text or (not nrrd and text in _LOCAL):
        return [path]
    names = list(_names(text, header[stated.end() :] if stated else ""))
    if not 0 < len(names) <= _MOST_FILES:
        raise ValueError(f"voxels in {len(names)} files")
    # Headers have names as the file system has them, in any encoding.
    files = [_beside(path, os.fsdecode(name.encode("latin-1"))) for name in names]
    depth = None if nrrd else _META_SIZE.search(header)
    if depth and text != names[0] and len(names) != int(depth[1]):
        # ITK leaves the slices without a file as they are in memory.
        raise ValueError(f"{len(names)} files for {depth[1]} slices")
    return files


def _refuse_long(header: str, *, ended: bool) -> None:
    """Raise ValueError where what was read is not the whole header, or has more lines than ITK can read in a second."""
    if not ended:
        raise ValueError(f"a header of more than {MOST_HEADER_BYTES} bytes")
    if (lines := header.count("\n")) > _MOST_LINES:
        raise ValueError(f"a header of {lines} lines, more than {_MOST_LINES}")


def _end_of_meta(header: str) -> int:
    found = _META_FILE.search(header)
    return found.end() if found else len(header)


def _names(text: str, rest: str) -> Iterator[str]:
    """The names of one file, of a list on the next lines, or of a numbered pattern with first, last and step."""
    if text.startswith(_LIST):
        yield from (line.strip() for line in rest.splitlines() if line.strip())
        return
    pattern = _PATTERN.fullmatch(text)
    if pattern is None:
        if "%" in text:
            raise ValueError(f"voxels in {text}, which is neither a file nor a pattern of one number")
        yield text
        return
    first, last, step = int(pattern[2]), int(pattern[3]), int(pattern[4] or 1)
    numbers = range(first, last + 1, max(step, 1))
    if len(numbers) > _MOST_FILES:
        raise ValueError(f"voxels in {len(numbers)} files")
    yield from (pattern[1] % number for number in numbers)


def _beside(path: Path, name: str) -> Path:
    """A file that a header names, which is in its folder."""
    found = (path.parent / name).resolve()
    folders = (path.parent.resolve(), path.resolve().parent)
    if Path(name).is_absolute() or not any(found.is_relative_to(folder) for folder in folders):
        raise ValueError(f"voxels in {name}, which is outside the header's folder")
    if not found.is_file():
        raise ValueError(f"no regular file {name} with the voxels beside the header")
    return found
