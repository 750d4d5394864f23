"""The voxels of a NIfTI file, read from its bytes.

ITK reads the grid, but its reader silently replaces NaN by 0, fills truncated files, and accepts an altered .gz.
"""

import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from zlib_ng import gzip_ng, zlib_ng

from ggn_tf.cases.geometry.grid import Box

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
# The offsets of the fields in the two versions of the format (nifti1.h, nifti2.h).
_LAYOUTS = {
    348: {"magic": ("S4", 344), "type": ("i2", 70), "offset": ("f4", 108), "slope": ("f4", 112), "shift": ("f4", 116)},
    540: {"magic": ("S8", 4), "type": ("i2", 12), "offset": ("i8", 168), "slope": ("f8", 176), "shift": ("f8", 184)},
}
_LONGEST_HEADER = max(_LAYOUTS)

Size = tuple[int, int, int]


def is_nifti(path: Path) -> bool:
    """Whether a file's name is that of a NIfTI volume."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_blocks(path: Path, size_xyz: Size, boxes: Sequence[Box]) -> list[npt.NDArray[Any]]:
    """Read blocks of voxels in one pass; of an uncompressed file only these.

    A compressed file is decompressed to its end (0.15 s for a thorax), which verifies its checksum.

    Args:
        path: A .nii or .nii.gz file.
        size_xyz: The whole volume's size, by its header.
        boxes: The blocks; they may overlap.

    Returns:
        [z, y, x] for each box, in the file's type, or float64 if the header scales it.

    Raises:
        ValueError, EOFError, OSError, zlib.error: It is truncated, altered, or its voxels are not real numbers.
    """
    with _opened(path, size_xyz) as (header, layers):
        blocks = [np.empty(box.size_xyz[::-1], header.kind.newbyteorder("=")) for box in boxes]
        for number, layer in enumerate(layers):
            for box, block in zip(boxes, blocks, strict=True):
                depth, rows, columns = box.slices_zyx
                if depth.start <= number < depth.stop:
                    block[number - depth.start] = layer[rows, columns]
    return [header.scaled(block) for block in blocks]


def read_occupied(path: Path, size_xyz: Size) -> tuple[npt.NDArray[Any], int]:
    """Read the slices from the first to the last with a value other than 0: of a nodule's mask, only a few.

    Args:
        path: A .nii or .nii.gz file; a compressed one is verified as in `read_blocks`.
        size_xyz: The whole volume's size, by its header.

    Returns:
        [z, y, x] as in `read_blocks`, without slices if all voxels are 0; and the number of its first slice.

    Raises:
        ValueError, EOFError, OSError, zlib.error: As in `read_blocks`.
    """
    with _opened(path, size_xyz) as (header, layers):
        occupied = {number: layer.copy() for number, layer in enumerate(layers) if header.shift or _any(layer)}
    first, last = min(occupied, default=0), max(occupied, default=-1)
    voxels = np.zeros((last + 1 - first, *size_xyz[1::-1]), header.kind.newbyteorder("="))
    for number, layer in occupied.items():
        voxels[number - first] = layer
    return header.scaled(voxels), first


def _any(layer: npt.NDArray[Any]) -> bool:
    # By the bytes: comparing the numbers takes up to fifty times longer.
    return bool(layer.view(np.uint8).max())


class _Header(NamedTuple):
    """The position, type and scaling of the voxels."""

    start: int
    kind: np.dtype[Any]
    slope: float
    shift: float

    def scaled(self, voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return voxels if (self.slope, self.shift) == (1, 0) else voxels * self.slope + self.shift

    def check_length(self, size_xyz: Size, available: int) -> None:
        needed = self.start + int(np.prod(size_xyz)) * self.kind.itemsize
        if available < needed:
            raise EOFError(f"{available} bytes, where the header announces {needed}")


@contextmanager
def _opened(path: Path, size_xyz: Size) -> Iterator[tuple[_Header, Iterator[npt.NDArray[Any]]]]:
    """The header, and each slice [y, x], valid until the next. On exit, the file was checked to be complete."""
    if path.suffix.lower() != ".gz":
        content = np.memmap(path, dtype=np.uint8, mode="r")
        header = _read_header(content[:_LONGEST_HEADER])
        header.check_length(size_xyz, content.size)
        yield header, iter(np.ndarray(size_xyz[::-1], header.kind, content, header.start))
        return
    try:
        with gzip_ng.open(path) as file:
            header = _read_header(np.frombuffer(file.read(_LONGEST_HEADER), dtype=np.uint8))
            yield header, _decompressed(file, header, size_xyz)
            # Reading to the end verifies the checksum.
            header.check_length(size_xyz, file.seek(0, io.SEEK_END))
    except zlib_ng.error as error:  # type: ignore[misc]  # its stub declares an instance
        raise zlib.error(*error.args) from error


def _decompressed(file: gzip_ng.GzipNGFile, header: _Header, size_xyz: Size) -> Iterator[npt.NDArray[Any]]:
    """Every slice in the same memory, which stays in the processor's cache: ten times faster than a whole volume."""
    width, height, depth = size_xyz
    layer = np.empty((height, width), header.kind)
    file.seek(header.start)
    for _ in range(depth):
        if file.readinto(layer) == layer.nbytes:
            yield layer


def _read_header(content: npt.NDArray[np.uint8]) -> _Header:
    for order in "<>":
        size = int.from_bytes(content[:4].tobytes(), "little" if order == "<" else "big")
        if size in _LAYOUTS:
            fields = _LAYOUTS[size]
            layout = np.dtype(
                {
                    "names": list(fields),
                    "formats": [order + kind if kind[0] != "S" else kind for kind, _ in fields.values()],
                    "offsets": [offset for _, offset in fields.values()],
                    "itemsize": size,
                }
            )
            header = content[:size].view(layout)[0]
            if header["magic"][:3] in (b"n+1", b"n+2"):
                slope, shift = float(header["slope"]), float(header["shift"])
                # A slope of 0 means that the voxels are not scaled.
                if not np.isfinite([slope, shift]).all() or slope == 0:
                    slope, shift = 1.0, 0.0
                return _Header(int(header["offset"]), np.dtype(order + _type_of(header)), slope, shift)
    raise ValueError("not a header of a NIfTI volume in one file")


def _type_of(header: npt.NDArray[Any]) -> str:
    code = int(header["type"])
    if code not in _TYPES:
        raise ValueError(f"voxels of NIfTI type {code}, which are not real numbers")
    return _TYPES[code]
