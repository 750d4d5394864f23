import dataclasses
import itertools

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.axes import AxisOrder
from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.patch_location import NoduleTarget, patch_grid
from ggn_tf.cases.patches import CutOptions, cut_patch_from, paste_mask
from ggn_tf.errors import MaskError, VolumeError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_phantoms import CENTER, ball, noise, points_of, ramp, ramp_hu, rotation

PROTOCOL = PatchProtocol()
# Axial with every sign (eight orientations), coronal and sagittal, and two oblique ones.
ORIENTATIONS = [
    tuple(np.diag(signs).astype(float).ravel().tolist()) for signs in itertools.product((1, -1), repeat=3)
] + [rotation(90, 0, 0), rotation(90, 0, 90), rotation(15, -25, 40), rotation(-70, 10, 160)]


def lattice_around(patch: Grid, ct: Grid) -> tuple[Grid, np.ndarray]:
    """The patch's lattice carried on over the whole CT, and where the patch starts on it."""
    index = patch.index_of(ct.corners_mm_lps())
    before = np.maximum(np.ceil(-index.min(axis=0)).astype(int) + 2, 0)
    size = np.maximum(np.ceil(index.max(axis=0)).astype(int) + 2, np.array(patch.size_xyz)) + before
    origin = tuple(patch.point_of(-before).tolist())
    return Grid(tuple(size.tolist()), patch.spacing_mm_xyz, origin, patch.direction), before


def resampled_whole(image: sitk.Image, patch: Grid, interpolator: int, outside: float) -> np.ndarray:
    """The paper's order: resample the whole volume, then crop the patch."""
    lattice, before = lattice_around(patch, Grid.from_image(image))
    reference = sitk.Image(lattice.size_xyz, image.GetPixelID())
    lattice.place(reference)
    whole = sitk.GetArrayFromImage(sitk.Resample(image, reference, sitk.Transform(), interpolator, outside))
    x, y, z = before
    depth, height, width = patch.size_xyz[::-1]
    return whole[z : z + depth, y : y + height, x : x + width]


def test_the_patch_has_the_papers_grid(grid, save):
    patch = cut_patch_from(save(ramp(grid), "ct.nii"), NoduleTarget(save(ball(grid), "m.nii.gz")), PROTOCOL)
    assert patch.hu.shape == patch.mask.shape == (32, 32, 32)
    assert (patch.hu.dtype, patch.mask.dtype) == (np.float32, np.uint8)
    assert patch.grid.spacing_mm_xyz == (0.7, 0.7, 1.0)
    assert patch.ct_grid.same_as(grid)


@pytest.mark.parametrize("center", [(10.0, -30.0, 41.0), (-6.1, -46.2, 60.3), (29.1, -13.2, 20.3)])
@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.mha", "dicom"])
def test_cutting_the_patch_equals_resampling_all_and_cropping(grid, save, save_series, name, center):
    image = sitk.Cast(noise(grid), sitk.sitkFloat32)
    path = save_series(image) if name == "dicom" else save(image, name)
    patch = cut_patch_from(path, NoduleTarget(center_mm_lps=center), PROTOCOL)
    expected = resampled_whole(image, patch.grid, sitk.sitkLinear, -1024.0)
    # The two interpolate from other origins: what is left is the last bit of a float32.
    np.testing.assert_allclose(patch.hu, expected, atol=2e-3, rtol=0)


def test_the_mask_of_the_patch_equals_resampling_all_and_cropping(grid, save):
    mask = ball(grid, radius_mm=7.0)
    patch = cut_patch_from(save(ramp(grid), "ct.nii"), NoduleTarget(save(mask, "m.nii")), PROTOCOL)
    expected = resampled_whole(mask, patch.grid, sitk.sitkNearestNeighbor, 0)
    np.testing.assert_array_equal(patch.mask, expected)


