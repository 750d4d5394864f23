import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.series_writer import uid
from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import cut_patch_from
from ggn_tf.errors import MaskError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_phantoms import ball, noise, ramp, rotation
from tests.support.dicom_files import write_seg
from tests.support.whole_volumes import read_mask

PROTOCOL = PatchProtocol()
GRID = Grid.around((12.0, -31.0, 40.0), (40, 36, 24), (0.83, 0.83, 1.7), rotation(10, -5, 30))


def array(image):
    return sitk.GetArrayFromImage(image)


@pytest.fixture
def folder(save_series):
    return save_series(noise(GRID))


def refused(path, match, **options):
    with pytest.raises(MaskError, match=match) as caught:
        read_mask(path, GRID, **options)
    return caught.value


NODULE, OTHER = array(ball(GRID)), array(ball(GRID, (6.0, -30.0, 40.0), 5.0))


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_segmentation_is_read_to_the_same_voxels(folder, tmp_path, kind):
    path = write_seg(folder, tmp_path / "seg.dcm", {"Nodule": NODULE}, kind)
    np.testing.assert_array_equal(array(read_mask(path, GRID)), NODULE)


def test_a_fraction_counts_from_one_half(folder, tmp_path):
    likely = NODULE * 0.8 + OTHER * (1 - NODULE) * 0.4
    path = write_seg(folder, tmp_path / "seg.dcm", {"Nodule": likely}, "FRACTIONAL")
    np.testing.assert_array_equal(array(read_mask(path, GRID)), NODULE)


def test_overlapping_segments_by_label_or_number(folder, tmp_path):
    path = write_seg(folder, tmp_path / "seg.dcm", {"Vessel": OTHER, "Nodule": NODULE})
    np.testing.assert_array_equal(array(read_mask(path, GRID, segment="Nodule")), NODULE)
    np.testing.assert_array_equal(array(read_mask(path, GRID, segment="1")), OTHER)
    assert refused(path, "2 segments, and none is named").found == "segments Vessel, Nodule"
    assert refused(path, "no segment 'nodule'", segment="nodule").found == "segments Vessel, Nodule"


def test_a_nodule_in_one_slice(folder, tmp_path):
    flat = np.zeros_like(NODULE)
    flat[12] = NODULE[12]
    path = write_seg(folder, tmp_path / "seg.dcm", {"Nodule": flat})
    np.testing.assert_array_equal(array(read_mask(path, GRID)), flat)


def test_the_segmentation_names_its_series(save_series, tmp_path):
    for name in ("one", "two"):
        save_series(ramp(GRID), name, {"0020|000e": uid(name)})
    path = write_seg(tmp_path / "two", tmp_path / "seg.dcm", {"Nodule": NODULE})
    (tmp_path / "study").mkdir()
    for name in ("one", "two"):
        (tmp_path / name).rename(tmp_path / "study" / name)
    (tmp_path / "study" / "two" / "0001.dcm").unlink()
    patch = cut_patch_from(tmp_path / "study", NoduleTarget(path), PROTOCOL)
    assert patch.ct_grid.size_xyz == (40, 36, 23)


def test_a_segmentation_beside_its_slices(folder):
    path = write_seg(folder, folder / "seg.dcm", {"Nodule": NODULE})
    assert cut_patch_from(folder, NoduleTarget(path), PROTOCOL).mask.any()


def test_a_slice_is_no_segmentation(folder):
    assert refused(folder / "0001.dcm", "DICOM segmentation cannot be used").found == "SOP class CT Image Storage"


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_cut_segmentation(folder, tmp_path, share):
    path = write_seg(folder, tmp_path / "seg.dcm", {"Nodule": NODULE})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(path, "DICOM segmentation cannot be used")
