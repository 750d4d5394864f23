"""The headers of volume files, of CTs and of masks."""

import math
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import SAME_GRID_MM, Floats, Grid, vector
from ggn_tf.cases.volume_files.compressed_voxels import refuse_damaged_stream
from ggn_tf.cases.volume_files.detached import META_SUFFIXES, NRRD, voxel_files
from ggn_tf.cases.volume_files.nifti import NiftiForms, is_nifti, read_nifti_header, voxels_file
from ggn_tf.cases.volume_files.stated_geometry import refuse_unstated
from ggn_tf.errors import VolumeError

FORMATS = "NIfTI (.nii, .nii.gz, .hdr with .img), NRRD, MetaImage (.mha, .mhd), or a folder with one DICOM series"
# Far more than any CT or list of segments has; a damaged header can announce any number.
_MOST_VOXELS = 2**32
# Voxels are read layer by layer, along any axis.
_MOST_ALONG_AXIS = 2**15
# The highest compression ratio of deflate, which all these formats use. Without this bound ITK would reserve gigabytes
# for a damaged header before it finds that the file is too short.
_MOST_BYTES_PER_BYTE = 1032
_ASSUMED = "what is missing was taken for the axes L, P, S and the point 0; check a preview"
_PLACELESS = (
    "the CT: a spacing of 1 x 1 x 1 mm and the origin 0, as programs write where these are unknown; check the diameters"
)
# What readers raise on damaged files.
UNREADABLE = (RuntimeError, ValueError, EOFError, OSError, zlib.error)


def read_header(path: Path) -> Grid:
    """The grid of a volume file with one value per voxel.

    Raises:
        VolumeError: It is not an image, not 3D, has several values per voxel, or axes that are not at right angles.
    """
    if is_nifti(path):
        return read_nifti_grid(path).grid
    reader = read_information(path)
    if min(_spatial_size(reader)) < 2 or reader.GetNumberOfComponents() != 1:
        raise _not_3d(path, reader.GetSize(), reader.GetNumberOfComponents())
    return grid_of(path, reader)


class NiftiPlacement(NamedTuple):
    """The grid of a NIfTI file, both forms if they differ, and whether it has a form at all."""

    grid: Grid
    forms: NiftiForms | None
    oriented: bool


def read_nifti_grid(path: Path, least_size: int = 2) -> NiftiPlacement:
    """The grid of a NIfTI file, by its sform if it has one; errors as of `read_header`."""
    try:
        header = read_nifti_header(path)
    except UNREADABLE as error:
        raise _not_an_image(path, error) from error
    _check_size(path, header.size, 1, [voxels_file(path)])
    if len(header.size) != 3 or min(header.size) < least_size:
        raise _not_3d(path, header.size, 1)
    axes, origin = header.affine_lps[:3, :3], header.affine_lps[:3, 3]
    _check_right_angles(path, axes, header.size, origin)
    lengths = np.linalg.norm(axes, axis=0)
    # The nearest right angles (the orthogonal polar factor).
    left, _, right = np.linalg.svd(axes / lengths)
    grid = Grid(header.size, vector(lengths), vector(origin), tuple((left @ right).ravel().tolist()))
    return NiftiPlacement(grid, NiftiForms.differing(header), header.oriented)


def read_information(path: Path) -> sitk.ImageFileReader:
    """A reader that has read a 3D file's header.

    Raises:
        VolumeError: It is not an image, not 3D, or announces more voxels than the file can contain.
    """
    refuse_other_name(path)
    try:
        files = voxel_files(path)
        refuse_unstated(path)
        reader = file_reader(path)
        reader.ReadImageInformation()
    except UNREADABLE as error:
        raise _not_an_image(path, error) from error
    _check_size(path, _spatial_size(reader), reader.GetNumberOfComponents(), files)
    return reader


def _spatial_size(reader: sitk.ImageFileReader) -> tuple[int, ...]:
    """The size of a file, without axes of length 1 after the third, such as one of time, that are not in its space."""
    size: tuple[int, ...] = reader.GetSize()
    direction = np.reshape(reader.GetDirection(), (len(size), len(size)))
    apart = not direction[:3, 3:].any() and not direction[3:, :3].any() and reader.GetNumberOfComponents() == 1
    return size[:3] if apart and set(size[3:]) <= {1} else size


def placement_notes(grid: Grid, missing: Sequence[str]) -> tuple[str, ...]:
    """What a volume file leaves open about the positions of its voxels, one sentence each.

    `missing` is what its header does not state, as `unstated_geometry`.
    """
    unstated = f"the CT: its header does not state {' and '.join(missing)}; {_ASSUMED}"
    return (
        *((unstated,) if missing else ()),
        *((_PLACELESS,) if grid.spacing_mm_xyz == (1, 1, 1) and not any(grid.origin_mm_lps) else ()),
    )


