"""NIfTI files: their grid, and their voxels, read from the bytes.

ITK reads neither NIfTI-2 nor slightly sheared axes, silently replaces NaN by 0, fills truncated files, and accepts an
altered .gz.
"""

import errno
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.filename_parser import types_filenames
from zlib_ng import gzip_ng, zlib_ng

from ggn_tf.cases.geometry.grid import SAME_GRID_MM, Box, Floats

# By the first field, the header's length; nibabel's classes of pairs check nothing about the position of the voxels.
_VERSIONS: dict[int, Any] = {348: nibabel.nifti1.Nifti1PairHeader, 540: nibabel.nifti2.Nifti2PairHeader}
_SINGLE, _PAIR = (b"n+1", b"n+2"), (b"ni1", b"ni2")
_GZIP = b"\x1f\x8b"
# NIFTI_UNITS_METER and NIFTI_UNITS_MICRON; all other files are in mm, whether they say so or not.
_UNITS_MM = {1: 1e3, 3: 1e-3}
# Extensions of the header, with a segmentation's description for example, are before the voxels.
_MOST_BYTES_BEFORE, _MOST_BYTES_AFTER, _PART_BYTES = 16 << 20, 1 << 20, 1 << 16
# Of 1 - b^2 - c^2 - d^2: programs round b, c and d to six digits or fewer. It turns the axes by less than 0.1 degrees.
_QUATERNION_ROUNDING = 1e-3
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

Size = tuple[int, int, int]


class NiftiHeader(NamedTuple):
    """The header of a NIfTI volume.

    Attributes:
        size: Its axes, without those of length 1 after the third.
        affine_lps: [4, 4], from voxel indices to LPS mm: by the sform, where there is none by the qform.
        qform_lps: The same by the qform, where the file has both.
        oriented: Whether the file has one of them.
    """

    size: tuple[int, ...]
    affine_lps: Floats
    qform_lps: Floats | None
    oriented: bool


@dataclass(frozen=True)
class NiftiForms:
    """The qform and the sform of a file in which they differ, [4, 4] affines from voxel indices to LPS mm.

    ITK reads the qform of most files that have both, nibabel and FSL read the sform, as this program does.

    Attributes:
        apart_mm: The largest distance of a voxel's positions by the two, at a corner.
    """

    qform: Floats
    sform: Floats
    apart_mm: float

    @classmethod
    def differing(cls, header: NiftiHeader) -> Self | None:
        """The forms of a header; None if it has only one, or the same voxel grid by both."""
        if header.qform_lps is None:
            return None
        last = np.asarray(header.size[:3], dtype=np.float64) - 1
        corners = np.array([[*(last * ends), 1.0] for ends in np.ndindex(2, 2, 2)])
        shifts = corners @ (header.qform_lps - header.affine_lps).T
        apart_mm = float(np.linalg.norm(shifts[:, :3], axis=1).max())
        return None if apart_mm <= SAME_GRID_MM else cls(header.qform_lps, header.affine_lps, apart_mm)

    def __str__(self) -> str:
        """Both, for a note or an error."""
        forms = {"qform": self.qform, "sform": self.sform}
        listed = ", ".join(f"{name} {np.round(form[:3], 3).tolist()}" for name, form in forms.items())
        return f"qform and sform are up to {self.apart_mm:.2f} mm apart: {listed} (LPS)"


def voxels_file(path: Path) -> Path:
    """The file with the voxels: the file itself, or the .img of a .hdr."""
    return _files_of(path)[1]


