import shutil
import subprocess
from pathlib import Path

import highdicom
import itkwasm_dicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf import __version__
from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.masks import place_mask
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import cut_patch
from ggn_tf.cases.volumes import Volume, open_volume
from ggn_tf.errors import VolumeError
from ggn_tf.prediction.dicom_seg_writer import write_segmentation
from ggn_tf.protocol import PatchProtocol
from tests.support.chest import STRAIGHT, TURNED, distance_mm, lung_grid, lung_with_balls, write_dicom
from tests.support.dicom_files import edit, write_enhanced
from tests.support.dicom_predictions import identity
from tests.support.dicom_segmentations import affine_of, frames_of, labels_of


@pytest.fixture(params=[STRAIGHT, TURNED], ids=["straight", "turned"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Volume:
    return opened(tmp_path / "dicom", request.param)


@pytest.fixture
def turned(tmp_path: Path) -> Volume:
    return opened(tmp_path / "dicom", TURNED)


def opened(folder: Path, direction: tuple[float, ...]) -> Volume:
    return open_volume(write_dicom(lung_with_balls(lung_grid(direction=direction)), folder))


def two_nodules(volume: Volume) -> np.ndarray:
    """Alike along no axis, so that a turned or shifted one would show."""
    labels = np.zeros(volume.stored_grid.size_xyz[::-1], np.uint8)
    for layer in range(4):
        labels[5 + layer, 40 : 42 + 2 * layer, 30 : 44 - layer] = 1
        labels[20 + layer, 10 : 16 - layer, 50 + 2 * layer : 60] = 2
    return labels


def write(volume: Volume, labels: np.ndarray, path: Path) -> pydicom.Dataset:
    write_segmentation(volume, volume.stored_grid.image_of(labels), identity("F-1", "F-2"), path)
    return pydicom.dcmread(path)


def test_read_back_it_is_the_same_voxels_at_the_same_place(volume: Volume, tmp_path: Path) -> None:
    labels = two_nodules(volume)
    write(volume, labels, tmp_path / "seg.dcm")
    found, affine = labels_of(tmp_path / "seg.dcm")
    # From the first slice with a nodule to the last.
    np.testing.assert_array_equal(found, labels[5:24])
    np.testing.assert_allclose(affine, affine_of(volume.stored_grid, first_slice=5), atol=1e-3)


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
        np.testing.assert_allclose(np.array(place, float), volume.stored_grid.point_of((0, 0, number)), atol=1e-3)


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


def test_the_segments_are_tracked_by_the_uids_of_their_nodules(volume: Volume, tmp_path: Path) -> None:
    segments = write(volume, two_nodules(volume), tmp_path / "seg.dcm").SegmentSequence
    assert [(item.TrackingID, item.TrackingUID) for item in segments] == [("F-1", "2.25.1"), ("F-2", "2.25.2")]


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


def test_a_series_without_a_frame_of_reference_is_refused(volume: Volume, tmp_path: Path) -> None:
    for path in volume.slices:
        slice_ = pydicom.dcmread(path)
        del slice_.FrameOfReferenceUID
        slice_.save_as(path)
    with pytest.raises(VolumeError, match="cannot refer to") as caught:
        write(volume, two_nodules(volume), tmp_path / "seg.dcm")
    assert "frame of reference" in caught.value.expected
    assert "NIfTI" in caught.value.remedy


def test_a_volume_file_is_no_series(tmp_path: Path) -> None:
    sitk.WriteImage(lung_with_balls(lung_grid()), str(tmp_path / "ct.nii"))
    volume = open_volume(tmp_path / "ct.nii")
    with pytest.raises(VolumeError, match="cannot refer to") as caught:
        write(volume, two_nodules(volume), tmp_path / "seg.dcm")
    assert caught.value.found == "no slice of a DICOM series that contains a nodule"


def test_dcmqi_reads_the_same_voxels_at_the_same_place(volume: Volume, tmp_path: Path) -> None:
    """3D Slicer opens DICOM segmentations with dcmqi."""
    labels = two_nodules(volume)
    write(volume, labels, tmp_path / "seg.dcm")
    image, about = itkwasm_dicom.read_segmentation(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(np.asarray(image.data), labels[5:24])
    expected = volume.stored_grid.part(Box((0, 0, 5), (64, 60, 19)))
    direction = tuple(np.asarray(image.direction).ravel().tolist())
    assert Grid((64, 60, 19), tuple(image.spacing), tuple(image.origin), direction).same_as(expected, 1e-3)
    segments = [item for group in about["segmentAttributes"] for item in group]
    assert [item["SegmentLabel"] for item in segments] == ["F-1", "F-2"]
    assert [item["SegmentedPropertyTypeCodeSequence"]["CodeMeaning"] for item in segments] == ["Nodule", "Nodule"]
    assert np.allclose([item["recommendedDisplayRGBValue"] for item in segments], (255, 220, 0), atol=2)


def test_what_de_identification_took_away_is_left_empty(turned: Volume, tmp_path: Path) -> None:
    gone = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber")
    edit(turned.path, lambda _, header: [header.pop(name, None) for name in gone])
    segmentation = write(turned, two_nodules(turned), tmp_path / "seg.dcm")
    assert all(not segmentation[name].value for name in (*gone, "StudyID", "ReferringPhysicianName"))


def test_an_orientation_that_is_rounded_from_slice_to_slice_is_one(turned: Volume, tmp_path: Path) -> None:
    def round_differently(number: int, header: pydicom.Dataset) -> None:
        axes = [float(cosine) for cosine in header.ImageOrientationPatient]
        header.ImageOrientationPatient = [axes[0], axes[1], number * 1e-6, *axes[3:]]

    edit(turned.path, round_differently)
    labels = two_nodules(turned)
    write(open_volume(turned.path), labels, tmp_path / "seg.dcm")
    np.testing.assert_array_equal(labels_of(tmp_path / "seg.dcm")[0], labels[5:24])


@pytest.mark.parametrize("alike", [True, False], ids=["shared", "frame by frame"])
def test_of_a_multi_frame_ct_it_refers_to_the_frames(turned: Volume, tmp_path: Path, alike: bool) -> None:
    order = np.random.default_rng(0).permutation(72).tolist()
    path = tmp_path / "enhanced.dcm"
    write_enhanced(turned.path, path, order=order)
    if not alike:
        _tell_frame_by_frame(path)
    enhanced = open_volume(path)
    labels = two_nodules(enhanced)
    segmentation = write(enhanced, labels, tmp_path / "seg.dcm")
    found, affine = labels_of(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(found, labels[5:24])
    np.testing.assert_allclose(affine, affine_of(enhanced.stored_grid, first_slice=5), atol=1e-3)
    source = pydicom.dcmread(path, stop_before_pixels=True)
    frames = frames_of(tmp_path / "seg.dcm")
    assert len(frames) == 8
    for frame in frames:
        assert frame.source == source.SOPInstanceUID
        # The frame of the file that is this slice of the volume.
        number = order[frame.source_frame - 1]
        np.testing.assert_array_equal(frame.inside, labels[number] == frame.segment)
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert segmentation.FrameOfReferenceUID == source.FrameOfReferenceUID


def _tell_frame_by_frame(path: Path) -> None:
    """Move what the frames share into each of them, as some scanners write it."""
    header = pydicom.dcmread(path)
    (shared,) = header.SharedFunctionalGroupsSequence
    for frame in header.PerFrameFunctionalGroupsSequence:
        frame.PlaneOrientationSequence = shared.PlaneOrientationSequence
        frame.PixelMeasuresSequence = shared.PixelMeasuresSequence
    del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
    header.save_as(path)


def test_frames_of_several_files_cannot_be_referred_to(turned: Volume, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    for name, first in (("1.dcm", 0), ("2.dcm", 36)):
        write_enhanced(turned.path, tmp_path / "study" / name, order=range(first, first + 36))
    _make_another_object(tmp_path / "study" / "2.dcm")
    both = open_volume(tmp_path / "study")
    labels = np.zeros(both.stored_grid.size_xyz[::-1], np.uint8)
    labels[34:38, 10:14, 10:14] = 1
    with pytest.raises(VolumeError, match="cannot refer to") as caught:
        write(both, labels, tmp_path / "seg.dcm")
    assert caught.value.found == "frames of several multi-frame files"


def _make_another_object(path: Path) -> None:
    header = pydicom.dcmread(path)
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID + ".2"
    header.save_as(path)


@pytest.fixture(params=["tilted", "uneven"])
def displaced(request: pytest.FixtureRequest, turned: Volume) -> Volume:
    """A series whose slices stand 0.31 mm sideways of one another, or at uneven distances."""

    def move(number: int, header: pydicom.Dataset) -> None:
        x, y, z = (float(step) for step in header.ImagePositionPatient)
        sideways, upwards = (0.31 * number, 0) if request.param == "tilted" else (0, 0.4 * (number % 3 == 0))
        header.ImagePositionPatient = [x, y + sideways, z + upwards]

    edit(turned.path, move)
    return open_volume(turned.path, repair=True)


def test_of_displaced_slices_every_frame_lies_on_its_slice_and_the_nodule_in_its_place(
    displaced: Volume, tmp_path: Path
) -> None:
    center, radius_mm = displaced.stored_grid.point_of((30.2, 41.7, 40.1)), 9.0
    inside = distance_mm(displaced.stored_grid, center) <= radius_mm
    segmentation = write(displaced, inside.astype(np.uint8), tmp_path / "seg.dcm")
    frames = frames_of(tmp_path / "seg.dcm")
    headers = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, displaced.slices)}
    for frame in frames:
        header = headers[frame.source]
        np.testing.assert_allclose(frame.position_mm_lps, [float(v) for v in header.ImagePositionPatient], atol=1e-3)
        spacing = (*displaced.stored_grid.spacing_mm_xyz[:2], 1.0)
        slice_grid = Grid((64, 60, 1), spacing, tuple(frame.position_mm_lps), displaced.stored_grid.direction)
        off = distance_mm(slice_grid, center)[0] - radius_mm
        # Half the diagonal of a voxel.
        half_mm = np.linalg.norm(displaced.stored_grid.spacing_mm_xyz) / 2
        assert frame.inside[off < -half_mm].all()
        assert not frame.inside[off > half_mm].any()
    assert len(frames) >= 2 * radius_mm / 1.7
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert "SpacingBetweenSlices" not in measures


def test_what_is_written_on_displaced_slices_is_read_back_onto_the_repaired_grid(
    displaced: Volume, tmp_path: Path
) -> None:
    inside = distance_mm(displaced.stored_grid, displaced.stored_grid.point_of((30.2, 41.7, 40.1))) <= 9
    write(displaced, inside.astype(np.uint8), tmp_path / "seg.dcm")
    mask = place_mask(tmp_path / "seg.dcm", displaced, segment="F-1")
    read = displaced.axes.to_stored(sitk.GetArrayFromImage(mask.image))
    assert mask.repaired == ("the mask: shifted with the slices it was drawn on",)
    # Two roundings to the nearest voxel may remove voxels at the rim.
    assert (read & inside).sum() / (read | inside).sum() > 0.95


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 100", "Müller^Jörg"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 144", "Люкceмбypг"),
    ],
)
def test_the_patients_name_in_any_character_set(
    turned: Volume, tmp_path: Path, character_set: str | list[str], name: str
) -> None:
    def rename(_: int, header: pydicom.Dataset) -> None:
        header.SpecificCharacterSet, header.PatientName = character_set, name

    edit(turned.path, rename)
    segmentation = write(turned, two_nodules(turned), tmp_path / "seg.dcm")
    assert str(segmentation.PatientName) == name