def refuse_other_name(path: Path) -> None:
    """Raise VolumeError for a path that SimpleITK cannot open: one with bytes that are not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise VolumeError(
            "The name of the file or of a folder above it cannot be read.",
            case=path,
            found="bytes that are not UTF-8",
            expected="a path in UTF-8",
            remedy="Rename the file or the folder.",
        ) from None


def grid_of(path: Path, reader: sitk.ImageFileReader) -> Grid:
    """The grid that a header describes.

    Raises:
        VolumeError: Spacing or origin are not finite, or the axes are not at right angles.
    """
    dimensions = len(reader.GetSize())
    direction = np.reshape(reader.GetDirection(), (dimensions, dimensions))[:3, :3]
    x, y, z = _spatial_size(reader)
    placement = vector(reader.GetSpacing()[:3]), vector(reader.GetOrigin()[:3])
    grid = Grid((x, y, z), *placement, tuple(direction.ravel().tolist()))
    axes = np.reshape(grid.direction, (3, 3)) * grid.spacing_mm_xyz
    _check_right_angles(path, axes, grid.size_xyz, grid.origin_mm_lps)
    return grid


def file_reader(path: Path) -> sitk.ImageFileReader:
    """A reader of a NRRD or MetaImage file, else ValueError; ITK's readers of other formats are never tried on it."""
    with path.open("rb") as file:
        nrrd = file.read(len(NRRD)) == NRRD
    if not nrrd and path.suffix.lower() not in META_SUFFIXES:
        raise ValueError("none of the formats that are read")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if nrrd else "MetaImageIO")
    return reader


def checked_reader(path: Path) -> sitk.ImageFileReader:
    """As `file_reader`, for the voxels: if they are compressed, their checksum was compared.

    Raises:
        RuntimeError, ValueError, OSError: They are damaged.
    """
    reader = file_reader(path)
    reader.ReadImageInformation()
    components = reader.GetNumberOfComponents()
    value = sitk.Image([1] * 3, reader.GetPixelID(), components)
    refuse_damaged_stream(path, math.prod(reader.GetSize()) * components * value.GetSizeOfPixelComponent())
    return reader


def _check_size(path: Path, size: Sequence[int], components: int, files: Sequence[Path]) -> None:
    values = np.prod([float(count) for count in (*size, components)])
    if len(size) != 3 or max(size) > _MOST_ALONG_AXIS or not 0 < values <= _MOST_VOXELS:
        raise _not_3d(path, size, components)
    count = sum(file.stat().st_size for file in files)
    if values > _MOST_BYTES_PER_BYTE * count:
        raise VolumeError(
            "The file is smaller than its header says.",
            case=path,
            found=f"{values:.0f} voxel values announced, in {count} bytes",
            expected="no more voxels than the file can contain, compressed or not",
            remedy="Copy or export the file again: its header is damaged.",
        )


def _check_right_angles(path: Path, axes: Floats, size: Sequence[int], origin: npt.ArrayLike) -> None:
    """Refuse a volume whose axes (columns, in mm per voxel) are sheared by more than the tolerance for grids."""
    lengths = np.linalg.norm(axes, axis=0)
    if not (np.isfinite([*axes.ravel(), *np.ravel(origin)]).all() and lengths.all()):
        raise VolumeError(
            "The header states no usable positions of the voxels.",
            case=path,
            found=f"affine {np.round(axes, 4).tolist()}, origin {np.ravel(origin).tolist()}",
            expected="three axes with a length, and an origin, of finite numbers",
            remedy="Convert the original series again.",
        )
    skew = np.abs((axes / lengths).T @ (axes / lengths) - np.eye(3))
    off = float((skew * (lengths * size)).max())
    if off > SAME_GRID_MM:
        raise VolumeError(
            "The volume's axes are not at right angles.",
            case=path,
            found=f"a shear of {off:.2f} mm across the volume, affine {np.round(axes, 4).tolist()}",
            expected=f"orthogonal axes, within {SAME_GRID_MM} mm",
            remedy="Resample the CT (and draw or resample the mask) on a grid with right angles. If it was converted "
            "from DICOM with a gantry tilt, use the DICOM series and allow its repair.",
            arguments=("repair",),
        )


def reason(error: Exception) -> str:
    """An error's message; of an ITK message the last line, which contains the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and line != "Reason: Success"]
    return re.sub(r"^(ITK ERROR|sitk::ERROR): ", "", lines[-1]) if lines else type(error).__name__


def _not_an_image(path: Path, error: Exception) -> VolumeError:
    return VolumeError(
        "The file is not an image.",
        case=path,
        found=reason(error),
        expected=FORMATS,
        remedy="Name the volume's file, or the folder of its DICOM slices; copy a damaged file again.",
    )


def _not_3d(path: Path, size: Sequence[int], components: int) -> VolumeError:
    return VolumeError(
        "The file is not a 3D volume.",
        case=path,
        found=f"{' x '.join(map(str, size))} voxels of {components} values",
        expected=f"three axes of 2 to {_MOST_ALONG_AXIS} voxels, one value per voxel",
        remedy="Name a 3D volume; for a DICOM series name the folder, not a slice.",
    )
