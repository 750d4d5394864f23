"""The location of a nodule's patch in a CT: around a point, or around the centroid of a mask."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.repair import STRICT, RepairPolicy
from ggn_tf.cases.dicom.series import SeriesQuery
from ggn_tf.cases.geometry.components import ONE_NODULE_MM, Nodules, find_nodules, refuse_several
from ggn_tf.cases.geometry.grid import Box, Grid, Vector, point_text, vector
from ggn_tf.cases.masks import centroid_mm_lps, mask_reference, nodule_box, place_mask
from ggn_tf.cases.volumes import Volume, open_volume
from ggn_tf.errors import MaskError, VolumeError
from ggn_tf.protocol import PatchProtocol

POINT_DECIMALS = 2
"""Of voxel indices: a hundredth of a voxel is a tenth of what a click can be repeated to."""
_CENTROID_DECIMALS = 6


class NoduleTarget(NamedTuple):
    """Where a nodule is.

    Attributes:
        mask_path: The nodule's mask, in a format that `place_mask` reads.
        segment: The segment of the mask that is the nodule: its name, or its label's value.
        center_mm_lps: The patch's centre. None: the centroid of the nodule's mask.
        case: The name of the case in errors.
        number: Which of several nodules of the mask it is, from 1 for the largest. None: the one nearest to the centre,
            or the only one.
    """

    mask_path: Path | None = None
    segment: str | None = None
    center_mm_lps: Vector | None = None
    case: str | None = None
    number: int | None = None


class Masks:
    """The masks of one CT; each is read once."""

    def __init__(self, volume: Volume, repair_policy: RepairPolicy) -> None:
        self.volume = volume
        self._align_masks = repair_policy.align_masks
        self._read: dict[tuple[Path, str | None], tuple[Nodules, tuple[str, ...]]] = {}

    def components(self, path: Path, segment: str | None) -> tuple[Nodules, tuple[str, ...]]:
        """All components of a mask's segment, also remnants, and notes.

        Raises:
            MaskError: The mask cannot be used.
        """
        if (path, segment) not in self._read:
            placed = place_mask(path, self.volume, segment=segment, align_masks=self._align_masks)
            nodules = find_nodules(_trimmed(placed.image), joined=placed.one_nodule)
            self._read[path, segment] = nodules, placed.repaired
        return self._read[path, segment]


class PatchLocation(NamedTuple):
    """The part of a CT that a patch needs.

    Attributes:
        mask: The nodule's, cropped to the nodule; None without a mask.
        center_mm_lps: The patch's centre.
        grid: The patch's own grid.
        box: The voxels of the CT that patch and mask need.
        repaired: What was wrong with the CT or the mask and was repaired.
    """

    mask: sitk.Image | None
    center_mm_lps: Vector
    grid: Grid
    box: Box
    repaired: tuple[str, ...]


def open_ct_of(
    target: NoduleTarget, image_path: Path, series: str | None = None, repair_policy: RepairPolicy = STRICT
) -> Volume:
    """Open the CT on which a nodule is, as `open_volume` does.

    Where a DICOM folder contains several series, `series` decides alone, else the mask's header and the centre.
    """
    reference = None if target.mask_path is None else partial(mask_reference, target.mask_path)
    query = SeriesQuery(series, target.center_mm_lps, reference)
    return open_volume(image_path, query, repair=repair_policy.repair)


def locate_patch(masks: Masks, target: NoduleTarget, protocol: PatchProtocol) -> PatchLocation:
    """Locate a nodule's patch on an opened CT.

    Raises:
        MaskError: The mask cannot be used, or there is neither a mask nor a centre.
        VolumeError: The centre is outside the CT.
    """
    volume = masks.volume
    mask, repaired = None, volume.repaired
    if target.mask_path is not None:
        mask, notes = _nodule(masks, target, target.mask_path)
        repaired += notes
    center = _center(volume, mask, target.center_mm_lps)
    center = round_point(volume.grid, center, _CENTROID_DECIMALS if target.center_mm_lps is None else POINT_DECIMALS)
    grid = patch_grid(center, volume.grid, protocol)
    stored = patch_grid(center, volume.grid, protocol, margin=True)
    return PatchLocation(mask, center, grid, _needed(volume.grid, stored, mask), repaired)


def patch_grid(center_mm_lps: Vector, ct_grid: Grid, protocol: PatchProtocol, *, margin: bool = False) -> Grid:
    """The patch's grid, or that of the patch with its margin: centred on a point, along the CT's own axes."""
    depth, height, width = protocol.stored_zyx if margin else (protocol.size,) * 3
    depth_mm, height_mm, width_mm = protocol.spacing_mm_zyx
    return Grid.around(center_mm_lps, (width, height, depth), (width_mm, height_mm, depth_mm), ct_grid.direction)


def round_point(ct_grid: Grid, point_mm_lps: Vector, decimals: int = POINT_DECIMALS) -> Vector:
    """A point, rounded in voxel indices, so that one CT gives one patch however its file stores the origin.

    A centroid comes from whole voxels and needs no rounding but its last digits; a point in mm is off by what a 32-bit
    header loses of the origin, 1e-5 mm.
    """
    return vector(ct_grid.point_of(np.round(ct_grid.index_of(point_mm_lps), decimals)))


def count_nodules(masks: Masks, target: NoduleTarget) -> int:
    """The number of nodules in a target's mask: 1 without a mask, or where the centre or the number selects one.

    Raises:
        MaskError: The mask cannot be used.
    """
    if target.mask_path is None or target.center_mm_lps is not None or target.number is not None:
        return 1
    return len(_nodules(masks, target, target.mask_path)[0].voxels)


def _nodules(masks: Masks, target: NoduleTarget, mask_path: Path) -> tuple[Nodules, tuple[str, ...]]:
    """The nodules of a target's mask, and notes. A remnant is one only where the centre is in it."""
    found, notes = masks.components(mask_path, target.segment)
    nodules = found.without_remnants()
    chosen = found.at(target.center_mm_lps) if target.center_mm_lps is not None else 0
    if chosen > len(nodules.voxels):
        used, largest = found.voxels[chosen - 1], found.voxels[0]
        note = f"the mask: the piece at the centre was used (voxels: {used}), not the largest piece (voxels: {largest})"
        return found, (*notes, note)
    if nodules.dropped:
        voxels, pieces = sum(nodules.dropped), len(nodules.dropped)
        notes += (f"the mask: {voxels} voxels in {pieces} pieces, each below 5 % of the nodule, were left out",)
    return nodules, notes


