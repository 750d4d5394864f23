"""Nodule masks of any supported format, read onto the CT's own grid."""

from enum import Enum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.folder import is_dicom
from ggn_tf.cases.dicom.mask_references import DicomReferences, read_references
from ggn_tf.cases.dicom.series import MaskReference
from ggn_tf.cases.dicom.slice_planes import SlicePlanes
from ggn_tf.cases.geometry.axes import AxisOrder
from ggn_tf.cases.geometry.grid import SAME_GRID_MM, Box, Grid, Vector, vector
from ggn_tf.cases.geometry.mask_alignment import Obstacle, align, count_outside, obstacle_of, place_exactly
from ggn_tf.cases.geometry.segment import Segment, most_mask_values
from ggn_tf.cases.segments import read_label_map
from ggn_tf.cases.tables.image_identity import missing_text
from ggn_tf.cases.volume_files.headers import read_header
from ggn_tf.cases.volumes import Volume
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
        repaired: What was done to put it there, and what its header states of another CT, if anything.
        one_nodule: As in `Segment`.
    """

    image: sitk.Image
    repaired: tuple[str, ...] = ()
    one_nodule: bool = False


def place_mask(path: Path, volume: Volume, *, segment: str | None = None, align_masks: bool = False) -> Mask:
    """Read a nodule's mask onto its CT.

    Args:
        path: A label map, a segmentation of 3D Slicer, a DICOM segmentation, or a DICOM structure set.
        volume: The CT. The mask's voxels must coincide with the CT's; it may cover only a part of the CT, and have its
            axes in another order or direction. It may have been drawn before the CT's slices were repaired.
        segment: The nodule's segment: its name, or a label's value. None where there is only one.
        align_masks: Whether a mask on another grid of the same patient coordinates is resampled onto the CT's, by
            nearest neighbour.

    Raises:
        MaskError: It is missing, not a segmentation, on another grid, empty, or it is not clear which segment is meant.
    """
    path = Path(path)
    refuse_missing_mask(path)
    references = read_references(path) if is_dicom(path) else None
    stored = _read_segment(path, segment, volume, references)
    if not stored.inside.any():
        raise _empty(path)
    other = references.differences(volume.stack.slices[0]) if references and volume.stack else ()
    notes = stored.notes + (
        (f"the mask: its header references another {' and another '.join(other)}",) if other else ()
    )
    placed = _placed(stored, volume)
    if placed is None:
        obstacle = obstacle_of(
            volume.stored_grid,
            stored.grid,
            forms_differ=stored.forms_differ or volume.forms is not None,
            references=other,
        )
        placed = _aligned(path, stored, volume, obstacle, align_masks)
    if placed.image.GetSize() == volume.grid.size_xyz:
        _refuse_background(path, placed.image)
    return Mask(placed.image, notes + placed.repaired, stored.one_nodule)


def _placed(stored: Segment, volume: Volume) -> Mask | None:
    """The mask on the CT's own voxels; None if some of its voxels are not among them."""
    grid, positions = volume.grid, volume.positions
    nodule = stored.ordered_as(grid)
    on_ct = grid.block_of(nodule.grid)
    if on_ct is not None and (positions is None or nodule.grid.same_as(grid)):
        return Mask(_block_image(grid.part(on_ct), nodule), (_SHIFTED,) if nodule.shifted else ())
    if positions is not None:
        straight = positions.place(stored.grid, stored.whole())
        if straight is not None:
            ordered = AxisOrder.of(positions.grid, grid.direction).from_stored(straight)
            return Mask(grid.image_of(ordered.astype(np.uint8)), (_SHIFTED,))
    exchanged = nodule.grid.size_xyz != grid.size_xyz and sorted(nodule.grid.size_xyz) == sorted(grid.size_xyz)
    from_corners = np.linalg.norm(grid.corners_mm_lps() - stored.grid.origin_mm_lps, axis=1)
    if exchanged and from_corners.min() <= SAME_GRID_MM:
        # As where an array [z, y, x] was saved as [x, y, z] with the CT's header, from any corner of the CT.
        return None
    placed = place_exactly(grid, nodule.grid, nodule.whole())
    return None if placed is None or placed.outside_ct else Mask(grid.image_of(placed.inside.view(np.uint8)))