@pytest.mark.parametrize("direction", ORIENTATIONS)
def test_a_ramp_in_world_coordinates_is_cut_exactly_in_every_orientation(save, direction):
    ct = Grid.around(CENTER, (60, 60, 60), (0.8, 0.75, 1.1), direction)
    patch = cut_patch_from(save(ramp(ct), "ct.nrrd"), NoduleTarget(center_mm_lps=CENTER), PROTOCOL)
    np.testing.assert_allclose(patch.hu, ramp_hu(points_of(patch.grid)), atol=0.01)
    assert patch.grid.direction == pytest.approx(AxisOrder.of(ct).grid.direction, abs=1e-6)


@pytest.mark.parametrize("direction", ORIENTATIONS)
def test_a_nodule_is_in_the_middle_in_every_orientation(save, direction):
    ct = Grid.around((10.0, -30.0, 41.0), (64, 64, 50), (0.6, 0.6, 0.9), direction)
    patch = cut_patch_from(save(ramp(ct), "ct.nii"), NoduleTarget(save(ball(ct), "m.nii.gz")), PROTOCOL)
    assert patch.center_mm_lps == pytest.approx(CENTER, abs=0.1)
    # Nearest neighbours move an edge by up to half a voxel of the CT.
    assert np.argwhere(patch.mask).mean(axis=0) == pytest.approx((15.5, 15.5, 15.5), abs=0.45)
    assert patch.mask.sum() * 0.7 * 0.7 * 1.0 == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.03)


def test_outside_the_ct_is_air(grid, save):
    corner = tuple(grid.point_of((0, 0, 0)).tolist())
    patch = cut_patch_from(save(ramp(grid), "ct.nii"), NoduleTarget(center_mm_lps=corner), PROTOCOL)
    index = grid.index_of(points_of(patch.grid))
    outside = np.any(index < -0.5, axis=-1)
    assert 0.8 < outside.mean() < 0.9
    assert np.all(patch.hu[outside] == -1024)
    assert np.all(patch.hu[~outside] != -1024)


def test_another_protocol(grid, save):
    protocol = PatchProtocol(size=16, spacing_mm_zyx=(2.0, 1.5, 1.4), outside_hu=0.0)
    patch = cut_patch_from(save(ramp(grid), "ct.nii"), NoduleTarget(center_mm_lps=(10.0, -30.0, 41.0)), protocol)
    assert patch.hu.shape == (16, 16, 16)
    assert patch.grid.spacing_mm_xyz == (1.4, 1.5, 2.0)


def test_a_margin_surrounds_the_same_patch(grid, save):
    target = NoduleTarget(save(ball(grid), "m.nii"))
    ct = save(ramp(grid), "ct.nii")
    patch = cut_patch_from(ct, target, PROTOCOL)
    protocol = dataclasses.replace(PROTOCOL, margin_mm=8.0)
    wide = cut_patch_from(ct, target, protocol)
    assert wide.stored_hu.shape == wide.stored_mask.shape == (48, 56, 56)
    for stored, middle in ((wide.stored_hu, patch.hu), (wide.stored_mask, patch.mask)):
        np.testing.assert_array_equal(stored[8:-8, 12:-12, 12:-12], middle)
    assert patch.stored_hu is patch.hu
    # Another centre's patch, cut from the margin: 3 voxels down, 12 to the left of the patient.
    x, y, z = patch.grid.point_of((15.5 + 12, 15.5, 15.5 - 3)).tolist()
    other = cut_patch_from(ct, target._replace(center_mm_lps=(x, y, z)), PROTOCOL)
    np.testing.assert_allclose(wide.stored_hu[5:-11, 12:-12, 24:], other.hu, atol=1.5)


def test_a_given_centre_is_used_instead_of_the_centroid(grid, save):
    center = (13.0, -30.0, 42.0)
    paths = {"mask_path": save(ball(grid), "m.nii"), "center_mm_lps": center}
    patch = cut_patch_from(save(ramp(grid), "ct.nii"), NoduleTarget(**paths), PROTOCOL)
    assert patch.center_mm_lps == pytest.approx(center, abs=0.01)
    shift_zyx = np.argwhere(patch.mask).mean(axis=0) - 15.5
    assert shift_zyx == pytest.approx([-2 / 1.0, -1 / 0.7, -1 / 0.7], abs=0.2)


