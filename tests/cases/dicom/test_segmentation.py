import copy

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pack_bits

from ggn_tf.cases.dicom.segmentation import frame_distance_mm
from ggn_tf.cases.dicom.series_writer import uid
from ggn_tf.cases.dicom.stack import POSITION_TOLERANCE_MM
from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.masks import centroid_mm_lps, place_mask
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import cut_patch_from
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import MaskError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_phantoms import ball, noise, ramp, rotation
from tests.support.dicom_files import edit, write_seg
from tests.support.whole_volumes import read_mask

PROTOCOL = PatchProtocol()
GRID = Grid.around((12.0, -31.0, 40.0), (40, 36, 24), (0.83, 0.83, 1.7), rotation(10, -5, 30))
GRID_COSINES = np.reshape(GRID.direction, (3, 3)).T[:2].ravel()


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


def test_a_number_to_which_a_spreadsheet_added_a_zero(folder, tmp_path):
    path = write_seg(folder, tmp_path / "seg.dcm", {"A": OTHER, "B": NODULE})
    np.testing.assert_array_equal(array(read_mask(path, GRID, segment="2.0")), NODULE)
    for segment in ("2.5", "\u00b2", "3"):
        assert refused(path, "no segment", segment=segment).found == "segments A, B"


def test_the_background_of_a_label_map_is_its_padding_value(folder, tmp_path):
    path = write_seg(folder, tmp_path / "seg.dcm", {"Nodule": NODULE}, "LABELMAP")
    whole = pydicom.dcmread(path)
    swapped = 1 - whole.pixel_array
    whole.PixelData, whole.PixelPaddingValue = swapped.tobytes() + bytes(swapped.nbytes % 2), 1
    nodule, background = (Dataset.from_json(whole.SegmentSequence[-1].to_json()) for _ in range(2))
    nodule.SegmentNumber, background.SegmentNumber, background.SegmentLabel = 0, 1, "Background"
    whole.SegmentSequence = [nodule, background]
    whole.save_as(path)
    np.testing.assert_array_equal(array(read_mask(path, GRID)), NODULE)


def test_two_segments_of_one_number_are_refused(folder, tmp_path):
    path = write_seg(folder, tmp_path / "seg.dcm", {"A": OTHER, "B": NODULE})
    whole = pydicom.dcmread(path)
    whole.SegmentSequence[1].SegmentNumber = 1
    whole.save_as(path)
    assert refused(path, "cannot be used", segment="B").found == "two segments with the number 1, 'A' and 'B'"


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


def rewritten(path, change):
    stored = pydicom.dcmread(path)
    change(stored)
    stored.save_as(path)
    return path


def in_stacks(stored):
    """The dimensions of Slicer's Reporting, as in QIN-LUNG-CT and NSCLC-Radiogenomics."""
    organization = stored.DimensionOrganizationSequence[0].DimensionOrganizationUID
    stored.pop("DimensionOrganizationType", None)
    stored.DimensionIndexSequence = []
    for pointer in (0x00209056, 0x00209057):
        index = Dataset()
        index.DimensionOrganizationUID, index.DimensionIndexPointer = organization, pointer
        index.FunctionalGroupPointer = 0x00209111
        stored.DimensionIndexSequence.append(index)
    for number, frame in enumerate(stored.PerFrameFunctionalGroupsSequence, start=1):
        content = frame.FrameContentSequence[0]
        content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", number, [1, number]


def with_references_of_another_series(stored):
    study = Dataset()
    study.StudyInstanceUID = stored.StudyInstanceUID
    study.ReferencedSeriesSequence = copy.deepcopy(stored.ReferencedSeriesSequence)
    study.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.4"
    stored.StudiesContainingOtherReferencedInstancesSequence = [study]


def without_references_and_dimensions(stored):
    for name in ("ReferencedSeriesSequence", "DimensionIndexSequence", "DimensionOrganizationSequence"):
        stored.pop(name, None)
    for frame in stored.PerFrameFunctionalGroupsSequence:
        frame.pop("FrameContentSequence", None)
        frame.pop("DerivationImageSequence", None)


def with_shared_segment_and_own_measures(stored):
    shared = stored.SharedFunctionalGroupsSequence[0]
    frames = stored.PerFrameFunctionalGroupsSequence
    shared.SegmentIdentificationSequence = frames[0].get("SegmentIdentificationSequence") or (
        shared.SegmentIdentificationSequence
    )
    for frame in frames:
        frame.pop("SegmentIdentificationSequence", None)
        frame.PixelMeasuresSequence = shared.PixelMeasuresSequence
        frame.PlaneOrientationSequence = shared.PlaneOrientationSequence
    del shared.PixelMeasuresSequence, shared.PlaneOrientationSequence