def _aligned(path: Path, stored: Segment, volume: Volume, obstacle: Obstacle | None, requested: bool) -> Mask:
    """The mask resampled onto the CT's voxels, if that was requested and is correct."""
    grid, inside = volume.grid, stored.whole()
    count, outside = int(np.count_nonzero(inside)), count_outside(grid, stored.grid, inside)
    if outside:
        reason = Misplacement.APART if outside == count else Misplacement.PARTLY_OUTSIDE
        raise _misplaced(path, stored, volume, obstacle, reason.value.format(outside=outside, count=count))
    if not requested or (obstacle and obstacle.refused):
        raise _misplaced(path, stored, volume, obstacle, alignable=obstacle is None)
    aligned = align(grid, stored.grid, inside)
    if not aligned.any():
        raise _misplaced(path, stored, volume, obstacle)
    return Mask(grid.image_of(aligned.view(np.uint8)), (f"the mask: put onto the CT's grid from {stored.grid}",))


def _block_image(grid: Grid, nodule: Segment) -> sitk.Image:
    part = grid if nodule.block is None else grid.part(nodule.block)
    return part.image_of(nodule.inside.astype(np.uint8))


def mask_reference(path: Path) -> MaskReference:
    """What a mask's header states about its CT; nothing if it is unreadable, which is reported where it is read."""
    try:
        if is_dicom(path):
            return MaskReference(series=read_references(path).only_series)
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


def refuse_missing_mask(path: Path, remedy: str = "Correct the path.") -> None:
    """Raise a MaskError where there is no such file."""
    if not path.is_file():
        raise MaskError(
            "The mask does not exist.",
            case=path,
            found="a folder" if path.is_dir() else missing_text(path),
            expected="a file: a label map (.nii, .nii.gz, .nrrd, .mha) or a DICOM segmentation",
            remedy=remedy,
        )


def _read_segment(path: Path, segment: str | None, volume: Volume, references: DicomReferences | None) -> Segment:
    if references is not None:
        # A volume file does not say which axis is across the slices; of CT it is mostly the one nearest to S.
        planes = SlicePlanes.of(volume.stored_grid if volume.stack else volume.grid, volume.stack, volume.positions)
        if references.structure_set:
            from ggn_tf.cases.dicom.structure_set import read_region_of_interest

            return read_region_of_interest(path, segment, planes)
        from ggn_tf.cases.dicom.segmentation import read_dicom_segment

        return read_dicom_segment(path, segment, planes)
    try:
        return read_label_map(path, segment, most_mask_values(volume.grid.size_xyz))
    except VolumeError as error:
        raise MaskError(
            f"The mask cannot be used: {error.what[0].lower()}{error.what[1:]}",
            case=path,
            found=error.found,
            expected=error.expected,
            remedy="Export the segmentation as one label map (3D Slicer: Export to labelmap).",
        ) from error


def _misplaced(
    path: Path,
    stored: Segment,
    volume: Volume,
    obstacle: Obstacle | None,
    outside: str | None = None,
    *,
    alignable: bool = False,
) -> MaskError:
    causes = [outside] if outside else []
    if place_exactly(volume.grid, stored.grid, stored.whole()) is None:
        apart_mm = AxisOrder.of(stored.grid, volume.stored_grid.direction).grid.difference_mm(volume.stored_grid)
        distance = f", up to {apart_mm:.2f} mm away from them" if np.isfinite(apart_mm) else ""
        causes.insert(0, Misplacement.BETWEEN_VOXELS.value + distance)
    causes += [obstacle.value] if obstacle else []
    # The CT's forms are not among the mask's notes.
    causes += [*stored.notes, *volume.repaired] if obstacle is Obstacle.FORMS else []
    return MaskError(
        "The mask is not on its CT's grid.",
        case=path,
        found="; ".join([str(stored.grid), *causes]),
        expected=f"the CT's grid: {volume.stored_grid}",
        remedy="Export the mask with the CT as its reference volume, or check that it belongs to this CT."
        + (
            " Only if it was drawn on another series of this patient's scan, resample it onto the CT."
            if alignable
            else ""
        ),
        arguments=("align_masks",) if alignable else (),
    )


def _refuse_background(path: Path, mask: sitk.Image) -> None:
    """Refuse a mask of the whole CT, or an inverted one: both contain all corners of the CT, and no nodule does."""
    inside = sitk.GetArrayViewFromImage(mask)
    if not inside[:: inside.shape[0] - 1, :: inside.shape[1] - 1, :: inside.shape[2] - 1].all():
        return
    count = int(np.count_nonzero(inside))
    what = "has no background" if count == inside.size else "contains the background"
    raise MaskError(
        f"The mask {what}.",
        case=path,
        found=f"all corners and {count} of {inside.size} voxels of the CT in the segment",
        expected="the nodule's voxels alone",
        remedy="Segment the nodule, invert the mask, or name the correct file or segment.",
    )


def _empty(path: Path | None) -> MaskError:
    return MaskError(
        "The mask is empty.",
        case=path,
        found="no voxel above 0",
        expected="the nodule's voxels",
        remedy="Segment the nodule, or name the correct file.",
    )
