import itertools

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.repair import RepairPolicy
from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.geometry.mask_alignment import Obstacle, obstacle_of, place_exactly
from ggn_tf.cases.masks import centroid_mm_lps
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import CutOptions, cut_patch_from
from ggn_tf.errors import MaskError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_phantoms import CENTER, ball, ramp, rotation
from tests.support.whole_volumes import read_mask

PROTOCOL = PatchProtocol()
OBLIQUE = rotation(12, -7, 33)


def ct_grid(direction=OBLIQUE):
    return Grid.around((10.0, -30.0, 41.0), (50, 46, 30), (0.83, 0.83, 1.7), direction)


@pytest.mark.parametrize("flips", [*itertools.product([False, True], repeat=3)])
@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_a_mask_that_counts_its_axes_otherwise_has_the_same_voxels(order, flips):
    grid = ct_grid()
    image = sitk.PermuteAxes(sitk.Flip(ball(grid), flips), order)
    placed = place_exactly(grid, Grid.from_image(image), sitk.GetArrayFromImage(image) > 0)
    assert placed is not None
    np.testing.assert_array_equal(placed.inside, sitk.GetArrayFromImage(ball(grid)) > 0)


def test_a_mask_larger_than_the_ct_counts_what_lies_outside():
    grid = ct_grid()
    part = grid.part(Box((0, 0, 0), (50, 46, 15)))
    whole = np.ones((30, 46, 50), dtype=bool)
    placed = place_exactly(part, grid, whole)
    assert placed.outside_ct == 15 * 46 * 50
    assert placed.inside.all()


@pytest.mark.parametrize("shift_mm", [0.1, 0.4])
def test_voxels_between_those_of_the_ct_have_no_exact_place(shift_mm):
    grid = ct_grid()
    moved = Grid(
        grid.size_xyz, grid.spacing_mm_xyz, (grid.origin_mm_lps[0] + shift_mm, *grid.origin_mm_lps[1:]), OBLIQUE
    )
    assert place_exactly(grid, moved, np.ones((30, 46, 50), dtype=bool)) is None


FINE = Grid.around((12.0, -31.0, 40.0), (40, 40, 40), (0.5, 0.5, 0.5), rotation(0, 0, 0))


def test_a_mask_on_another_grid_is_refused_and_the_remedy_is_named(save):
    with pytest.raises(MaskError, match="not on its CT") as caught:
        read_mask(save(ball(FINE), "mask.nrrd"), ct_grid())
    assert caught.value.arguments == ("align_masks",)


def test_an_aligned_mask_keeps_place_and_volume(save):
    grid = ct_grid()
    ct, mask = save(ramp(grid), "ct.nrrd"), save(ball(FINE), "mask.nrrd")
    patch = cut_patch_from(ct, NoduleTarget(mask), PROTOCOL, CutOptions(RepairPolicy(align_masks=True)))
    assert patch.center_mm_lps == pytest.approx(CENTER, abs=0.1)
    assert patch.measurements.volume_mm3 == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.02)
    assert patch.repaired == (f"the mask: put onto the CT's grid from {Grid.from_image(ball(FINE))}",)


def test_a_mask_on_the_grid_needs_no_note(save):
    ct, mask = save(ramp(ct_grid()), "ct.nrrd"), save(ball(ct_grid()), "mask.nrrd")
    assert cut_patch_from(ct, NoduleTarget(mask), PROTOCOL, CutOptions(RepairPolicy(align_masks=True))).repaired == ()


def test_a_mask_of_another_place_cannot_be_aligned(save):
    away = Grid.around((500.0, 0.0, 0.0), (40, 40, 40), (0.5, 0.5, 0.5), OBLIQUE)
    ct, mask = save(ramp(ct_grid()), "ct.nrrd"), save(ball(away, (500.0, 0.0, 0.0)), "mask.nrrd")
    with pytest.raises(MaskError, match="not on its CT") as caught:
        cut_patch_from(ct, NoduleTarget(mask), PROTOCOL, CutOptions(RepairPolicy(align_masks=True)))
    assert "no voxel of the mask is in the CT" in caught.value.found


def test_a_mask_partly_outside_the_ct_is_refused_with_the_count(save):
    grid = ct_grid()
    part = grid.part(Box((0, 0, 0), (50, 46, 15)))
    mask = save(ball(grid), "mask.nrrd")
    inside = sitk.GetArrayFromImage(ball(grid))
    with pytest.raises(MaskError) as caught:
        read_mask(mask, part)
    assert f"{inside[15:].sum()} of its {inside.sum()} voxels are outside the CT" in caught.value.found
    assert centroid_mm_lps(read_mask(mask, grid)) == pytest.approx(CENTER, abs=0.1)


