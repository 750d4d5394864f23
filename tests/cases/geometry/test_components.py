import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.repair import STRICT
from ggn_tf.cases.geometry.components import find_nodules, refuse_several
from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.masks import centroid_mm_lps
from ggn_tf.cases.patch_location import Masks, NoduleTarget, count_nodules, locate_patch
from ggn_tf.cases.patches import cut_patch_from
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import MaskError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_phantoms import ball, ramp, rotation

PROTOCOL = PatchProtocol()
GRID = Grid((100, 90, 60), (0.8, 0.8, 1.25), (0.0, 0.0, 0.0), rotation(0, 0, 0))
HERE, THERE = (16.0, 16.0, 20.0), (60.0, 52.0, 50.0)


def voxels(mask):
    return int(np.count_nonzero(sitk.GetArrayViewFromImage(mask)))


def boxes(*first_voxels_xyz, size=4):
    """A mask of cubes."""
    inside = np.zeros(GRID.size_xyz[::-1], dtype=np.uint8)
    for x, y, z in first_voxels_xyz:
        inside[z : z + size, y : y + size, x : x + size] = 1
    return GRID.image_of(inside)


@pytest.mark.parametrize(
    ("second_xyz", "count"),
    [
        # Three empty voxels between: 2.4 mm from edge to edge; four: 3.2 mm.
        ((17, 10, 10), 1),
        ((18, 10, 10), 2),
        # Two empty slices: 2.5 mm; three: 3.75 mm.
        ((10, 10, 16), 1),
        ((10, 10, 17), 2),
        # Diagonally (2.4, 1.6) mm: 2.88 mm; (2.4, 2.4) mm: 3.39 mm.
        ((17, 16, 10), 1),
        ((17, 17, 10), 2),
        # They touch at a corner.
        ((14, 14, 14), 1),
    ],
)
def test_components_up_to_3_mm_apart_are_one_nodule(second_xyz, count):
    assert len(find_nodules(boxes((10, 10, 10), second_xyz)).voxels) == count


def test_the_distance_is_that_of_the_voxels_and_not_of_their_boxes():
    grid = Grid((60, 60, 1), (0.5, 0.5, 1.0), (0.0, 0.0, 0.0))
    inside = np.zeros((1, 60, 60), dtype=np.uint8)
    inside[0, 5:55, 5] = inside[0, 54, 5:55] = 1
    inside[0, 20:23, 30:33] = 1
    assert find_nodules(grid.image_of(inside)).voxels == (99, 9)


def test_a_chain_of_components_is_one_nodule():
    mask = boxes((10, 10, 10), (17, 10, 10), (24, 10, 10))
    assert find_nodules(mask).voxels == (192,)


def test_a_nodule_larger_than_a_patch_is_one_nodule():
    mask = ball(GRID, (40.0, 36.0, 36.0), 20.0)
    assert find_nodules(mask).voxels == (voxels(mask),)


def test_two_nodules_are_refused_with_their_sizes_and_centres():
    with pytest.raises(MaskError, match="The mask contains 2 nodules") as caught:
        refuse_several(find_nodules(ball(GRID, HERE, 4.1) + ball(GRID, THERE, 6.0)))
    big, small = (voxels(ball(GRID, *args)) * 0.8 for args in ((THERE, 6.0), (HERE, 4.1)))
    assert caught.value.found.startswith(f"{big:.0f} mm3 at (60.00, 52.00, 50.00); {small:.0f} mm3 at (16.00")
    assert "center_x_mm" in caught.value.remedy


@pytest.mark.parametrize(("center", "chosen"), [(HERE, HERE), (THERE, THERE), ((50.0, 50.0, 40.0), THERE)])
def test_the_centre_selects_the_nearest_nodule(center, chosen):
    nodules = find_nodules(ball(GRID, HERE, 4.1) + ball(GRID, THERE, 6.0))
    assert centroid_mm_lps(nodules.mask(nodules.nearest_to(center))) == pytest.approx(chosen, abs=0.02)


def test_the_nearest_surface_counts_not_the_nearest_middle():
    nodules = find_nodules(ball(GRID, (14.0, 36.0, 36.0), 3.0) + ball(GRID, (60.0, 36.0, 36.0), 16.0))
    chosen = nodules.mask(nodules.nearest_to((34.0, 36.0, 36.0)))
    assert centroid_mm_lps(chosen)[0] == pytest.approx(60.0, abs=0.1)