def test_empty_and_invalid_values_of_the_series_count_as_absent(turned: Volume, tmp_path: Path) -> None:
    def spoil(_: int, header: pydicom.Dataset) -> None:
        for keyword in ("LossyImageCompression", "PatientAge", "PatientIdentityRemoved", "ClinicalTrialSponsorName"):
            setattr(header, keyword, "")
        header.ProcedureCodeSequence = [pydicom.Dataset()]
        header.ReferencedStudySequence = []
        header.PatientSex = "MALE"
        for keyword, value in {"PatientBirthDate": "19501332", "StudyDate": "04.03.2021", "StudyTime": "12:33"}.items():
            header[keyword] = pydicom.DataElement(keyword, header[keyword].VR, value, validation_mode=0)

    with pydicom.config.disable_value_validation():
        edit(turned.path, spoil)
    segmentation = write(turned, two_nodules(turned), tmp_path / "seg.dcm")
    # Attributes of type 1 or 1C must have a value, of type 2 may be empty (PS3.3).
    for keyword in ("LossyImageCompression", "PatientIdentityRemoved", "ClinicalTrialSponsorName"):
        assert segmentation.get(keyword) != ""
    assert "ProcedureCodeSequence" not in segmentation and "ReferencedStudySequence" not in segmentation
    assert all(not segmentation[keyword].value for keyword in ("PatientSex", "PatientBirthDate", "StudyDate"))


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (Debian: dicom3tools)")
@pytest.mark.parametrize("changes", [{}, {"LossyImageCompression": "", "PatientAge": ""}, {"PatientSex": "X"}])
def test_dciodvfy_finds_no_error(turned: Volume, tmp_path: Path, changes: dict[str, str]) -> None:
    edit(turned.path, lambda _, header: [setattr(header, *item) for item in changes.items()])
    write(turned, two_nodules(turned), tmp_path / "seg.dcm")
    checked = subprocess.run(["dciodvfy", "-new", tmp_path / "seg.dcm"], capture_output=True, text=True, check=False)
    assert [line for line in checked.stderr.splitlines() if line.startswith("Error")] == []


