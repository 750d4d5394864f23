import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.masks import nodule_box
from ggn_tf.errors import MaskError
from tests.support.case_phantoms import ball
from tests.support.slicer_files import write_slicer
from tests.support.whole_volumes import read_mask

LUNG, NODULE = Box((2, 2, 2), (30, 30, 20)), Box((20, 21, 12), (4, 5, 3))


def layer_of(grid, **boxes):
    layer = np.zeros(grid.size_xyz[::-1], np.uint8)
    for label, box in boxes.items():
        layer[box.slices_zyx] = int(label.removeprefix("label"))
    return layer


def refused(path, grid, match, **options):
    with pytest.raises(MaskError, match=match) as caught:
        read_mask(path, grid, **options)
    return caught.value


@pytest.fixture
def overlapping(grid, tmp_path):
    layers = [layer_of(grid, label1=LUNG), layer_of(grid, label1=NODULE)]
    return write_slicer(tmp_path / "a.seg.nrrd", grid, layers, [("Lung", 0, 1), ("Nodule", 1, 1)])


def test_overlapping_segments_lie_in_layers(grid, overlapping):
    assert nodule_box(read_mask(overlapping, grid, segment="Nodule")) == NODULE
    assert nodule_box(read_mask(overlapping, grid, segment="Lung")) == LUNG


def test_segments_that_share_a_layer(grid, tmp_path):
    layers = [layer_of(grid, label1=LUNG), layer_of(grid, label3=NODULE, label2=Box((0, 0, 0), (2, 2, 2)))]
    named = [("Lung", 0, 1), ("Other", 1, 2), ("Nodule", 1, 3)]
    path = write_slicer(tmp_path / "a.seg.nrrd", grid, layers, named)
    assert nodule_box(read_mask(path, grid, segment="Nodule")) == NODULE


def test_layers_as_slicer_wrote_them_until_2020(grid, tmp_path):
    layers = [layer_of(grid, label1=LUNG), layer_of(grid, label1=NODULE)]
    path = write_slicer(tmp_path / "a.seg.nrrd", grid, layers, [("Lung", None, None), ("Nodule", None, None)])
    assert nodule_box(read_mask(path, grid, segment="Nodule")) == NODULE


def test_the_segment_must_be_named(grid, overlapping):
    assert refused(overlapping, grid, "2 segments, and none is named").found == "segments Lung, Nodule"
    assert refused(overlapping, grid, "no segment 'nodule'", segment="nodule").found == "segments Lung, Nodule"


@pytest.mark.parametrize(
    ("second", "named", "match"),
    [
        ({"label1": NODULE}, [("Nodule", 0, 1), ("Nodule", 1, 1)], "has 2 segments 'Nodule'"),
        ({"label1": NODULE}, [("Lung", 0, 1), ("Nodule", 5, 1)], "segment"),
        ({}, [("Lung", 0, 1), ("Nodule", 1, 1)], "The mask is empty"),
    ],
    ids=["a name twice", "a layer that the file does not have", "erased voxels"],
)
def test_a_segment_that_cannot_be_read_is_refused(grid, tmp_path, second, named, match):
    layers = [layer_of(grid, label1=LUNG), layer_of(grid, **second)]
    refused(write_slicer(tmp_path / "a.seg.nrrd", grid, layers, named), grid, match, segment="Nodule")


@pytest.mark.parametrize(
    ("stored", "requested"),
    [
        ("Nodule ", "Nodule"),
        ("Lu\u0308cke", "L\u00fccke"),
        ("Nodule  1", "Nodule 1"),
        ("Nodule\xa01", "Nodule 1"),
    ],
)
def test_a_name_is_found_in_another_spelling(grid, tmp_path, stored, requested):
    layer = layer_of(grid, label1=LUNG, label2=NODULE)
    path = write_slicer(tmp_path / "a.seg.nrrd", grid, [layer], [("Lung", 0, 1), (stored, 0, 2)])
    assert nodule_box(read_mask(path, grid, segment=requested)) == NODULE


def test_of_two_spellings_the_exact_one_counts(grid, tmp_path):
    layer = layer_of(grid, label1=LUNG, label2=NODULE)
    path = write_slicer(tmp_path / "a.seg.nrrd", grid, [layer], [("Nodule  1", 0, 1), ("Nodule 1", 0, 2)])
    assert nodule_box(read_mask(path, grid, segment="Nodule 1")) == NODULE
    refused(path, grid, "2 segments 'Nodule   1'", segment="Nodule   1")


def test_a_fractional_label_map_of_slicer_is_refused(grid, tmp_path):
    layer = layer_of(grid, label216=NODULE)
    path = write_slicer(tmp_path / "a.seg.nrrd", grid, [layer], [("Nodule", 0, 1)])
    kind = b"Segmentation_MasterRepresentation:=Fractional labelmap\n"
    path.write_bytes(path.read_bytes().replace(b"Segmentation_Ref", kind + b"Segmentation_Ref", 1))
    assert "Fractional labelmap" in refused(path, grid, "values are not labels", segment="Nodule").found


def test_the_single_voxel_of_a_segmentation_without_segments(grid, tmp_path):
    one = Grid((1, 1, 1), grid.spacing_mm_xyz, grid.origin_mm_lps, grid.direction)
    refused(write_slicer(tmp_path / "a.seg.nrrd", one, [np.zeros((1, 1, 1))], []), grid, "The mask is empty")


@pytest.mark.parametrize("depth", [1, 3])
def test_a_cropped_extent_is_where_it_was_cut(grid, tmp_path, depth):
    box = Box((20, 21, 12), (4, 5, depth))
    path = write_slicer(tmp_path / "a.seg.nrrd", grid.part(box), [np.ones((depth, 5, 4))], [("Nodule", 0, 1)])
    mask = read_mask(path, grid, segment="Nodule")
    assert nodule_box(mask) == box
    assert sitk.GetArrayFromImage(mask).sum() == 20 * depth
    assert Grid.from_image(mask).same_as(grid, 1e-9)


def test_a_color_image_is_no_mask(grid, save):
    image = sitk.Compose([ball(grid)] * 3)
    assert refused(save(image, "mask.nrrd"), grid, "several values per voxel").found == "3 values per voxel"


@pytest.mark.parametrize("digits", ["\u00b2", "1" * 5000, "--1", "\u0663"])
def test_a_layer_or_value_that_is_no_number_names_no_segment(tmp_path, digits):
    grid = Grid((32, 32, 24), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    mask = sitk.GetArrayFromImage(ball(grid, (16.0, 16.0, 12.0), 4.0))
    for layer, value in ((digits, 1), (0, digits)):
        path = write_slicer(tmp_path / "a.seg.nrrd", grid, [mask], [("nodule", layer, value)])
        with pytest.raises(MaskError):
            read_mask(path, grid, segment="nodule")
