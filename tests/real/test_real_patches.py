import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import cut_patch_from, paste_mask
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import VolumeError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_files import read_table

pytestmark = pytest.mark.real

PROTOCOL = PatchProtocol()
NODULE = "LIDC-IDRI-0063_R_4"


@pytest.fixture(scope="module")
def from_dicom(real_data):
    mask = real_data / "lidc_0063" / f"{NODULE}_mask.nii.gz"
    return cut_patch_from(real_data / "lidc_0063" / "dicom", NoduleTarget(mask), PROTOCOL)


@pytest.fixture(scope="module")
def from_crop(real_data):
    voi = real_data / "lidc_voi"
    name = f"{NODULE}.nii.gz"
    return cut_patch_from(voi / "images" / name, NoduleTarget(voi / "masks" / name), PROTOCOL)


def test_a_patch_of_a_thorax_equals_that_of_the_nodules_crop(from_dicom, from_crop):
    z, y, x = np.indices((32, 32, 32))
    index = from_crop.ct_grid.index_of(from_crop.grid.point_of(np.stack([x, y, z], axis=-1)))
    # Half a slice beyond the crop's last slice its values are repeated, where the thorax has the next slice.
    known = np.all((index >= 0) & (index <= np.array(from_crop.ct_grid.size_xyz) - 1), axis=-1)
    assert known.sum() > 5000
    np.testing.assert_allclose(from_dicom.hu[known], from_crop.hu[known], atol=1.0, rtol=0)
    np.testing.assert_array_equal(from_dicom.mask, from_crop.mask)


def test_measures_of_a_thorax_equal_those_of_the_nodules_crop(from_dicom, from_crop):
    assert from_dicom.measurements == pytest.approx(from_crop.measurements, rel=1e-6)


def test_the_patch_holds_lung_and_a_part_solid_nodule(from_dicom):
    assert np.percentile(from_dicom.hu, 5) < -750
    assert -500 < from_dicom.measurements.mean_hu < -300
    assert 0.2 < from_dicom.measurements.solid_fraction < 0.6


def test_the_mask_returns_to_the_thorax(from_dicom):
    pasted = paste_mask(from_dicom.mask.astype(np.float32), from_dicom.grid, from_dicom.ct_grid)
    assert pasted.GetSize() == (512, 512, 133)
    spacing = np.prod(from_dicom.ct_grid.spacing_mm_xyz)
    assert sitk.GetArrayViewFromImage(pasted).sum() * spacing == pytest.approx(
        from_dicom.measurements.volume_mm3, rel=0.2
    )


def test_a_partial_upload_that_holds_the_nodule_serves_as_the_whole(real_data, from_dicom):
    # Its 34 slices are the topmost of the thorax, without a gap: the mask's voxels are voxels of it, too.
    mask = real_data / "lidc_0063" / f"{NODULE}_mask.nii.gz"
    patch = cut_patch_from(real_data / "lidc_0063" / "partial", NoduleTarget(mask), PROTOCOL)
    assert patch.ct_grid.size_xyz == (512, 512, 34)
    np.testing.assert_array_equal(patch.hu, from_dicom.hu)
    np.testing.assert_array_equal(patch.mask, from_dicom.mask)
    assert patch.measurements.volume_mm3 == from_dicom.measurements.volume_mm3


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("gantry_tilt", "a gantry tilt of 14.0 degrees"),
        ("missing_slice_5mm", "10.00 mm from IM-0001-0009-0001.dcm to IM-0001-0010-0001.dcm"),
        ("missing_slice_0778um", "1.50 mm from IM-0001-0003.dcm to IM-0001-0005.dcm"),
        ("mr_two_slices", "2 of modality MR"),
    ],
)
def test_awkward_series_are_refused_with_what_is_wrong(real_data, folder, found):
    with pytest.raises(VolumeError) as caught:
        open_volume(real_data / "dicom_awkward" / folder)
    assert found in caught.value.found
    assert caught.value.remedy


def test_every_nodule_gives_a_patch(real_data):
    for case in read_table(real_data / "lidc_voi" / "cases.csv", label_column="malignancy"):
        patch = cut_patch_from(case.image, NoduleTarget(case.mask, case=case.case_id), PROTOCOL)
        assert patch.mask.any(), case.case_id
        middle = np.argwhere(patch.mask).mean(axis=0)
        # Those larger than the patch are cut; the others are in its middle.
        if patch.measurements.longest_diameter_mm < 20:
            assert middle == pytest.approx((15.5, 15.5, 15.5), abs=1.5), case.case_id