def test_a_segmentation_on_rounded_positions_is_read_by_this_program(tmp_path: Path) -> None:
    folder = write_dicom(lung_with_balls(lung_grid((0.8, 0.8, 0.625))), tmp_path / "dicom")

    def round_position(_: int, header: pydicom.Dataset) -> None:
        x, y, z = header.ImagePositionPatient
        header.ImagePositionPatient = [x, y, f"{float(z):.1f}"]

    edit(folder, round_position)
    volume = open_volume(folder)
    labels = two_nodules(volume)
    write(volume, labels, tmp_path / "seg.dcm")
    for number, name in enumerate(["F-1", "F-2"], start=1):
        mask = place_mask(tmp_path / "seg.dcm", volume, segment=name)
        assert sitk.GetArrayViewFromImage(mask.image).sum() == (labels == number).sum()
        assert mask.repaired == ()


def test_a_predicted_nodule_in_parts_is_read_as_one(turned: Volume, tmp_path: Path) -> None:
    both = np.minimum(two_nodules(turned), 1)
    write(turned, both, tmp_path / "parts.dcm")
    patch = cut_patch(turned, NoduleTarget(tmp_path / "parts.dcm", "F-1"), PatchProtocol())
    assert patch.measurements.volume_mm3 == pytest.approx(both.sum() * np.prod(turned.grid.spacing_mm_xyz))