def without_segment_numbers(stored):
    for groups in (stored.SharedFunctionalGroupsSequence[0], *stored.PerFrameFunctionalGroupsSequence):
        groups.pop("SegmentIdentificationSequence", None)
    stored.SegmentSequence[0].pop("SegmentLabel")


def without_spacing_between_slices(stored):
    stored.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].pop("SpacingBetweenSlices", None)


@pytest.mark.parametrize(
    "change",
    [
        in_stacks,
        with_references_of_another_series,
        without_references_and_dimensions,
        with_shared_segment_and_own_measures,
        without_spacing_between_slices,
        without_segment_numbers,
    ],
)
def test_only_positions_segment_numbers_and_pixels_count(folder, tmp_path, change):
    path = rewritten(write_seg(folder, tmp_path / "seg.dcm", {"Nodule": NODULE}), change)
    np.testing.assert_array_equal(array(read_mask(path, GRID)), NODULE)


def test_frames_in_any_order_and_one_twice(folder, tmp_path):
    def shuffle(stored):
        layers = stored.pixel_array
        order = [*np.random.default_rng(0).permutation(len(layers)).tolist(), 3]
        stored.PerFrameFunctionalGroupsSequence = [stored.PerFrameFunctionalGroupsSequence[n] for n in order]
        stored.NumberOfFrames = len(order)
        stored.PixelData = pack_bits(layers[order], pad=True)

    path = rewritten(write_seg(folder, tmp_path / "seg.dcm", {"Nodule": NODULE}), shuffle)
    np.testing.assert_array_equal(array(read_mask(path, GRID)), NODULE)


def test_slices_without_a_frame_are_empty(folder, tmp_path):
    gaps = NODULE.copy()
    gaps[10] = gaps[13] = 0
    path = write_seg(folder, tmp_path / "seg.dcm", {"Nodule": gaps})
    np.testing.assert_array_equal(array(read_mask(path, GRID)), gaps)


def test_frames_on_slices_with_rounded_positions(save_series, tmp_path):
    """0.625 mm apart, written with one decimal: up to 0.05 mm off, differently from slice to slice."""
    grid = Grid((40, 36, 48), (0.9, 0.9, 0.625), (-20.0, -46.0, 20.1))
    folder = save_series(noise(grid))

    def round_position(number, header):
        x, y, _ = header.ImagePositionPatient
        header.ImagePositionPatient = [x, y, f"{20.1 + 0.625 * number:.1f}"]

    edit(folder, round_position)
    nodule = array(ball(grid, (-3.0, -30.0, 35.0)))
    path = write_seg(folder, tmp_path / "seg.dcm", {"Nodule": nodule})
    volume = open_volume(folder)
    mask = place_mask(path, volume)
    assert mask.repaired == ()
    assert array(mask.image).sum() == nodule.sum()
    assert Grid.from_image(mask.image).point_of((0, 0, 0)) == pytest.approx(
        volume.grid.point_of((0, 0, np.flatnonzero(nodule.any(axis=(1, 2)))[0]))
    )


@pytest.mark.parametrize("off_mm", [0.09, 0.3])
def test_one_tolerance_decides_whether_a_frame_is_on_a_slice(folder, tmp_path, off_mm):
    normal = np.reshape(GRID.direction, (3, 3))[:, 2]

    def move(stored):
        frame = stored.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
        moved = np.array(frame.ImagePositionPatient, dtype=float) + off_mm * normal
        frame.ImagePositionPatient = [f"{value:.6f}" for value in moved]

    path = rewritten(write_seg(folder, tmp_path / "seg.dcm", {"Nodule": NODULE}), move)
    if off_mm < POSITION_TOLERANCE_MM:
        np.testing.assert_array_equal(array(read_mask(path, GRID)), NODULE)
    else:
        assert "aligned and evenly spaced" in refused(path, "cannot be used").found


def test_a_segmentation_of_a_part_of_the_image_and_with_turned_axes(folder, tmp_path):
    def crop(stored):
        layers = stored.pixel_array[:, 6:34, 3:37]
        stored.Rows, stored.Columns = layers.shape[1:]
        stored.PixelData = pack_bits(layers[:, ::-1, ::-1], pad=True)
        turned = [-float(v) for v in GRID_COSINES]
        stored.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = turned
        for frame in stored.PerFrameFunctionalGroupsSequence:
            position = frame.PlanePositionSequence[0]
            index = np.add(GRID.index_of([float(value) for value in position.ImagePositionPatient]), (36, 33, 0))
            position.ImagePositionPatient = [f"{value:.6f}" for value in GRID.point_of(index)]

    path = rewritten(write_seg(folder, tmp_path / "seg.dcm", {"Nodule": NODULE}), crop)
    np.testing.assert_array_equal(array(read_mask(path, GRID)), NODULE)


