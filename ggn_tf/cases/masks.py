"""Nodule masks: a label map on the CT's own grid, in which one label is the nodule."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.grid import Box, Grid, Vector, vector
from ggn_tf.cases.series import MaskPlace
from ggn_tf.cases.volumes import UNREADABLE, naming_case, read_header, read_voxels, reason
from ggn_tf.errors import MaskError, VolumeError


def read_mask(path: Path, grid: Grid, *, segment: str | None = None, case: str | None = None) -> sitk.Image:
    """Read a nodule's mask and check that it lies on its CT.

    All components of the mask are the nodule: none is dropped.

    Args:
        path: A label map.
        grid: The CT's grid, which the mask must share.
        segment: Which label is the nodule: its value, or its name where 3D Slicer wrote the file. None where the mask
            has one label.
        case: Named in errors.

    Returns:
        uint8, 1 in the nodule and 0 elsewhere, on the CT's grid.

    Raises:
        MaskError: It is missing, no label map, on another grid, empty, or of several labels without a `segment`.
    """
    with naming_case(case):
        path = Path(path)
        _check_grid(path, grid)
        labels = _read_labels(path, grid)
        nodule = labels == _label_of(path, segment) if segment else labels > 0
        _check_labels(path, labels, nodule, segment)
        return grid.image_of(nodule.astype(np.uint8))


def place_of_mask(path: Path) -> MaskPlace:
    """What a mask's header tells about its CT; nothing where it cannot be read, which `read_mask` will say."""
    try:
        return MaskPlace(grid=read_header(path))
    except VolumeError:
        return MaskPlace()


def nodule_box(mask: sitk.Image) -> Box:
    """The smallest block that holds the nodule.

    Raises:
        MaskError: The mask is empty.
    """
    inside = sitk.GetArrayViewFromImage(mask) > 0
    # Slices first: on a whole thorax four times faster than the indices of all voxels.
    slices = np.flatnonzero(inside.any(axis=(1, 2)))
    if not slices.size:
        raise _empty(None)
    layers = inside[slices[0] : slices[-1] + 1]
    rows, columns = np.flatnonzero(layers.any(axis=(0, 2))), np.flatnonzero(layers.any(axis=(0, 1)))
    return Box.between(*([int(axis[end]) for axis in (columns, rows, slices)] for end in (0, -1)))


def centroid_mm_lps(mask: sitk.Image) -> Vector:
    """The mean place of the mask's voxels, all components together, LPS in mm.

    Raises:
        MaskError: The mask is empty.
    """
    box = nodule_box(mask)
    voxels_zyx = np.argwhere(sitk.GetArrayViewFromImage(mask)[box.slices_zyx])
    return vector(Grid.from_image(mask).point_of(voxels_zyx.mean(axis=0)[::-1] + box.start_xyz))


def _check_grid(path: Path, grid: Grid) -> None:
    if not path.is_file():
        raise MaskError(
            "The mask does not exist.",
            case=path,
            found="no such file",
            expected="a label map (.nii, .nii.gz, .nrrd, .mha)",
            remedy="Mend the path in the case table; paths are relative to the table.",
        )
    try:
        own = read_header(path)
    except VolumeError as error:
        raise MaskError(
            f"The mask cannot be used: {error.what[0].lower()}{error.what[1:]}",
            case=path,
            found=error.found,
            expected=error.expected,
            remedy="Export the segmentation as one label map (3D Slicer: Export to labelmap).",
        ) from error
    if not own.same_as(grid):
        apart = own.difference_mm(grid)
        raise MaskError(
            "The mask does not lie on its CT.",
            case=path,
            found=f"{own}" + (f"; up to {apart:.2f} mm away from the CT's voxels" if np.isfinite(apart) else ""),
            expected=f"the CT's grid: {grid}",
            remedy="Export the mask with the CT as its reference volume, or check that it belongs to this CT.",
        )


def _read_labels(path: Path, grid: Grid) -> npt.NDArray[Any]:
    try:
        return read_voxels(path, grid, grid.whole)
    except UNREADABLE as error:
        raise MaskError(
            "The mask's voxels cannot be read.",
            case=path,
            found=reason(error),
            remedy="The file is damaged or incomplete: copy or export it again.",
        ) from error


def _label_of(path: Path, segment: str) -> float:
    """The label value that a segment's name stands for; a number stands for itself."""
    names = _slicer_names(path)
    try:
        return names[segment] if segment in names else float(segment)
    except ValueError:
        raise MaskError(
            f"The mask has no segment {segment!r}.",
            case=path,
            found=f"segments {', '.join(names)}" if names else "a label map without names",
            expected="a label's value, or a name that 3D Slicer stored in the mask",
            remedy="Mend the segment column of the case table.",
        ) from None


def _slicer_names(path: Path) -> dict[str, float]:
    """Names and label values of the segments in a 3D Slicer segmentation (.seg.nrrd)."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    segments = [key.removesuffix("_Name") for key in reader.GetMetaDataKeys() if key.endswith("_Name")]
    return {
        reader.GetMetaData(f"{segment}_Name"): float(reader.GetMetaData(f"{segment}_LabelValue"))
        for segment in segments
        if reader.HasMetaDataKey(f"{segment}_LabelValue")
    }


def _check_labels(path: Path, labels: npt.NDArray[Any], nodule: npt.NDArray[np.bool_], segment: str | None) -> None:
    present = np.unique(labels[labels > 0]).tolist()
    if not present:
        raise _empty(path)
    listed = ", ".join(f"{value:g}" for value in present[:10]) + (", ..." if len(present) > 10 else "")
    if segment and not nodule.any():
        raise MaskError(
            f"The mask has no voxel of segment {segment!r}.",
            case=path,
            found=f"labels {listed}",
            remedy="Mend the segment column of the case table.",
        )
    if not segment and len(present) > 1:
        raise MaskError(
            f"The mask has {len(present)} labels, and none is named.",
            case=path,
            found=f"labels {listed}",
            expected="one label, or a segment column that names the nodule's",
            remedy="Give the nodule's label in the segment column, a row a nodule.",
        )


def _empty(path: Path | None) -> MaskError:
    return MaskError(
        "The mask is empty.",
        case=path,
        found="no voxel above 0",
        expected="the nodule's voxels",
        remedy="Segment the nodule, or name the right file.",
    )