def test_measures_do_not_end_where_the_patch_does(save):
    ct = Grid.around(CENTER, (90, 90, 60), (0.5, 0.5, 0.8), rotation(0, 0, 0))
    patch = cut_patch_from(save(ramp(ct), "ct.nii"), NoduleTarget(save(ball(ct, radius_mm=20.0), "m.nii")), PROTOCOL)
    assert patch.measurements.diameter_mm == pytest.approx(40.0, rel=0.005)


def test_no_measures_without_a_mask(grid, save):
    patch = cut_patch_from(save(ramp(grid), "ct.nii"), NoduleTarget(center_mm_lps=(10.0, -30.0, 41.0)), PROTOCOL)
    assert (patch.mask, patch.measurements) == (None, None)


def test_only_the_slices_of_the_patch_matter(save_series):
    ct = Grid((40, 40, 90), (0.8, 0.8, 1.0), (0.0, 0.0, 0.0), rotation(0, 0, 0))
    image = noise(ct)
    center = (16.0, 16.0, 30.0)
    expected = cut_patch_from(save_series(image), NoduleTarget(center_mm_lps=center), PROTOCOL)
    damaged = save_series(image, "damaged")
    for path in sorted(damaged.iterdir())[50:]:
        content = path.read_bytes()
        path.write_bytes(content[:-3000] + bytes(3000))
    patch = cut_patch_from(damaged, NoduleTarget(center_mm_lps=center), PROTOCOL)
    np.testing.assert_array_equal(patch.hu, expected.hu)


