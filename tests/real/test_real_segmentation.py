from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.volumes import Volume, open_volume
from ggn_tf.prediction.dicom_seg_writer import write_segmentation
from tests.support.dicom_predictions import identity
from tests.support.dicom_segmentations import affine_of, labels_of
from tests.support.whole_volumes import read_mask

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def volume(real_data: Path) -> Volume:
    return open_volume(real_data / "lidc_0063" / "dicom")


@pytest.fixture(scope="module")
def mask(real_data: Path, volume: Volume) -> sitk.Image:
    return read_mask(real_data / "lidc_0063" / "LIDC-IDRI-0063_R_4_mask.nii.gz", volume.grid)


@pytest.fixture(scope="module")
def written(volume: Volume, mask: sitk.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("seg") / "nodule.seg.dcm"
    write_segmentation(volume, mask, identity("R_4"), path)
    return path


def test_a_nodule_of_a_thorax_is_read_back_to_the_same_voxels(volume: Volume, mask: sitk.Image, written: Path) -> None:
    voxels = sitk.GetArrayFromImage(mask)
    used = np.flatnonzero(voxels.any(axis=(1, 2)))
    found, affine = labels_of(written)
    np.testing.assert_array_equal(found, voxels[used[0] : used[-1] + 1])
    np.testing.assert_allclose(affine, affine_of(volume.grid, int(used[0])), atol=2e-3)


def test_simpleitk_reads_the_same_number_of_voxels(mask: sitk.Image, written: Path) -> None:
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(written))) > 0
    assert frames.sum() == sitk.GetArrayFromImage(mask).sum()


def test_it_refers_to_the_scanners_series(volume: Volume, written: Path) -> None:
    segmentation, source = pydicom.dcmread(written), pydicom.dcmread(volume.slices[0], stop_before_pixels=True)
    (series,) = segmentation.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    known = {pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in volume.slices}
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} <= known
    assert segmentation.StudyInstanceUID == source.StudyInstanceUID
    assert segmentation.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert highdicom.seg.segread(written).get_segment_description(1).segment_label == "R_4"