def test_remnants_are_below_5_percent_of_the_largest_nodule():
    # 1000, 51 and 48 voxels.
    inside = np.zeros(GRID.size_xyz[::-1], dtype=np.uint8)
    inside[10:20, 10:20, 10:20] = 1
    inside[30:33, 40, 10:27] = 1
    inside[50:53, 60, 10:26] = 1
    nodules = find_nodules(GRID.image_of(inside))
    assert nodules.voxels == (1000, 51, 48)
    kept = nodules.without_remnants()
    assert (kept.voxels, kept.dropped) == ((1000, 51), (48,))
    assert set(np.unique(kept.numbers).tolist()) == {0, 1, 2}


def test_noise_is_no_nodule():
    speckle = np.zeros(GRID.size_xyz[::-1], dtype=np.uint8)
    speckle[::4, ::4, ::4] = 1
    with pytest.raises(MaskError, match="in 8625 pieces"):
        find_nodules(GRID.image_of(speckle))


def test_a_patch_of_a_mask_with_two_nodules(save):
    ct, mask = save(ramp(GRID), "ct.nrrd"), save(ball(GRID, HERE, 4.1) + ball(GRID, THERE, 6.0), "mask.nrrd")
    with pytest.raises(MaskError, match="2 nodules"):
        cut_patch_from(ct, NoduleTarget(mask), PROTOCOL)
    patch = cut_patch_from(ct, NoduleTarget(mask, center_mm_lps=THERE), PROTOCOL)
    assert patch.measurements.volume_mm3 == pytest.approx(voxels(ball(GRID, THERE, 6.0)) * 0.8)


def test_a_mask_with_remnants_is_usable_with_a_note(save):
    nodule = ball(GRID, THERE, 6.0)
    speck = sitk.Image(nodule)
    speck[5, 6, 7] = speck[20, 6, 7] = 1
    ct = save(ramp(GRID), "ct.nrrd")
    patch = cut_patch_from(ct, NoduleTarget(save(speck, "mask.nrrd")), PROTOCOL)
    assert patch.measurements.volume_mm3 == pytest.approx(voxels(nodule) * 0.8)
    assert patch.repaired == ("the mask: 2 voxels in 2 pieces, each below 5 % of the nodule, were left out",)
    # A given centre selects what is small only where it is in it.
    chosen = cut_patch_from(ct, NoduleTarget(save(speck, "mask.nrrd"), center_mm_lps=(16.0, 5.0, 9.0)), PROTOCOL)
    assert chosen.measurements.volume_mm3 == pytest.approx(0.8)
    assert chosen.repaired == (
        f"the mask: the piece at the centre was used (voxels: 1), not the largest piece (voxels: {voxels(nodule)})",
    )


def test_a_speck_nearer_to_the_centre_than_the_nodule_is_not_the_nodule(save):
    inside = np.zeros(GRID.size_xyz[::-1], dtype=np.uint8)
    inside[20:28, 20:28, 20:26] = inside[24, 24, 36] = 1
    ct, mask = save(ramp(GRID), "ct.nrrd"), save(GRID.image_of(inside), "mask.nrrd")
    center = tuple(GRID.point_of((34, 24, 24)).tolist())
    patch = cut_patch_from(ct, NoduleTarget(mask, center_mm_lps=center), PROTOCOL)
    assert patch.measurements.volume_mm3 == pytest.approx(384 * 0.8)
    assert patch.repaired == (
        "the mask: 1 voxels in 1 pieces, each below 5 % of the nodule, were left out",
        f"the mask: the given centre is {9 * GRID.spacing_mm_xyz[0]:.1f} mm from its nearest voxel",
    )


def test_slices_that_were_not_drawn_are_noted(save):
    inside = np.zeros(GRID.size_xyz[::-1], dtype=np.uint8)
    inside[20:30:2, 20:28, 20:28] = 1
    patch = cut_patch_from(save(ramp(GRID), "ct.nrrd"), NoduleTarget(save(GRID.image_of(inside), "m.nrrd")), PROTOCOL)
    assert patch.repaired == ("the mask: 4 of the 9 slices from its first to its last are empty",)


def test_a_mask_is_read_once(save):
    volume, path = open_volume(save(ramp(GRID), "ct.nrrd")), save(boxes((10, 10, 10), (50, 50, 40)), "mask.nrrd")
    masks = Masks(volume, STRICT)
    assert count_nodules(masks, NoduleTarget(path)) == 2
    path.unlink()
    for number in (1, 2):
        assert locate_patch(masks, NoduleTarget(path, number=number), PROTOCOL).mask is not None


def test_the_nodules_of_a_mask_by_their_number(save):
    ct, mask = save(ramp(GRID), "ct.nrrd"), save(ball(GRID, HERE, 4.1) + ball(GRID, THERE, 6.0), "mask.nrrd")
    for number, center in ((1, THERE), (2, HERE)):
        patch = cut_patch_from(ct, NoduleTarget(mask, number=number), PROTOCOL)
        assert patch.center_mm_lps == pytest.approx(center, abs=0.02)