def is_nifti(path: Path) -> bool:
    """Whether a file's name is that of a NIfTI volume, in one file or as header (.hdr) and voxels (.img)."""
    return path.name.lower().removesuffix(".gz").endswith((".nii", ".hdr", ".img"))


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read the header of a NIfTI file of either version.

    Raises:
        ValueError, EOFError, OSError, zlib.error: It is damaged, or of another format.
    """
    header_path, voxels_path = _files_of(path)
    header = _read_header(header_path)
    if not voxels_path.is_file():
        raise EOFError(f"no file {voxels_path.name} with the voxels beside it")
    scale = np.diag([*[_UNITS_MM.get(int(header["xyzt_units"]) & 7, 1.0)] * 3, 1.0])
    # What nibabel and ITK assume of a header that leaves out the handedness, or whose spacing has a sign.
    header["pixdim"][0] = -1.0 if header["pixdim"][0] == -1 else 1.0
    header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    try:
        size = tuple(map(int, header.get_data_shape()))
    except nibabel.spatialimages.HeaderDataError as error:
        raise ValueError(str(error)) from error
    sform, qform = _sform(header), _qform(header)
    best = sform if sform is not None else qform
    # Where neither is set, ITK, and with it 3D Slicer, takes the axes for L, P, S.
    affine = np.diag([*header["pixdim"][1:4], 1.0]) if best is None else _TO_LPS @ best
    while len(size) > 3 and size[-1] == 1:
        size = size[:-1]
    both = sform is not None and qform is not None
    return NiftiHeader(size, scale @ affine, scale @ _TO_LPS @ qform if both else None, best is not None)


def _sform(header: Any) -> Floats | None:
    """The sform; None where it is not set, or filled with zeros, as by programs that write the qform alone."""
    sform: Floats | None = header.get_sform(coded=True)[0]
    usable = sform is not None and np.isfinite(sform).all() and sform[:3, :3].any(axis=0).all()
    return sform if usable else None


def _qform(header: Any) -> Floats | None:
    """The qform; None where it is not set, or is no rotation."""
    header.quaternion_threshold = -_QUATERNION_ROUNDING
    try:
        with np.errstate(invalid="ignore"):
            qform: Floats | None = header.get_qform(coded=True)[0]
    except (ValueError, nibabel.spatialimages.HeaderDataError):
        return None
    return None if qform is None or not np.isfinite(qform).all() else qform


def read_blocks(path: Path, size_xyz: Size, boxes: Sequence[Box]) -> list[npt.NDArray[Any]]:
    """Read blocks of voxels in one pass; of an uncompressed file only these.

    A compressed file is decompressed to its end (0.15 s for a thorax), which verifies its checksum.

    Args:
        path: A .nii or .nii.gz file, or one of a pair.
        size_xyz: The whole volume's size, by its header.
        boxes: The blocks; they may overlap.

    Returns:
        [z, y, x] for each box, in the file's type, or float64 if the header scales it.

    Raises:
        ValueError, EOFError, OSError, zlib.error: It is truncated, altered, or its voxels are not real numbers.
    """
    with _opened(path, size_xyz) as (layout, layers):
        blocks = [np.empty(box.size_xyz[::-1], layout.kind.newbyteorder("=")) for box in boxes]
        for number, layer in enumerate(layers):
            for box, block in zip(boxes, blocks, strict=True):
                depth, rows, columns = box.slices_zyx
                if depth.start <= number < depth.stop:
                    block[number - depth.start] = layer[rows, columns]
    return [layout.scaled(block) for block in blocks]


def read_occupied(path: Path, size_xyz: Size) -> tuple[npt.NDArray[Any], int]:
    """Read the slices from the first to the last with a value other than 0: of a nodule's mask, only a few.

    A compressed file is verified as in `read_blocks`.

    Returns:
        [z, y, x] as in `read_blocks`, without slices if all voxels are 0; and the number of its first slice.

    Raises:
        ValueError, EOFError, OSError, zlib.error: As in `read_blocks`.
    """
    with _opened(path, size_xyz) as (layout, layers):
        occupied = {number: layer.copy() for number, layer in enumerate(layers) if layout.shift or _any(layer)}
    first, last = min(occupied, default=0), max(occupied, default=-1)
    voxels = np.zeros((last + 1 - first, *size_xyz[1::-1]), layout.kind.newbyteorder("="))
    for number, layer in occupied.items():
        voxels[number - first] = layer
    return layout.scaled(voxels), first


def _any(layer: npt.NDArray[Any]) -> bool:
    # By the bytes: comparing the numbers takes up to fifty times longer.
    return bool(layer.view(np.uint8).max())


class _Layout(NamedTuple):
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
def _opened(path: Path, size_xyz: Size) -> Iterator[tuple[_Layout, Iterator[npt.NDArray[Any]]]]:
    """The layout, and each slice [y, x], valid until the next. On exit, the file was checked to be complete."""
    header_path, voxels_path = _files_of(path)
    layout = _layout_of(_read_header(header_path))
    if not _is_compressed(voxels_path):
        content = np.memmap(voxels_path, dtype=np.uint8, mode="r")
        layout.check_length(size_xyz, content.size)
        yield layout, iter(np.ndarray(size_xyz[::-1], layout.kind, content, layout.start))
        return
    with _decompressed(voxels_path) as file:
        yield layout, _layers(file, layout, size_xyz)
        layout.check_length(size_xyz, file.tell() + _rest(file))


def _files_of(path: Path) -> tuple[Path, Path]:
    """The files of the header and of the voxels."""
    if path.name.lower().removesuffix(".gz").endswith(".nii"):
        return path, path
    names = types_filenames(str(path), (("image", ".img"), ("header", ".hdr")), trailing_suffixes=(".gz",))
    return Path(names["header"]), Path(names["image"])


def _is_compressed(path: Path) -> bool:
    """By the content: some programs compress a .nii, or name what they have not compressed .nii.gz."""
    if not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with path.open("rb") as file:
        return file.read(2) == _GZIP


@contextmanager
def _decompressed(path: Path) -> Iterator[BinaryIO]:
    try:
        with gzip_ng.open(path) if _is_compressed(path) else path.open("rb") as file:
            yield file
    except zlib_ng.error as error:  # type: ignore[misc]  # its stub declares an instance
        raise zlib.error(*error.args) from error


def _rest(file: BinaryIO) -> int:
    """The number of bytes after the voxels, up to the end of the file, which verifies its checksum.

    Raises:
        ValueError: There are far more than any program writes.
    """
    count = 0
    while part := file.read(_PART_BYTES):
        count += len(part)
        if count > _MOST_BYTES_AFTER:
            raise ValueError(f"more than {_MOST_BYTES_AFTER} bytes after the voxels")
    return count


def _layers(file: BinaryIO, layout: _Layout, size_xyz: Size) -> Iterator[npt.NDArray[Any]]:
    """Every slice in the same memory, which stays in the processor's cache: ten times faster than a whole volume."""
    width, height, depth = size_xyz
    layer = np.empty((height, width), layout.kind)
    file.seek(layout.start)
    for _ in range(depth):
        if file.readinto(layer) == layer.nbytes:  # type: ignore[attr-defined]
            yield layer