def _nodule(masks: Masks, target: NoduleTarget, mask_path: Path) -> tuple[sitk.Image, tuple[str, ...]]:
    """The mask of the target's nodule, cropped to it, and notes."""
    nodules, notes = _nodules(masks, target, mask_path)
    number = target.number or 1
    if target.center_mm_lps is not None:
        number = nodules.nearest_to(target.center_mm_lps)
    elif target.number is None:
        refuse_several(nodules)
    nodule = nodules.mask(number)
    nodule = nodule if nodule is nodules.image else _trimmed(nodule)
    return nodule, (*notes, *_suspicions(nodule, target.center_mm_lps))


def _suspicions(nodule: sitk.Image, center_mm_lps: Vector | None) -> Iterator[str]:
    """Notes on a nodule's mask that may not be what was meant."""
    inside = sitk.GetArrayViewFromImage(nodule) > 0
    undrawn = int(np.count_nonzero(~inside.any(axis=(1, 2))))
    if undrawn:
        yield f"the mask: {undrawn} of the {len(inside)} slices from its first to its last are empty"
    if center_mm_lps is not None:
        voxels = Grid.from_image(nodule).point_of(np.argwhere(inside)[:, ::-1])
        apart_mm = float(np.linalg.norm(voxels - center_mm_lps, axis=1).min())
        if apart_mm > ONE_NODULE_MM:
            yield f"the mask: the given centre is {apart_mm:.1f} mm from its nearest voxel"


def _trimmed(mask: sitk.Image) -> sitk.Image:
    box = nodule_box(mask)
    # Not RegionOfInterest: on a crop its threads take longer to start than the copy.
    voxels = np.ascontiguousarray(sitk.GetArrayViewFromImage(mask)[box.slices_zyx])
    return Grid.from_image(mask).part(box).image_of(voxels)


def _center(volume: Volume, mask: sitk.Image | None, center_mm_lps: Vector | None) -> Vector:
    if center_mm_lps is None:
        if mask is None:
            raise MaskError(
                "The nodule has neither a mask nor a centre.",
                case=volume.path,
                remedy="Give the mask, or the centre in LPS mm.",
            )
        return centroid_mm_lps(mask)
    if not volume.grid.covers(center_mm_lps):
        corners = volume.grid.corners_mm_lps()
        x, y, z = center_mm_lps
        turned = volume.grid.covers((-x, -y, z))
        raise VolumeError(
            "The centre is outside the CT.",
            case=volume.path,
            found=f"centre {point_text(center_mm_lps)} mm",
            expected=f"LPS mm from {point_text(corners.min(axis=0))} to {point_text(corners.max(axis=0))}",
            remedy=f"Give the centre as {point_text((-x, -y, z))}, which is inside the CT: LPS was confused with RAS, "
            "which 3D Slicer shows. Centres are in LPS mm."
            if turned
            else "Give the centre in LPS mm: 3D Slicer shows RAS, where x and y have the other sign.",
            arguments=("ras",) if turned else (),
        )
    return center_mm_lps


def _needed(ct_grid: Grid, grid: Grid, mask: sitk.Image | None) -> Box:
    box = ct_grid.box_around(grid) or ct_grid.whole
    mask_box = None if mask is None else ct_grid.box_around(Grid.from_image(mask))
    return box.joined(mask_box) if mask_box else box
