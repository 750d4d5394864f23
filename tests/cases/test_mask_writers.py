"""Random nodules, written in the forms of several programs and read back onto the CT's voxels."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.masks import place_mask
from ggn_tf.cases.volumes import open_volume
from tests.support.case_phantoms import noise, rotation
from tests.support.dicom_files import write_rtstruct, write_seg
from tests.support.random_nodules import outlines_between_voxels, outlines_through_voxels, random_nodule

GRID = Grid.around((12.0, -31.0, 40.0), (40, 36, 24), (0.7, 0.7, 1.25), rotation(10, -5, 30))
OUTLINES = {"between voxels": outlines_between_voxels, "through voxels": outlines_through_voxels}
FEW, MANY = range(12), pytest.param(range(12, 200), marks=pytest.mark.nightly)


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    from ggn_tf.cases.dicom.series_writer import write_series

    folder = tmp_path_factory.mktemp("ct")
    write_series(noise(GRID), folder, "PHANTOM-0001")
    return open_volume(folder)


def nodule(seed):
    return random_nodule(np.random.default_rng(seed), GRID.size_xyz[::-1], GRID.spacing_mm_zyx)


def read_back(path, volume):
    image = place_mask(path, volume).image
    whole = np.zeros(GRID.size_xyz[::-1], dtype=np.uint8)
    whole[volume.grid.block_of(Grid.from_image(image)).slices_zyx] = sitk.GetArrayViewFromImage(image)
    return volume.axes.to_stored(whole)


@pytest.mark.parametrize("seeds", [FEW, MANY], ids=["few", "many"])
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_segmentation_of_highdicom_is_read_to_the_same_voxels(volume, tmp_path, kind, seeds):
    for seed in seeds:
        path = write_seg(volume.path, tmp_path / "seg.dcm", {"Nodule": nodule(seed)}, kind)
        np.testing.assert_array_equal(read_back(path, volume), nodule(seed), err_msg=f"nodule {seed}")


@pytest.mark.parametrize("seeds", [FEW, MANY], ids=["few", "many"])
@pytest.mark.parametrize("outlines", OUTLINES)
def test_a_structure_set_is_filled_to_the_same_voxels(volume, tmp_path, outlines, seeds):
    for seed in seeds:
        mask = nodule(seed)
        contours = [
            GRID.point_of(np.column_stack([points, np.full(len(points), level)]))
            for level in np.flatnonzero(mask.any(axis=(1, 2)))
            for points in OUTLINES[outlines](mask[level])
        ]
        path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": contours}, volume.slices[0])
        np.testing.assert_array_equal(read_back(path, volume), mask, err_msg=f"nodule {seed}")