def test_a_segmentation_of_a_longer_scan_is_partly_outside(save_series, folder, tmp_path):
    path = write_seg(folder, tmp_path / "seg.dcm", {"Nodule": NODULE})
    part = GRID.part(Box((0, 0, 0), (40, 36, 12)))
    with pytest.raises(MaskError, match="not on its CT") as caught:
        read_mask(path, part)
    assert f"{NODULE[12:].sum()} of its {NODULE.sum()} voxels are outside the CT" in caught.value.found
    assert caught.value.arguments == ()


def test_a_binary_segmentation_of_whole_bytes(folder, tmp_path):
    def unpack(stored):
        layers = stored.pixel_array
        stored.BitsAllocated = stored.BitsStored = 8
        stored.HighBit = 7
        stored.PixelData = (layers * 255).astype(np.uint8).tobytes()

    path = rewritten(write_seg(folder, tmp_path / "seg.dcm", {"Nodule": NODULE}), unpack)
    np.testing.assert_array_equal(array(read_mask(path, GRID)), NODULE)


def test_a_mask_of_another_series_is_noted(folder, tmp_path):
    def rename(stored):
        stored.PatientID, stored.FrameOfReferenceUID = "SOMEONE ELSE", "1.2.3.4.6"
        stored.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.4.5"

    path = write_seg(folder, tmp_path / "seg.dcm", {"Nodule": NODULE})
    assert place_mask(path, open_volume(folder)).repaired == ()
    (note,) = place_mask(rewritten(path, rename), open_volume(folder)).repaired
    assert note == "the mask: its header references another series and another frame of reference and another patient"


def test_a_segmentation_of_another_frame_of_reference_is_not_aligned(save_series, tmp_path):
    folder = save_series(noise(GRID))
    moved = Grid(GRID.size_xyz, (0.7, 0.7, 1.7), GRID.origin_mm_lps, GRID.direction)
    other = save_series(noise(moved), "other", {"0020|0052": "1.2.3.4"})
    path = write_seg(other, tmp_path / "seg.dcm", {"Nodule": NODULE})
    with pytest.raises(MaskError, match="not on its CT") as caught:
        place_mask(path, open_volume(folder), align_masks=True)
    assert "another frame of reference" in caught.value.found
    assert caught.value.arguments == ()


@pytest.mark.parametrize("thickness_mm", [0.85, 0.17, 5.0])
def test_the_thickness_of_slices_is_not_their_distance(save_series, tmp_path, thickness_mm):
    def describe(stored):
        (measures,) = stored.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
        measures.pop("SpacingBetweenSlices", None)
        measures.SliceThickness = thickness_mm

    thick = Grid((46, 42, 24), (0.7, 0.7, 1.7), GRID.origin_mm_lps, GRID.direction)
    thin = Grid((40, 36, 48), (0.83, 0.83, 0.85), GRID.origin_mm_lps, GRID.direction)
    nodule = array(ball(thick))
    path = write_seg(save_series(noise(thick), "thick"), tmp_path / "seg.dcm", {"Nodule": nodule})
    volume = open_volume(save_series(noise(thin), "thin"))
    mask = array(place_mask(rewritten(path, describe), volume, align_masks=True).image)
    assert mask.sum() * 0.83 * 0.83 * 0.85 == pytest.approx(nodule.sum() * 0.7 * 0.7 * 1.7, rel=0.05)
    drawn = np.flatnonzero(mask.any(axis=(1, 2)))
    assert np.diff(drawn).tolist() == [1] * (len(drawn) - 1)


@pytest.mark.parametrize(
    ("stated_mm", "heights_mm", "step_mm"),
    [
        (None, (0.0, 10.0), 10.0),
        # Every other slice was drawn.
        (1.25, (0.0, 2.5, 5.0), 1.25),
        # The frames are on no multiples of the header's distance.
        (1.0, (0.0, 2.5, 5.0, 10.0), 2.5),
        (1.25, (4.0,), None),
    ],
)
def test_the_distance_of_frames(stated_mm, heights_mm, step_mm):
    assert frame_distance_mm(np.array(heights_mm), stated_mm) == step_mm


def test_a_segment_without_a_frame_is_empty(folder, tmp_path):
    path = write_seg(folder, tmp_path / "seg.dcm", {"Vessel": OTHER, "Nodule": NODULE * 0})
    refused(path, "The mask is empty", segment="Nodule")