def moved(grid, **changes):
    return Grid(**{**vars(grid), **changes})


TURNED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
CT = Grid((50, 46, 30), (0.83, 0.83, 1.7), (-10.0, -50.0, 15.0))


@pytest.mark.parametrize(
    ("header", "obstacle"),
    [
        (moved(CT, origin_mm_lps=(0.0, 0.0, 0.0), spacing_mm_xyz=(1.0, 1.0, 1.0)), Obstacle.NO_POSITION),
        (
            moved(CT, origin_mm_lps=(0.0, 0.0, 0.0), spacing_mm_xyz=(1.0, 1.0, 1.0), direction=TURNED),
            Obstacle.NO_POSITION,
        ),
        (moved(CT, spacing_mm_xyz=(1.0, 1.0, 1.0)), Obstacle.NO_POSITION),
        (moved(CT, direction=TURNED), Obstacle.ORIENTATION),
        (moved(CT, size_xyz=(46, 50, 30)), Obstacle.EXCHANGED),
        (moved(CT, size_xyz=(30, 46, 50), spacing_mm_xyz=(1.7, 0.83, 0.83)), Obstacle.EXCHANGED),
        (moved(CT, direction=OBLIQUE), Obstacle.ORIENTATION),
        (
            moved(
                CT, size_xyz=(46, 50, 30), origin_mm_lps=(0.0, -50.0, 15.0), direction=(0, 1.0, 0, 1.0, 0, 0, 0, 0, 1.0)
            ),
            Obstacle.ORIENTATION,
        ),
        (moved(CT, origin_mm_lps=(-10.0, -50.0, 18.0)), Obstacle.SHIFTED),
        (moved(CT, origin_mm_lps=(-9.6, -50.0, 15.0)), None),
        # The same voxels counted from the other corner, half a voxel beside the CT's.
        (moved(CT, direction=TURNED, origin_mm_lps=tuple(CT.point_of((49.5, 45.5, 0)))), None),
        (moved(CT, spacing_mm_xyz=(0.7, 0.7, 1.7)), None),
        (moved(CT, size_xyz=(60, 60, 40), spacing_mm_xyz=(0.5, 0.5, 1.0)), None),
        (moved(CT, size_xyz=(60, 60, 40), spacing_mm_xyz=(0.5, 0.5, 1.0), direction=OBLIQUE), None),
    ],
)
def test_a_header_that_is_probably_wrong_is_an_obstacle(header, obstacle):
    assert obstacle_of(CT, header, forms_differ=False) is obstacle


@pytest.mark.parametrize(
    ("options", "obstacle"),
    [
        ({"forms_differ": True}, Obstacle.FORMS),
        ({"forms_differ": False, "references": ("patient", "series")}, Obstacle.OTHER_PATIENT),
        ({"forms_differ": False, "references": ("series", "frame of reference")}, Obstacle.OTHER_FRAME),
        ({"forms_differ": False, "references": ("series",)}, None),
    ],
)
def test_what_the_headers_contradict_is_an_obstacle(options, obstacle):
    assert obstacle_of(CT, moved(CT, spacing_mm_xyz=(0.7, 0.7, 1.7)), **options) is obstacle


@pytest.mark.parametrize("align_masks", [False, True])
def test_a_mask_whose_axes_were_turned_by_mistake_is_not_aligned(save, align_masks):
    voxels = sitk.GetArrayFromImage(ball(CT, (2.0, -36.0, 30.0), 5.0))
    wrong = moved(CT, direction=TURNED, origin_mm_lps=tuple(CT.point_of((47.4, 43.4, 0))))
    ct, mask = save(ramp(CT), "ct.nrrd"), save(wrong.image_of(voxels), "mask.nrrd")
    with pytest.raises(MaskError, match="not on its CT") as caught:
        cut_patch_from(ct, NoduleTarget(mask), PROTOCOL, CutOptions(RepairPolicy(align_masks=align_masks)))
    assert Obstacle.ORIENTATION.value in caught.value.found
    assert caught.value.arguments == ()


@pytest.mark.parametrize("align_masks", [False, True])
def test_a_mask_that_alignment_would_cut_off_is_refused(save, align_masks):
    fine = Grid.around((-10.0, -30.0, 40.0), (40, 40, 40), (0.5, 0.5, 0.5), rotation(0, 0, 0))
    ct, mask = save(ramp(CT), "ct.nrrd"), save(ball(fine, (-10.0, -30.0, 40.0)), "mask.nrrd")
    with pytest.raises(MaskError, match="not on its CT") as caught:
        cut_patch_from(ct, NoduleTarget(mask), PROTOCOL, CutOptions(RepairPolicy(align_masks=align_masks)))
    assert "voxels are outside the CT" in caught.value.found
    assert caught.value.arguments == ()
