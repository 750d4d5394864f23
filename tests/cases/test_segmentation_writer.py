from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf import __version__
from ggn_tf.cases.segmentation_writer import write_segmentation
from ggn_tf.cases.volumes import Volume, open_volume
from ggn_tf.errors import VolumeError
from tests.chest import STRAIGHT, TURNED, lung_grid, lung_with_balls, write_dicom
from tests.dicom_segmentations import affine_of, labels_of


@pytest.fixture(params=[STRAIGHT, TURNED], ids=["straight", "turned"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Volume:
    return open_volume(write_dicom(lung_with_balls(lung_grid(direction=request.param)), tmp_path / "dicom"))


def two_nodules(volume: Volume) -> np.ndarray:
    """Alike along no axis, so that a turned or shifted one would show."""
    labels = np.zeros(volume.grid.size_xyz[::-1], np.uint8)
    for layer in range(4):
        labels[5 + layer, 40 : 42 + 2 * layer, 30 : 44 - layer] = 1
        labels[20 + layer, 10 : 16 - layer, 50 + 2 * layer : 60] = 2
    return labels


def write(volume: Volume, labels: np.ndarray, path: Path) -> pydicom.Dataset:
    write_segmentation(volume.grid.image_of(labels), volume.slices, ["F-1", "F-2"], path, "version 7")
    return pydicom.dcmread(path)


def test_read_back_it_is_the_same_voxels_at_the_same_place(volume: Volume, tmp_path: Path) -> None:
    labels = two_nodules(volume)
    write(volume, labels, tmp_path / "seg.dcm")
    found, affine = labels_of(tmp_path / "seg.dcm")
    # From the first slice with a nodule to the last.
    np.testing.assert_array_equal(found, labels[5:24])
    np.testing.assert_allclose(affine, affine_of(volume.grid, first_slice=5), atol=1e-3)


def test_every_frame_is_the_nodule_on_the_slice_that_it_refers_to(volume: Volume, tmp_path: Path) -> None:
    labels = two_nodules(volume)
    segmentation = write(volume, labels, tmp_path / "seg.dcm")
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "seg.dcm"))) > 0
    names = [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in volume.slices]
    assert len(frames) == 8
    np.testing.assert_array_equal(frames, segmentation.pixel_array > 0)
    for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        number = names.index(source)
        np.testing.assert_array_equal(frame, labels[number] == segment)
        place = groups.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(np.array(place, float), volume.grid.point_of((0, 0, number)), atol=1e-3)


def test_it_refers_to_the_slices_that_it_was_drawn_on(volume: Volume, tmp_path: Path) -> None:
    segmentation = write(volume, two_nodules(volume), tmp_path / "seg.dcm")
    sources = [pydicom.dcmread(path, stop_before_pixels=True) for path in volume.slices]
    (series,) = segmentation.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == sources[0].SeriesInstanceUID
    used = {sources[number].SOPInstanceUID for number in (*range(5, 9), *range(20, 24))}
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == used
    for name in ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID"):
        assert segmentation[name].value == sources[0][name].value
    assert segmentation.SeriesInstanceUID != sources[0].SeriesInstanceUID


def test_the_segments_say_what_they_are_and_who_found_them(volume: Volume, tmp_path: Path) -> None:
    segmentation = write(volume, two_nodules(volume), tmp_path / "seg.dcm")
    first, second = segmentation.SegmentSequence
    assert (first.SegmentLabel, second.SegmentLabel) == ("F-1", "F-2")
    category, kind = first.SegmentedPropertyCategoryCodeSequence[0], first.SegmentedPropertyTypeCodeSequence[0]
    # DICOM PS3.16 CID 7150 and CID 7159.
    assert (category.CodeValue, category.CodingSchemeDesignator) == ("49755003", "SCT")
    assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("27925004", "SCT", "Nodule")
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("ggn_tf", __version__)
    assert "version 7" in algorithm.AlgorithmParameters
    assert segmentation.Modality == "SEG" and segmentation.SegmentationType == "BINARY"


def test_the_distance_of_slices_is_told(volume: Volume, tmp_path: Path) -> None:
    segmentation = write(volume, two_nodules(volume), tmp_path / "seg.dcm")
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(1.25)
    assert [float(step) for step in measures.PixelSpacing] == pytest.approx([0.8, 0.8])


def test_a_nodule_without_a_voxel_is_a_segment_without_a_frame(volume: Volume, tmp_path: Path) -> None:
    labels = two_nodules(volume)
    labels[labels == 1] = 0
    write(volume, labels, tmp_path / "seg.dcm")
    found, _ = labels_of(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(found, labels[20:24])
    assert highdicom.seg.segread(tmp_path / "seg.dcm").number_of_segments == 2


def test_a_long_name_is_cut(volume: Volume, tmp_path: Path) -> None:
    labels = volume.grid.image_of(two_nodules(volume))
    write_segmentation(labels, volume.slices, ["n" * 100, ""], tmp_path / "seg.dcm", "version 1")
    assert pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence[0].SegmentLabel == "n" * 64


def test_a_series_without_a_frame_of_reference_is_refused(volume: Volume, tmp_path: Path) -> None:
    for path in volume.slices:
        slice_ = pydicom.dcmread(path)
        del slice_.FrameOfReferenceUID
        slice_.save_as(path)
    with pytest.raises(VolumeError, match="cannot be referred to") as caught:
        write(volume, two_nodules(volume), tmp_path / "seg.dcm")
    assert "frame of reference" in caught.value.expected
    assert "NIfTI" in caught.value.remedy