def test_overlapping_fractional_segments(folder, tmp_path):
    path = write_seg(folder, tmp_path / "seg.dcm", {"Vessel": OTHER, "Nodule": NODULE}, "FRACTIONAL")
    np.testing.assert_array_equal(array(read_mask(path, GRID, segment="Nodule")), NODULE)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_frames_that_do_not_end_with_a_byte(save_series, tmp_path, kind):
    """35 x 33 pixels are 144 bytes and 3 bits."""
    grid = Grid.around((12.0, -31.0, 40.0), (35, 33, 24), (0.83, 0.83, 1.7), rotation(0, 0, 0))
    nodule = array(ball(grid))
    path = write_seg(save_series(noise(grid)), tmp_path / "seg.dcm", {"Nodule": nodule}, kind)
    np.testing.assert_array_equal(array(read_mask(path, grid)), nodule)


def test_frames_that_were_padded_to_whole_bytes_are_refused(save_series, tmp_path):
    grid = Grid.around((12.0, -31.0, 40.0), (35, 33, 24), (0.83, 0.83, 1.7), rotation(0, 0, 0))

    def pad(stored):
        frames = np.packbits(stored.pixel_array.reshape(stored.NumberOfFrames, -1), axis=1, bitorder="little")
        stored.PixelData = frames.tobytes() + bytes(frames.size % 2)

    path = rewritten(write_seg(save_series(noise(grid)), tmp_path / "seg.dcm", {"N": array(ball(grid))}), pad)
    with pytest.raises(MaskError, match="cannot be used") as caught:
        read_mask(path, grid)
    assert "where the frames need" in caught.value.found


def test_spare_bytes_after_a_single_frame_are_ignored(save_series, tmp_path):
    grid = Grid.around((12.0, -31.0, 40.0), (35, 33, 24), (0.83, 0.83, 1.7), rotation(0, 0, 0))
    nodule = array(ball(grid))
    nodule[np.arange(24) != 12] = 0

    def lengthen(stored):
        stored.PixelData += bytes(4)

    path = write_seg(save_series(noise(grid)), tmp_path / "seg.dcm", {"N": nodule})
    np.testing.assert_array_equal(array(read_mask(rewritten(path, lengthen), grid)), nodule)


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 0, 1), (1, 0, 2), (0, 2, 1)])
def test_frames_across_the_slices(folder, tmp_path, order):
    """A segmentation that was drawn on sagittal or coronal images of the CT."""
    turned = sitk.PermuteAxes(ball(GRID), order)
    grid = Grid.from_image(turned)
    affine = np.eye(4)
    affine[:3, :3] = (np.reshape(grid.direction, (3, 3)) * grid.spacing_mm_xyz)[:, ::-1]
    affine[:3, 3] = grid.origin_mm_lps
    source = pydicom.dcmread(folder / "0001.dcm")
    volume = highdicom.Volume(
        array(turned), affine, coordinate_system="PATIENT", frame_of_reference_uid=source.FrameOfReferenceUID
    )
    path = write_seg(folder, tmp_path / "seg.dcm", {"Nodule": volume})
    np.testing.assert_array_equal(array(read_mask(path, GRID)), NODULE)


@pytest.mark.parametrize("flips", [(False, True, False), (True, True, True)])
def test_a_segmentation_of_a_ct_that_was_converted_to_nifti(folder, save, tmp_path, flips):
    path = write_seg(folder, tmp_path / "seg.dcm", {"Nodule": NODULE})
    volume = open_volume(save(sitk.Flip(noise(GRID), flips), "ct.nii.gz"))
    mask = place_mask(path, volume)
    assert mask.repaired == ()
    assert centroid_mm_lps(mask.image) == pytest.approx(centroid_mm_lps(ball(GRID)), abs=1e-4)
    assert array(mask.image).sum() == NODULE.sum()


def test_frames_that_no_ct_could_have_are_refused_before_they_are_decoded(folder, tmp_path, monkeypatch):
    path = write_seg(folder, tmp_path / "seg.dcm", {"Nodule": NODULE})
    monkeypatch.setattr("ggn_tf.cases.geometry.segment._SMALL", 0)
    monkeypatch.setattr("ggn_tf.cases.geometry.segment._FINER", 1)
    dataset = pydicom.dcmread(path)
    dataset.Rows, dataset.Columns = 4096, 4096
    dataset.PixelData = bytes(4096 * 4096 // 8 * int(dataset.NumberOfFrames))
    dataset.save_as(path)
    assert "frames of 4096 x 4096 pixels, far more than the CT has" in refused(path, "cannot be used").found
