from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.geometry.mask_alignment import Obstacle
from ggn_tf.cases.masks import centroid_mm_lps, nodule_box, place_mask
from ggn_tf.cases.volumes import Volume
from ggn_tf.errors import MaskError
from tests.support.case_phantoms import CENTER, ball, rotation
from tests.support.whole_volumes import read_mask


def refused(path, grid, match, **options):
    with pytest.raises(MaskError, match=match) as caught:
        read_mask(path, grid, **options)
    return caught.value


def labelled(grid, **boxes):
    labels = np.zeros(grid.size_xyz[::-1], dtype=np.uint8)
    for label, box in boxes.items():
        labels[box.slices_zyx] = int(label.removeprefix("label"))
    return grid.image_of(labels)


ONE, TWO = Box((3, 4, 5), (2, 2, 2)), Box((20, 21, 12), (4, 4, 4))


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nii", "mask.nrrd", "mask.mha"])
def test_a_mask_is_zero_and_one_on_the_grid_of_the_ct(grid, save, name):
    mask = read_mask(save(ball(grid), name), grid)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(ball(grid)))
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert Grid.from_image(mask).same_as(grid, tolerance_mm=1e-9)


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nii"])
def test_of_a_nifti_only_the_slices_that_hold_the_nodule_are_kept(grid, save, name):
    placed = place_mask(save(labelled(grid, label1=TWO), name), Volume(Path("ct"), grid)).image
    assert Grid.from_image(placed).same_as(grid.part(Box((0, 0, 12), (50, 46, 4))), tolerance_mm=1e-9)
    assert sitk.GetArrayFromImage(placed).sum() == 64


def test_any_one_label_is_the_nodule(grid, save):
    mask = read_mask(save(labelled(grid, label7=ONE), "mask.nii.gz"), grid)
    assert sitk.GetArrayFromImage(mask).max() == 1
    assert nodule_box(mask) == ONE


def test_a_mask_of_floating_point_numbers(grid, save):
    mask = read_mask(save(sitk.Cast(ball(grid), sitk.sitkFloat32), "mask.nii.gz"), grid)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(ball(grid)))


@pytest.mark.parametrize("angles", [(0, 0, 0), (0, 0, 180), (20, -10, 45)])
def test_the_centroid_of_a_ball_is_its_centre(angles):
    grid = Grid.around((10.0, -30.0, 41.0), (60, 60, 40), (0.6, 0.6, 1.0), rotation(*angles))
    assert centroid_mm_lps(ball(grid)) == pytest.approx(CENTER, abs=0.1)


def test_the_centroid_takes_every_component(grid):
    mask = labelled(grid, label1=ONE)
    mask[20, 21, 12] = 1
    expected = grid.point_of((8 * np.array([3.5, 4.5, 5.5]) + [20, 21, 12]) / 9)
    assert centroid_mm_lps(mask) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"origin_mm_lps": (0.0, 0.0, 0.0)}, "its voxels are between the CT's, up to 52.38 mm away"),
        ({"spacing_mm_xyz": (0.8, 0.83, 1.7)}, "up to 1.47 mm away"),
        ({"direction": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)}, "direction (-1, 0, 0, 0, -1, 0, 0, 0, 1)"),
        ({"size_xyz": (50, 46, 31)}, "2300 of its 71300 voxels are outside the CT"),
    ],
    ids=["shifted", "other spacing", "turned", "other size"],
)
def test_a_mask_on_another_grid_is_refused_with_both_grids(grid, save, change, found):
    other = Grid(**{**vars(grid), **change})
    mask = other.image_of(np.ones(other.size_xyz[::-1], dtype=np.uint8))
    error = refused(save(mask, "mask.nii.gz"), grid, "not on its CT", case="nodule 3")
    assert found in error.found
    assert error.expected == f"the CT's grid: {grid}"
    assert error.case.startswith("nodule 3 (")


def test_a_mask_whose_axes_were_exchanged_when_it_was_saved_is_refused(grid, save):
    """Its header is the CT's, and the nodule's voxels are in the CT."""
    voxels = sitk.GetArrayFromImage(labelled(grid, label1=TWO))
    other = Grid(**{**vars(grid), "size_xyz": grid.size_xyz[::-1]})
    path = save(other.image_of(voxels.transpose(2, 1, 0).copy()), "mask.nrrd")
    for align_masks in (False, True):
        with pytest.raises(MaskError, match="not on its CT") as caught:
            place_mask(path, Volume(path, grid), align_masks=align_masks)
        assert caught.value.found == f"{other}; {Obstacle.EXCHANGED.value}" and caught.value.arguments == ()


def test_a_mask_that_was_cropped_and_padded_to_a_permutation_of_the_size_is_read(grid, save):
    origin = tuple(grid.point_of((2, -2, 0)))
    other = Grid(**{**vars(grid), "size_xyz": (46, 50, 30), "origin_mm_lps": origin})
    path = save(labelled(other, label1=Box((18, 23, 12), (4, 4, 4))), "mask.nrrd")
    assert nodule_box(read_mask(path, grid)) == TWO


def test_a_missing_mask(grid, tmp_path):
    error = refused(tmp_path / "mask.nii.gz", grid, "The mask does not exist", case="nodule 3")
    assert error.case == f"nodule 3 ({tmp_path / 'mask.nii.gz'})"