def _read_header(path: Path) -> Any:
    """Nibabel's header of a file.

    Raises:
        ValueError, EOFError, OSError, zlib.error: It is damaged, or of another format.
    """
    with _decompressed(path) as file:
        content = file.read(max(_VERSIONS))
    for order in ("little", "big"):
        length = int.from_bytes(content[:4], order)
        if length in _VERSIONS and len(content) >= length:
            header = _VERSIONS[length](content[:length], check=False)
            if bytes(header["magic"])[:3] in _SINGLE + _PAIR:
                return header
            raise ValueError("an Analyze 7.5 header, which does not say which side of the patient is left")
    raise ValueError("not a header of a NIfTI volume")


def _layout_of(header: Any) -> _Layout:
    # In one file the header ends with four bytes that announce extensions.
    start, code = int(header["vox_offset"]), int(header["datatype"])
    if bytes(header["magic"])[:3] in _SINGLE and start < int(header["sizeof_hdr"]) + 4:
        raise ValueError(f"voxels that begin at byte {start}, inside the header")
    if not 0 <= start <= _MOST_BYTES_BEFORE:
        raise ValueError(f"voxels that begin at byte {start}")
    try:
        kind = header.get_data_dtype()
    except KeyError as error:
        raise ValueError(f"voxels of the unknown NIfTI type {code}") from error
    if kind.kind not in "iuf" or kind.itemsize > 8:
        raise ValueError(f"voxels of NIfTI type {code}, which are not real numbers")
    slope, shift = float(header["scl_slope"]), float(header["scl_inter"])
    # A slope of 0 means that the voxels are not scaled.
    if not np.isfinite([slope, shift]).all() or slope == 0:
        slope, shift = 1.0, 0.0
    return _Layout(start, kind, slope, shift)