def test_damage_of_the_middle_slice_leaves_the_patch_without_its_digest(save):
    size = (80, 80, 120)
    grid = Grid.around((0.0, 0.0, 0.0), size, (0.8, 0.8, 1.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    hu = np.random.default_rng(0).normal(-800, 30, size[::-1]).astype(np.float32)
    target = NoduleTarget(center_mm_lps=(0.0, 0.0, -35.0))
    sound = cut_patch_from(save(grid.image_of(hu), "sound.nrrd"), target, PROTOCOL, CutOptions(ct_digest=True))
    hu[60, 0, 0] = np.nan
    damaged = cut_patch_from(save(grid.image_of(hu), "damaged.nrrd"), target, PROTOCOL, CutOptions(ct_digest=True))
    np.testing.assert_array_equal(damaged.hu, sound.hu)
    assert len(sound.ct_digests) == 2 and damaged.ct_digests == sound.ct_digests[1:]


@pytest.mark.parametrize(("first", "shared"), [(20, True), (26, True), (28, False)])
@pytest.mark.parametrize("name", ["crop.nii.gz", "crop.mha"])
def test_a_crop_through_the_patch_shares_the_digest_around_the_centre(save, name, first, shared):
    """From the slice 28 on, a part of the voxels within 4 mm is missing."""
    grid = Grid.around((3.0, -4.0, 5.0), (60, 60, 64), (0.8, 0.8, 1.25), rotation(0, 0, 0))
    target = NoduleTarget(center_mm_lps=tuple(grid.point_of((30.5, 30, 30))))
    image = noise(grid)
    whole = cut_patch_from(save(image, "whole.nrrd"), target, PROTOCOL, CutOptions(ct_digest=True))
    crop = cut_patch_from(save(image[:, :, first:], name), target, PROTOCOL, CutOptions(ct_digest=True))
    assert not np.array_equal(whole.hu, crop.hu)
    assert bool(set(whole.ct_digests) & set(crop.ct_digests)) == shared
    other = cut_patch_from(save(noise(grid, 1), "other.nrrd"), target, PROTOCOL, CutOptions(ct_digest=True))
    assert not set(whole.ct_digests) & set(other.ct_digests)
    assert not cut_patch_from(save(image * 0, "even.nrrd"), target, PROTOCOL, CutOptions(ct_digest=True)).ct_digests


def test_a_centre_outside_the_ct_is_refused_with_both(save):
    path = save(ramp(Grid((41, 31, 21), (0.5, 0.5, 2.0), (1.0, -40.0, 10.0))), "ct.nii")
    with pytest.raises(VolumeError, match="centre is outside the CT") as caught:
        cut_patch_from(path, NoduleTarget(center_mm_lps=(-10.0, 30.0, 41.0), case="nodule 9"), PROTOCOL)
    assert caught.value.found == "centre (-10.00, 30.00, 41.00) mm"
    assert caught.value.expected == "LPS mm from (1.00, -40.00, 10.00) to (21.00, -25.00, 50.00)"
    assert caught.value.case == f"nodule 9 ({path})"


def test_neither_mask_nor_centre(grid, save):
    with pytest.raises(MaskError, match="neither a mask nor a centre"):
        cut_patch_from(save(ramp(grid), "ct.nii"), NoduleTarget(), PROTOCOL)


def test_a_mask_that_does_not_reach_the_patch(save):
    ct = Grid((80, 80, 30), (0.8, 0.8, 1.0), (0.0, 0.0, 0.0), rotation(0, 0, 0))
    mask = save(ball(ct, (50.0, 50.0, 15.0), 4.0), "m.nii")
    with pytest.raises(MaskError, match="no voxel in the patch") as caught:
        cut_patch_from(
            save(ramp(ct), "ct.nii"), NoduleTarget(mask, center_mm_lps=(10.0, 10.0, 15.0), case="n"), PROTOCOL
        )
    assert caught.value.found.startswith("patch centre (10.00, 10.00, 15.00) mm, centroid of the mask (50.")


@pytest.mark.parametrize("direction", ORIENTATIONS)
def test_the_mask_returns_to_the_ct(save, direction):
    ct = Grid.around((10.0, -30.0, 41.0), (64, 60, 50), (0.6, 0.65, 0.9), direction)
    original = ball(ct, radius_mm=7.0)
    patch = cut_patch_from(save(ramp(ct), "ct.nii"), NoduleTarget(save(original, "m.nii.gz")), PROTOCOL)
    pasted = paste_mask(patch.mask.astype(np.float32), patch.grid, patch.ct_grid)
    before = AxisOrder.of(ct).from_stored(sitk.GetArrayFromImage(original) > 0)
    after = sitk.GetArrayFromImage(pasted) > 0
    assert Grid.from_image(pasted).same_as(AxisOrder.of(ct).grid)
    assert pasted.GetPixelID() == sitk.sitkUInt8
    assert 2 * np.sum(before & after) / (before.sum() + after.sum()) > 0.95
    shift = np.argwhere(after).mean(axis=0) - np.argwhere(before).mean(axis=0)
    assert np.abs(shift).max() < 0.5


def test_a_probability_is_interpolated_before_it_is_thresholded(grid):
    patch = patch_grid(CENTER, grid, PROTOCOL)
    # A plane that falls along x through 0.5 at the patch's middle: the edge may be off by no more than rounding.
    probability = np.broadcast_to(np.linspace(1, 0, 32), (32, 32, 32))
    pasted = sitk.GetArrayFromImage(paste_mask(probability, patch, grid))
    points = points_of(grid)
    inside = np.all(np.abs(patch.index_of(points) - 15.5) < 15.5, axis=-1)
    np.testing.assert_array_equal(pasted[inside] == 1, points[inside][:, 0] <= CENTER[0])
    assert not pasted[np.any(np.abs(patch.index_of(points) - 15.5) > 16, axis=-1)].any()


def test_another_threshold(grid):
    patch = patch_grid(CENTER, grid, PROTOCOL)
    probability = np.full((32, 32, 32), 0.4, dtype=np.float32)
    assert not sitk.GetArrayFromImage(paste_mask(probability, patch, grid)).any()
    assert sitk.GetArrayFromImage(paste_mask(probability, patch, grid, threshold=0.4)).any()


def test_a_patch_beyond_the_ct_leaves_it_empty(grid):
    far = patch_grid((500.0, 0.0, 0.0), grid, PROTOCOL)
    pasted = paste_mask(np.ones((32, 32, 32)), far, grid)
    assert pasted.GetSize() == grid.size_xyz
    assert not sitk.GetArrayFromImage(pasted).any()