def test_an_empty_mask(grid, save):
    refused(save(labelled(grid), "mask.nii.gz"), grid, "The mask is empty")


def test_a_mask_without_background(grid, save):
    refused(save(labelled(grid, label1=Box((0, 0, 0), grid.size_xyz)), "mask.nii.gz"), grid, "has no background")


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nrrd"])
def test_a_mask_that_is_cropped_to_one_slice(grid, save, name):
    whole = labelled(grid, label1=Box((20, 21, 12), (4, 4, 1)))
    assert nodule_box(read_mask(save(whole[:, :, 12:13], name), grid)) == Box((20, 21, 12), (4, 4, 1))


def test_an_inverted_mask(grid, save):
    inverted = labelled(grid, label1=Box((0, 0, 0), grid.size_xyz)) - labelled(grid, label1=TWO)
    error = refused(save(inverted, "mask.nii.gz"), grid, "contains the background")
    assert error.found == f"all corners and {50 * 46 * 30 - 64} of {50 * 46 * 30} voxels of the CT in the segment"


def test_a_nodule_that_fills_a_cropped_ct(save):
    cropped = Grid((9, 9, 9), (1.0, 1.0, 1.0), (5.0, 6.0, 7.0))
    nodule = ball(cropped, (9.0, 10.0, 11.0), 4.6)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(read_mask(save(nodule, "mask.nii.gz"), cropped)), sitk.GetArrayFromImage(nodule)
    )


@pytest.mark.parametrize("measure", [nodule_box, centroid_mm_lps])
def test_an_empty_mask_has_no_place(grid, measure):
    with pytest.raises(MaskError, match="The mask is empty"):
        measure(labelled(grid))


def test_several_labels_need_a_segment(grid, save):
    path = save(labelled(grid, label1=ONE, label4=TWO), "mask.nii.gz")
    assert refused(path, grid, "2 labels, and none is named").found == "labels 1, 4"
    assert nodule_box(read_mask(path, grid, segment="4")) == TWO


@pytest.mark.parametrize(("name", "segment"), [("mask.nii.gz", "3"), ("mask.nii.gz", "0"), ("mask.nrrd", "0")])
def test_a_label_without_voxels_and_the_background_are_no_segments(grid, save, name, segment):
    path = save(labelled(grid, label1=ONE, label4=TWO), name)
    assert refused(path, grid, f"no voxel of segment '{segment}'", segment=segment).found == "labels 1, 4"


def test_a_name_in_a_label_map_without_names(grid, save):
    path = save(labelled(grid, label1=ONE), "mask.nii.gz")
    assert refused(path, grid, "no segment 'Nodule'", segment="Nodule").found == "a label map without names"


def test_a_truncated_mask(grid, tmp_path):
    path = tmp_path / "mask.nii"
    sitk.WriteImage(ball(grid), str(path))
    path.write_bytes(path.read_bytes()[:9000])
    assert refused(path, grid, "voxels cannot be read").found == "9000 bytes, where the header announces 69352"


def test_a_mask_that_is_no_volume(grid, save):
    error = refused(save(sitk.Image(20, 20, sitk.sitkUInt8), "mask.mha"), grid, "cannot be used: the file is not a 3D")
    assert "Export to labelmap" in error.remedy


@pytest.mark.parametrize(
    ("kind", "slope", "shift"), [("u1", 2 / 255, 0), ("u1", 4.98 / 255, 0), ("i2", 3.0518e-05, 1.0000153)]
)
def test_labels_that_a_program_scaled_are_integers_again(grid, tmp_path, kind, slope, shift):
    """As nibabel saves floating-point labels under a header of an integer type."""
    labels = sitk.GetArrayFromImage(labelled(grid, label1=ONE, label2=TWO))
    sitk.WriteImage(grid.image_of(np.rint((labels - shift) / slope).astype(kind)), str(tmp_path / "mask.nii"))
    content = bytearray((tmp_path / "mask.nii").read_bytes())
    content[112:120] = np.array([slope, shift], "<f4").tobytes()
    (tmp_path / "mask.nii").write_bytes(content)
    assert nodule_box(read_mask(tmp_path / "mask.nii", grid, segment="1")) == ONE
    assert nodule_box(read_mask(tmp_path / "mask.nii", grid, segment="2")) == TWO


def test_a_mask_of_ones_that_are_not_quite_one(grid, save):
    values = sitk.GetArrayFromImage(labelled(grid, label1=ONE)).astype(np.float32)
    values[5, 4, 3:5] = 0.99999
    assert nodule_box(read_mask(save(grid.image_of(values), "mask.nii.gz"), grid)) == ONE


@pytest.mark.parametrize("value", [0.5, 0.985, 1.3, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nrrd"])
def test_values_between_integers_are_refused_with_the_cause(grid, save, name, value):
    values = sitk.GetArrayFromImage(labelled(grid, label1=ONE)).astype(np.float32)
    values[8, 8, 8] = value
    error = refused(save(grid.image_of(values), name), grid, "values are not labels")
    assert error.found == f"1 voxels between integers, {value:.6g} for example"
