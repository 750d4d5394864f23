import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.components import select_component
from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.masks import centroid_mm_lps
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import cut_patch_from
from ggn_tf.errors import MaskError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_phantoms import ball, ramp, rotation

PROTOCOL = PatchProtocol()
PATCH_MM = (22.4, 22.4, 32.0)
GRID = Grid((100, 90, 60), (0.8, 0.8, 1.25), (0.0, 0.0, 0.0), rotation(0, 0, 0))
HERE, THERE = (16.0, 16.0, 20.0), (60.0, 52.0, 50.0)


def two(gap_mm, radius_mm=4.0):
    other = (HERE[0] + 2 * radius_mm + gap_mm, HERE[1], HERE[2])
    return ball(GRID, HERE, radius_mm) + ball(GRID, other, radius_mm)


def voxels(mask):
    return int(np.count_nonzero(sitk.GetArrayViewFromImage(mask)))


def test_parts_no_further_apart_than_a_patch_are_one_nodule():
    mask = two(20.0)
    assert voxels(select_component(mask, PATCH_MM)) == voxels(mask)
    assert voxels(select_component(mask, PATCH_MM, HERE)) == voxels(mask)


def test_a_chain_of_parts_is_one_nodule():
    mask = two(20.0) + ball(GRID, (72.0, 16.0, 20.0), 4.0)
    assert voxels(select_component(mask, PATCH_MM)) == voxels(mask)


def test_a_nodule_larger_than_a_patch_is_one_nodule():
    mask = ball(GRID, (40.0, 36.0, 36.0), 20.0)
    assert voxels(select_component(mask, PATCH_MM)) == voxels(mask)


def test_two_nodules_are_refused_with_their_sizes_and_places():
    mask = ball(GRID, HERE, 4.1) + ball(GRID, THERE, 6.0)
    with pytest.raises(MaskError, match="The mask contains 2 nodules") as caught:
        select_component(mask, PATCH_MM)
    big, small = (voxels(ball(GRID, *args)) * 0.8 for args in ((THERE, 6.0), (HERE, 4.1)))
    assert caught.value.found.startswith(f"{big:.0f} mm3 at (60.00, 52.00, 50.00); {small:.0f} mm3 at (16.00")
    assert "center_x_mm" in caught.value.remedy


@pytest.mark.parametrize(("center", "chosen"), [(HERE, HERE), (THERE, THERE), ((50.0, 50.0, 40.0), THERE)])
def test_the_centre_picks_the_nodule_that_is_nearest(center, chosen):
    mask = ball(GRID, HERE, 4.1) + ball(GRID, THERE, 6.0)
    assert centroid_mm_lps(select_component(mask, PATCH_MM, center)) == pytest.approx(chosen, abs=0.02)


def test_the_nearest_surface_counts_not_the_nearest_middle():
    mask = ball(GRID, (14.0, 36.0, 36.0), 3.0) + ball(GRID, (60.0, 36.0, 36.0), 16.0)
    assert centroid_mm_lps(select_component(mask, PATCH_MM, (34.0, 36.0, 36.0)))[0] == pytest.approx(60.0, abs=0.1)


def test_noise_is_no_nodule():
    speckle = np.zeros(GRID.size_xyz[::-1], dtype=np.uint8)
    speckle[::4, ::4, ::4] = 1
    with pytest.raises(MaskError, match="in 8625 pieces"):
        select_component(GRID.image_of(speckle), PATCH_MM)


def test_a_patch_of_a_mask_with_two_nodules(save):
    ct, mask = save(ramp(GRID), "ct.nrrd"), save(ball(GRID, HERE, 4.1) + ball(GRID, THERE, 6.0), "mask.nrrd")
    with pytest.raises(MaskError, match="2 nodules"):
        cut_patch_from(ct, NoduleTarget(mask), PROTOCOL)
    patch = cut_patch_from(ct, NoduleTarget(mask, center_mm_lps=THERE), PROTOCOL)
    assert patch.volume_mm3 == pytest.approx(voxels(ball(GRID, THERE, 6.0)) * 0.8)
