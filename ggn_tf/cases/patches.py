"""The patch around a nodule that the networks see (paper section 3.1), and its mask back on the CT."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.repair import STRICT, RepairPolicy
from ggn_tf.cases.geometry.grid import Box, Grid, Vector, point_text
from ggn_tf.cases.geometry.resampling import sample_linear, sample_nearest
from ggn_tf.cases.masks import centroid_mm_lps
from ggn_tf.cases.measurements import Measurements, measure
from ggn_tf.cases.patch_location import Masks, NoduleTarget, PatchLocation, locate_patch, open_ct_of, patch_grid
from ggn_tf.cases.radiomics import measure_radiomics
from ggn_tf.cases.reader_process import restart_time
from ggn_tf.cases.volumes import Volume, naming_case
from ggn_tf.errors import MaskError, VolumeError
from ggn_tf.protocol import MASK_THRESHOLD, SOLID_HU, PatchProtocol

Digests = tuple[str, ...]


@dataclass(frozen=True)
class CutOptions:
    """How patches are cut, and what is measured on their nodules.

    Attributes:
        repair_policy: What may be repaired instead of being rejected.
        radiomics: Whether to measure the masks' radiomic features too.
        solid_hu: Above it voxels are solid, in the measurements of the masks.
        ct_digest: Whether to read the CT's middle slice too, for `Patch.ct_digests`.
    """

    repair_policy: RepairPolicy = STRICT
    radiomics: bool = False
    solid_hu: float = SOLID_HU
    ct_digest: bool = False


PLAIN_CUT = CutOptions()

# A CT that was cropped at a nodule has the voxels around its centre.
_AROUND_MM = 4.0
# A centre between two voxels counts to the same one whatever the rounding of a header.
_NEAREST = 0.4999


@dataclass(frozen=True)
class Patch:
    """A nodule's patch, and what is known about the nodule on the CT's own voxels.

    Attributes:
        hu: [z, y, x] float32, Hounsfield units, not windowed.
        mask: [z, y, x] uint8, 0 or 1; None without a mask.
        center_mm_lps: The point between the middle voxels.
        grid: The patch's own grid.
        ct_grid: The CT's grid.
        repaired: What was wrong with the CT or the mask and was repaired.
        radiomics: The nodule's radiomic features, if they were requested.
        mask_box: The voxels of `ct_grid` that the nodule extends over; None without a mask.
        series: SeriesInstanceUID of the CT; None for a volume file.
        stored_hu: `hu` with the protocol's margin on every side; the same array where it has none.
        stored_mask: `mask` likewise.
        ct_digests: If requested, digests of the CT's middle slice and of its voxels around the centre, which are equal
            for every file and format of one CT, the latter also for a part of it; without those of equal voxels.
    """

    hu: npt.NDArray[np.float32]
    mask: npt.NDArray[np.uint8] | None
    center_mm_lps: Vector
    grid: Grid
    ct_grid: Grid
    measurements: Measurements | None = None
    repaired: tuple[str, ...] = ()
    radiomics: dict[str, float] | None = None
    mask_box: Box | None = None
    series: str | None = None
    stored_hu: npt.NDArray[np.float32] | None = None
    stored_mask: npt.NDArray[np.uint8] | None = None
    ct_digests: Digests = ()


def cut_patch(volume: Volume, target: NoduleTarget, protocol: PatchProtocol, options: CutOptions = PLAIN_CUT) -> Patch:
    """Cut a nodule's patch out of its CT, reading and resampling nothing else.

    Args:
        volume: The CT.
        target: Where the nodule is.
        protocol: The patch's size, spacing, and value outside the CT.
        options: How to cut, and what to measure.

    Raises:
        VolumeError: The CT cannot be read, or the centre is outside it.
        MaskError: The mask cannot be used, does not reach the patch, or there is neither a mask nor a centre.
    """
    with naming_case(target.case):
        location = locate_patch(Masks(volume, options.repair_policy), target, protocol)
        (image,), digest = _read(volume, [location.box], options.ct_digest)
        return _cut(volume, location, image, protocol, options, digest)


def cut_patches(
    volume: Volume,
    targets: Sequence[NoduleTarget],
    protocol: PatchProtocol,
    options: CutOptions = PLAIN_CUT,
    masks: Masks | None = None,
) -> list[Patch]:
    """Cut the patches of several nodules of one CT; a compressed file is decompressed once for all of them.

    Args and errors are those of `cut_patch`; `masks` are those that were already read, whose repair policy counts for
    masks in place of that of the options.
    """
    masks = masks or Masks(volume, options.repair_policy)
    locations = []
    for target in targets:
        restart_time()
        with naming_case(target.case):
            locations.append(locate_patch(masks, target, protocol))
    images, digest = _read(volume, [location.box for location in locations], options.ct_digest)
    patches = []
    for target, location, image in zip(targets, locations, images, strict=True):
        restart_time()
        with naming_case(target.case):
            patches.append(_cut(volume, location, image, protocol, options, digest))
    return patches


def cut_patch_from(
    image_path: Path,
    target: NoduleTarget,
    protocol: PatchProtocol,
    options: CutOptions = PLAIN_CUT,
    *,
    series: str | None = None,
) -> Patch:
    """Open a CT and cut one patch.

    Without a `series` the one is taken that `choose_series` finds by the mask and the centre. The other arguments are
    as in `cut_patch`.
    """
    with naming_case(target.case):
        volume = open_ct_of(target, image_path, series, options.repair_policy)
    return cut_patch(volume, target, protocol, options)


def move_patch(patch: Patch, block: sitk.Image, center_mm_lps: Vector, protocol: PatchProtocol) -> Patch:
    """Cut the patch around another point of the same CT.

    Takes a patch without a mask, and the block of the CT around it, as `Volume.read` returns it.
    """
    grid = patch_grid(center_mm_lps, patch.ct_grid, protocol)
    hu = _resampled(block, grid, patch.ct_grid, sample_linear, protocol.outside_hu)
    return dataclasses.replace(patch, hu=hu, center_mm_lps=center_mm_lps, grid=grid)


def paste_mask(
    probability_zyx: npt.NDArray[np.floating], patch_grid: Grid, ct_grid: Grid, threshold: float = MASK_THRESHOLD
) -> sitk.Image:
    """Put a patch's predicted mask on the CT's own grid.

    The probability is interpolated linearly at the CT's voxels, then thresholded; only voxels in the patch are touched.

    Args:
        probability_zyx: [z, y, x], from 0 to 1, on the patch's grid.
        patch_grid: `Patch.grid`.
        ct_grid: `Patch.ct_grid`.
        threshold: The nodule is where the probability is at least this.

    Returns:
        uint8, 0 or 1, of the CT's size.
    """
    mask = np.zeros(ct_grid.size_xyz[::-1], dtype=np.uint8)
    box = ct_grid.box_around(patch_grid)
    if box is not None:
        probability = patch_grid.in_voxels_of(ct_grid).image_of(np.asarray(probability_zyx, dtype=np.float32))
        on_ct = ct_grid.part(box).in_voxels_of(ct_grid).sample(probability, sitk.sitkLinear, 0)
        mask[box.slices_zyx] = on_ct >= threshold
    return ct_grid.image_of(mask)


def _read(volume: Volume, boxes: list[Box], with_digest: bool) -> tuple[list[sitk.Image], Digests | None]:
    """Blocks of a CT and the digest of its middle slice if it is requested, read at once."""
    if not with_digest:
        return volume.read_blocks(boxes), None
    width, height, depth = volume.grid.size_xyz
    try:
        *images, middle = volume.read_blocks([*boxes, Box((0, 0, depth // 2), (width, height, 1))])
    except VolumeError:
        # What is damaged may be the middle slice alone.
        return volume.read_blocks(boxes), ()
    return images, _digests(sitk.GetArrayViewFromImage(middle))


def _digests(voxels: npt.NDArray[Any]) -> Digests:
    """The digest of voxels, [z, y, x] HU; none where all are equal, as in another CT."""
    hu = np.rint(voxels).astype("<i2")
    return () if hu.min() == hu.max() else (hashlib.sha256(hu.tobytes()).hexdigest(),)


def _digests_around(block: sitk.Image, center: Vector) -> Digests:
    """The digest of the CT's voxels around the one that contains a point; none where it does not have all of them."""
    grid = Grid.from_image(block)
    middle = np.floor(grid.index_of(center) + _NEAREST).astype(int)
    reach = np.maximum(np.rint(_AROUND_MM / np.array(grid.spacing_mm_xyz)), 1).astype(int)
    first, end = middle - reach, middle + reach + 1
    if (first < 0).any() or (end > grid.size_xyz).any():
        return ()
    (x, y, z), (x_end, y_end, z_end) = first, end
    return _digests(sitk.GetArrayViewFromImage(block)[z:z_end, y:y_end, x:x_end])


