"""The headers of volume files, of CTs and of masks."""

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import SAME_GRID_MM, Grid
from ggn_tf.errors import VolumeError

FORMATS = "NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha, .mhd), or a folder with one DICOM series"
# Far more than any CT or list of segments has; a damaged header announces any number.
_MOST_VOXELS = 2**32
# What deflate, the compression of all these formats, can make of a byte at most. Without this bound ITK would reserve
# gigabytes for a damaged header before it finds the file too short.
_MOST_BYTES_A_BYTE = 1032
_DETACHED = (".mhd", ".nhdr")


def read_header(path: Path) -> Grid:
    """The grid of a volume file with one value a voxel.

    Raises:
        VolumeError: No image, not 3D, several values a voxel, or axes that are not at right angles.
    """
    reader = read_information(path)
    if min(reader.GetSize()) < 2 or reader.GetNumberOfComponents() != 1:
        raise _not_3d(path, reader)
    return grid_of(path, reader)


def read_information(path: Path) -> sitk.ImageFileReader:
    """A reader that has read a 3D file's header.

    Raises:
        VolumeError: No image, not 3D, or of a size that no file has, or not this one.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise VolumeError(
            "The file is no image.",
            case=path,
            found=reason(error),
            expected=FORMATS,
            remedy="Name the volume's file, or the folder of its DICOM slices; copy a damaged file again.",
        ) from error
    values = np.prod([float(count) for count in (*reader.GetSize(), reader.GetNumberOfComponents())])
    if len(reader.GetSize()) != 3 or not 0 < values <= _MOST_VOXELS:
        raise _not_3d(path, reader)
    if path.suffix not in _DETACHED and values > _MOST_BYTES_A_BYTE * path.stat().st_size:
        raise VolumeError(
            "The file is smaller than its header says.",
            case=path,
            found=f"{values:.0f} voxel values announced, in {path.stat().st_size} bytes",
            expected="as many voxels as the file can hold, compressed or not",
            remedy="Copy or export the file again: its header is damaged.",
        )
    return reader


def grid_of(path: Path, reader: sitk.ImageFileReader) -> Grid:
    """The grid that a header describes.

    Raises:
        VolumeError: It is none: spacing or origin are no usable numbers, or the axes not at right angles. ITK bends a
            NIfTI's to the nearest right angles, so its sform is looked at itself.
    """
    grid = Grid.from_image(reader)
    affine = np.reshape(grid.direction, (3, 3)) * grid.spacing_mm_xyz
    if reader.HasMetaDataKey("srow_x") and int(reader.GetMetaData("sform_code")) > 0:
        affine = np.array([[float(v) for v in reader.GetMetaData(f"srow_{row}").split()[:3]] for row in "xyz"])
    lengths = np.linalg.norm(affine, axis=0)
    usable = np.isfinite([*affine.ravel(), *grid.origin_mm_lps]).all() and lengths.all()
    skew = np.abs((affine / lengths).T @ (affine / lengths) - np.eye(3)) if usable else np.eye(3)
    off = float((skew * (lengths * grid.size_xyz)).max()) if usable else float("inf")
    if off > SAME_GRID_MM:
        raise VolumeError(
            "The volume's axes are not at right angles.",
            case=path,
            found=f"a shear of {off:.2f} mm across the volume, affine {np.round(affine, 4).tolist()}",
            expected=f"orthogonal axes, within {SAME_GRID_MM} mm",
            remedy="Resample the CT (and draw or resample the mask) on a grid with right angles. If it was converted "
            "from DICOM of a tilted gantry, take the DICOM series with --repair.",
        )
    return grid


def reason(error: Exception) -> str:
    """What an error says; of an ITK message the last line, which is the one that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^(ITK ERROR|sitk::ERROR): ", "", lines[-1]) if lines else type(error).__name__


def _not_3d(path: Path, reader: sitk.ImageFileReader) -> VolumeError:
    return VolumeError(
        "The file is not a 3D volume.",
        case=path,
        found=f"{' x '.join(map(str, reader.GetSize()))} voxels of {reader.GetNumberOfComponents()} values",
        expected="three axes of at least two voxels, one value a voxel",
        remedy="Name a 3D volume; of a DICOM series name the folder, not a slice.",
    )
