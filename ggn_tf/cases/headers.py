"""The headers of volume files, of CTs and of masks."""

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import SAME_GRID_MM, Grid
from ggn_tf.errors import VolumeError

FORMATS = "NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha, .mhd), or a folder with one DICOM series"
# Far more than any CT or list of segments has; a damaged header can announce any number.
_MOST_VOXELS = 2**32
# The highest compression ratio of deflate, which all these formats use. Without this bound ITK would reserve gigabytes
# for a damaged header before it finds that the file is too short.
_MOST_BYTES_PER_BYTE = 1032
_DETACHED = (".mhd", ".nhdr")


def read_header(path: Path) -> Grid:
    """The grid of a volume file with one value per voxel.

    Raises:
        VolumeError: It is not an image, not 3D, has several values per voxel, or axes that are not at right angles.
    """
    reader = read_information(path)
    if min(reader.GetSize()) < 2 or reader.GetNumberOfComponents() != 1:
        raise _not_3d(path, reader)
    return grid_of(path, reader)


def read_information(path: Path) -> sitk.ImageFileReader:
    """A reader that has read a 3D file's header.

    Raises:
        VolumeError: It is not an image, not 3D, or announces more voxels than the file can contain.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise VolumeError(
            "The file is not an image.",
            case=path,
            found=reason(error),
            expected=FORMATS,
            remedy="Name the volume's file, or the folder of its DICOM slices; copy a damaged file again.",
        ) from error
    values = np.prod([float(count) for count in (*reader.GetSize(), reader.GetNumberOfComponents())])
    if len(reader.GetSize()) != 3 or not 0 < values <= _MOST_VOXELS:
        raise _not_3d(path, reader)
    if path.suffix not in _DETACHED and values > _MOST_BYTES_PER_BYTE * path.stat().st_size:
        raise VolumeError(
            "The file is smaller than its header says.",
            case=path,
            found=f"{values:.0f} voxel values announced, in {path.stat().st_size} bytes",
            expected="no more voxels than the file can contain, compressed or not",
            remedy="Copy or export the file again: its header is damaged.",
        )
    return reader


def grid_of(path: Path, reader: sitk.ImageFileReader) -> Grid:
    """The grid that a header describes.

    Raises:
        VolumeError: Spacing or origin are not finite, or the axes are not at right angles. ITK replaces a NIfTI's
            axes by the nearest right angles, so its sform is checked instead.
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
            "from DICOM with a gantry tilt, use the DICOM series and allow its repair.",
            arguments=("repair",),
        )
    return grid


def reason(error: Exception) -> str:
    """An error's message; of an ITK message the last line, which contains the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^(ITK ERROR|sitk::ERROR): ", "", lines[-1]) if lines else type(error).__name__


def _not_3d(path: Path, reader: sitk.ImageFileReader) -> VolumeError:
    return VolumeError(
        "The file is not a 3D volume.",
        case=path,
        found=f"{' x '.join(map(str, reader.GetSize()))} voxels of {reader.GetNumberOfComponents()} values",
        expected="three axes of at least two voxels, one value per voxel",
        remedy="Name a 3D volume; for a DICOM series name the folder, not a slice.",
    )