def _cut(
    volume: Volume,
    location: PatchLocation,
    image: sitk.Image,
    protocol: PatchProtocol,
    options: CutOptions,
    of_slice: Digests | None,
) -> Patch:
    mask, center, grid, _, repaired = location
    hu = _resampled(image, grid, volume.grid, sample_linear, protocol.outside_hu)
    digests = () if of_slice is None else (*of_slice, *_digests_around(image, center))
    if mask is None:
        return Patch(hu, None, center, grid, volume.grid, repaired=repaired, series=volume.series, ct_digests=digests)
    patch_mask = _resampled(mask, grid, volume.grid, sample_nearest, 0)
    stored_hu, stored_mask = hu, patch_mask
    if protocol.margin_mm:
        wide = patch_grid(center, volume.grid, protocol, margin=True)
        stored_hu = _resampled(image, wide, volume.grid, sample_linear, protocol.outside_hu)
        stored_mask = _resampled(mask, wide, volume.grid, sample_nearest, 0)
        # Equal but for the last bits, which depend on a grid's first voxel.
        protocol.without_margin(stored_hu)[:], protocol.without_margin(stored_mask)[:] = hu, patch_mask
    _check_reaches(mask, patch_mask, center)
    features = measure_radiomics(image, mask) if options.radiomics else None
    start = np.rint(volume.grid.index_of(mask.GetOrigin())).astype(int).tolist()
    box = Box((start[0], start[1], start[2]), mask.GetSize())
    measured = measure(image, mask, options.solid_hu)
    known = Patch(hu, patch_mask, center, grid, volume.grid, measured, repaired, features, box, volume.series)
    return dataclasses.replace(known, stored_hu=stored_hu, stored_mask=stored_mask, ct_digests=digests)


def _resampled(
    block: sitk.Image, grid: Grid, ct_grid: Grid, sample: Callable[..., npt.NDArray[Any]], outside: float
) -> npt.NDArray[Any]:
    """Sample a block of the CT's voxels on a grid with parallel axes, in the CT's voxel indices."""
    first_xyz = Grid.from_image(block).in_voxels_of(ct_grid).origin_mm_lps
    return sample(sitk.GetArrayViewFromImage(block), first_xyz, grid.in_voxels_of(ct_grid), outside)


def _check_reaches(mask: sitk.Image, patch_mask: npt.NDArray[np.uint8], center: Vector) -> None:
    if not patch_mask.any():
        raise MaskError(
            "The mask has no voxel in the patch.",
            found=f"patch centre {point_text(center)} mm, centroid of the mask {point_text(centroid_mm_lps(mask))} mm",
            expected="a nodule at the patch's centre",
            remedy="Check that the centre is given in LPS mm, and that mask and centre belong to one nodule.",
        )
