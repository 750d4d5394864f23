"""Nodule masks of any supported format, read onto the CT's own grid."""

from enum import Enum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.folder import is_dicom
from ggn_tf.cases.dicom.repair import SlicePositions
from ggn_tf.cases.dicom.series import MaskReference
from ggn_tf.cases.geometry.axes import AxisOrder
from ggn_tf.cases.geometry.grid import Box, Grid, Vector, vector
from ggn_tf.cases.geometry.mask_alignment import align, place_exactly
from ggn_tf.cases.geometry.segment import Segment
from ggn_tf.cases.headers import read_header
from ggn_tf.cases.segments import read_label_map
from ggn_tf.errors import MaskError, VolumeError

_SHIFTED = "the mask: shifted with the slices it was drawn on"


class Misplacement(Enum):
    """Why a mask does not fit onto its CT; the values are the texts of errors."""

    BETWEEN_VOXELS = "its voxels are between the CT's"
    APART = "no voxel of the mask is in the CT"
    PARTLY_OUTSIDE = "{outside} of its {count} voxels are outside the CT"


class Mask(NamedTuple):
    """A mask on its CT's grid, or on a block of it outside which there is no nodule.

    Attributes:
        image: uint8, 0 or 1.
        repaired: What was done to put it there, if anything.
    """

    image: sitk.Image
    repaired: tuple[str, ...] = ()


def place_mask(
    path: Path,
    grid: Grid,
    *,
    segment: str | None = None,
    stored_grid: Grid | None = None,
    positions: SlicePositions | None = None,
    align_masks: bool = False,
) -> Mask:
    """Read a nodule's mask onto its CT.

    Args:
        path: A label map, a segmentation of 3D Slicer, a DICOM segmentation, or a DICOM structure set.
        grid: The CT's grid. The mask's voxels must coincide with the CT's; it may cover only a part of the CT, and have
            its axes in another order or direction.
        segment: The nodule's segment: its name, or a label's value. None where there is only one.
        stored_grid: The CT's grid with its axes in the order of the slices, on which contours are drawn; None: `grid`.
        positions: The true positions of the CT's slices, if they were repaired: the mask may have been drawn before.
        align_masks: Whether a mask on another grid of the same patient coordinates is resampled onto the CT's, by
            nearest neighbour.

    Raises:
        MaskError: It is missing, not a segmentation, on another grid, empty, or it is not clear which segment is meant.
    """
    path = Path(path)
    ct_grid = stored_grid or grid
    stored = _read_segment(path, segment, ct_grid, positions)
    if not stored.inside.any():
        raise _empty(path)
    nodule = stored.ordered_as(grid)
    on_ct = grid.block_of(nodule.grid)
    if on_ct is not None and (positions is None or nodule.grid.same_as(grid)):
        return Mask(_block_image(grid.part(on_ct), nodule), (_SHIFTED,) if nodule.shifted else ())
    inside = nodule.whole()
    if positions is not None:
        straight = positions.place(stored.grid, stored.whole())
        if straight is not None:
            ordered = AxisOrder.of(positions.grid, grid.direction).from_stored(straight)
            return Mask(grid.image_of(ordered.astype(np.uint8)), (_SHIFTED,))
    placed = place_exactly(grid, nodule.grid, inside)
    if placed is not None:
        if placed.outside_ct:
            count = int(np.count_nonzero(inside))
            raise _misplaced(path, ct_grid, stored.grid, Misplacement.PARTLY_OUTSIDE, placed.outside_ct, count)
        return Mask(grid.image_of(placed.inside.view(np.uint8)))
    if not align_masks:
        raise _misplaced(path, ct_grid, stored.grid, Misplacement.BETWEEN_VOXELS)
    aligned = align(grid, nodule.grid, inside)
    if not aligned.any():
        raise _misplaced(path, ct_grid, stored.grid, Misplacement.APART)
    return Mask(grid.image_of(aligned.view(np.uint8)), (f"the mask: put onto the CT's grid from {stored.grid}",))


def _block_image(grid: Grid, nodule: Segment) -> sitk.Image:
    part = grid if nodule.block is None else grid.part(nodule.block)
    return part.image_of(nodule.inside.astype(np.uint8))


def mask_reference(path: Path) -> MaskReference:
    """What a mask's header states about its CT; nothing if it is unreadable, which is reported where it is read."""
    try:
        if is_dicom(path):
            from ggn_tf.cases.dicom.segmentation import referenced_series

            return MaskReference(series=referenced_series(path))
        return MaskReference(grid=read_header(path))
    except (VolumeError, OSError):
        return MaskReference()


def nodule_box(mask: sitk.Image) -> Box:
    """The smallest block that contains the nodule.

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
    """The mean position of the mask's voxels, of all components together, in LPS mm.

    Raises:
        MaskError: The mask is empty.
    """
    box = nodule_box(mask)
    voxels_zyx = np.argwhere(sitk.GetArrayViewFromImage(mask)[box.slices_zyx])
    return vector(Grid.from_image(mask).point_of(voxels_zyx.mean(axis=0)[::-1] + box.start_xyz))


def refuse_missing_mask(path: Path) -> None:
    """Raise a MaskError where there is no such file."""
    if not path.is_file():
        raise MaskError(
            "The mask does not exist.",
            case=path,
            found="a folder" if path.is_dir() else "no such file",
            expected="a file: a label map (.nii, .nii.gz, .nrrd, .mha) or a DICOM segmentation",
            remedy="Correct the path; paths in a case table are relative to the table.",
        )


def _read_segment(path: Path, segment: str | None, grid: Grid, positions: SlicePositions | None) -> Segment:
    refuse_missing_mask(path)
    if is_dicom(path):
        from ggn_tf.cases.dicom.segmentation import is_structure_set, read_dicom_segment

        if is_structure_set(path):
            from ggn_tf.cases.dicom.structure_set import read_region_of_interest

            return read_region_of_interest(path, segment, grid)
        return read_dicom_segment(path, segment, positions)
    try:
        return read_label_map(path, segment)
    except VolumeError as error:
        raise MaskError(
            f"The mask cannot be used: {error.what[0].lower()}{error.what[1:]}",
            case=path,
            found=error.found,
            expected=error.expected,
            remedy="Export the segmentation as one label map (3D Slicer: Export to labelmap).",
        ) from error


def _misplaced(
    path: Path, grid: Grid, mask_grid: Grid, reason: Misplacement, outside: int = 0, count: int = 0
) -> MaskError:
    apart_mm = AxisOrder.of(mask_grid, grid.direction).grid.difference_mm(grid)
    distance = f", up to {apart_mm:.2f} mm away from them" if np.isfinite(apart_mm) else ""
    alignable = reason is Misplacement.BETWEEN_VOXELS
    return MaskError(
        "The mask is not on its CT's grid.",
        case=path,
        found=f"{mask_grid}; {reason.value.format(outside=outside, count=count)}{distance}",
        expected=f"the CT's grid: {grid}",
        remedy="Export the mask with the CT as its reference volume, or check that it belongs to this CT."
        + (" If it was drawn on another series of the same scan, resample it onto the CT." if alignable else ""),
        arguments=("align_masks",) if alignable else (),
    )


def _empty(path: Path | None) -> MaskError:
    return MaskError(
        "The mask is empty.",
        case=path,
        found="no voxel above 0",
        expected="the nodule's voxels",
        remedy="Segment the nodule, or name the correct file.",
    )
