import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.masks import centroid_mm_lps, place_mask
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import MaskError
from tests.support.case_phantoms import noise, rotation
from tests.support.dicom_files import edit, write_rtstruct
from tests.support.whole_volumes import read_mask

GRID = Grid.around((12.0, -31.0, 40.0), (60, 56, 20), (0.7, 0.7, 1.25), rotation(10, -5, 30))


def circle(level, radius_mm, center_xy=(29.3, 27.6)):
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    x, y = (c + radius_mm / 0.7 * f(angle) for c, f in zip(center_xy, (np.cos, np.sin), strict=True))
    return GRID.point_of(np.stack([x, y, np.full_like(x, level)], axis=-1))


@pytest.fixture
def write(save_series, tmp_path):
    source = save_series(noise(GRID)) / "0001.dcm"
    return lambda regions, **options: write_rtstruct(tmp_path / "rt.dcm", regions, source, **options)


def expected(*rings):
    """[z, y, x] of voxel centres within discs, by their distance and no polygon."""
    y, x = np.mgrid[0:56, 0:60]
    inside = np.zeros((20, 56, 60), dtype=bool)
    for level, radius_mm in rings:
        inside[level] ^= np.hypot(x - 29.3, y - 27.6) * 0.7 <= radius_mm
    return inside


def test_contours_are_filled_voxel_centre_by_voxel_centre(write):
    rings = [(9, 4.03), (10, 6.01), (11, 4.53)]
    path = write({"GTV": [circle(*ring) for ring in rings]})
    mask = sitk.GetArrayFromImage(read_mask(path, GRID))
    assert np.count_nonzero(mask != expected(*rings)) <= 2
    assert centroid_mm_lps(read_mask(path, GRID)) == pytest.approx(GRID.point_of((29.3, 27.6, 10)), abs=0.1)


def test_a_contour_within_another_is_a_hole(write):
    path = write({"GTV": [circle(10, 6.01), circle(10, 3.02)]})
    mask = sitk.GetArrayFromImage(read_mask(path, GRID))
    assert np.count_nonzero(mask != expected((10, 6.01), (10, 3.02))) <= 2


def test_the_region_is_picked_by_name_or_number(write):
    path = write({"Lung": [circle(10, 9.0)], "GTV": [circle(10, 4.03)]})
    assert sitk.GetArrayFromImage(read_mask(path, GRID, segment="GTV")).sum() == expected((10, 4.03)).sum()
    assert sitk.GetArrayFromImage(read_mask(path, GRID, segment="1")).sum() > expected((10, 8.9)).sum()
    with pytest.raises(MaskError, match="2 segments, and none is named") as caught:
        read_mask(path, GRID)
    assert caught.value.found == "segments Lung, GTV"


@pytest.mark.parametrize(
    ("level", "kind", "found"),
    [
        (10.4, "CLOSED_PLANAR", "a contour 0.50 mm off the nearest slice"),
        (25, "CLOSED_PLANAR", "a contour outside the CT"),
        (10, "POINT", "a region of 1 contours of type POINT"),
    ],
)
def test_contours_that_lie_on_no_slice(write, level, kind, found):
    with pytest.raises(MaskError, match="structure set cannot be used") as caught:
        read_mask(write({"GTV": [circle(level, 4.0)]}, kind=kind), GRID)
    assert found in caught.value.found


def test_a_contour_that_lacks_a_number_is_refused(write):
    path = write({"GTV": [circle(10, 4.0)]})
    header = pydicom.dcmread(path)
    contour = header.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = list(contour.ContourData)[:-1]
    header.save_as(path)
    with pytest.raises(MaskError, match="structure set cannot be used") as caught:
        read_mask(path, GRID)
    assert caught.value.found.startswith("a contour of 2159 numbers, not three for each point")


def test_a_region_without_contours_is_empty(write):
    with pytest.raises(MaskError, match="The mask is empty"):
        read_mask(write({"GTV": []}), GRID)


@pytest.mark.parametrize("missing", ["item", "contours", "sequence"])
def test_a_region_that_was_never_drawn_is_empty(write, missing):
    path = write({"Lung": [circle(10, 9.0)], "GTV": [circle(10, 4.0)]})
    header = pydicom.dcmread(path)
    if missing == "item":
        del header.ROIContourSequence[1]
    elif missing == "contours":
        del header.ROIContourSequence[1].ContourSequence
    else:
        del header.ROIContourSequence
    header.save_as(path)
    with pytest.raises(MaskError, match="The mask is empty"):
        read_mask(path, GRID, segment="GTV")


def square(level, first=10, last=20):
    """Through the centres of pixels, as rt-utils draws a mask's rim."""
    corners = [(first, first), (last, first), (last, last), (first, last)]
    return GRID.point_of([(x, y, level) for x, y in corners])


def test_an_outline_through_voxel_centres_contains_them(write):
    mask = sitk.GetArrayFromImage(read_mask(write({"GTV": [square(9), square(10)[::-1]]}), GRID))
    expected = np.zeros_like(mask)
    expected[9:11, 10:21, 10:21] = 1
    np.testing.assert_array_equal(mask, expected)


def test_a_contour_that_is_there_twice_counts_once(write):
    once, twice = [square(9), square(10)], [square(9), square(10), square(10), np.roll(square(9), 2, axis=0)]
    np.testing.assert_array_equal(*(sitk.GetArrayFromImage(read_mask(write({"N": c}), GRID)) for c in (once, twice)))


# The 36 pixels of the overlap are lost but for the 20 that are on a contour.
@pytest.mark.parametrize(("kind", "count"), [("CLOSED_PLANAR", 121 + 121 - 36), ("CLOSEDPLANAR_XOR", 206 - 36 + 20)])
def test_contours_that_overlap(write, kind, count):
    path = write({"GTV": [square(10), square(10, 15, 25)]}, kind=kind)
    assert sitk.GetArrayFromImage(read_mask(path, GRID)).sum() == count


def test_points_and_open_contours_beside_closed_ones_are_ignored_with_a_note(write, tmp_path):
    path = write({"GTV": [square(10), square(10)[:1], square(10, 2, 30)]})
    header = pydicom.dcmread(path)
    contours = header.ROIContourSequence[0].ContourSequence
    contours[1].ContourGeometricType, contours[2].ContourGeometricType = "POINT", "OPEN_PLANAR"
    header.save_as(path)
    mask = place_mask(path, open_volume(tmp_path / "dicom"))
    assert sitk.GetArrayViewFromImage(mask.image).sum() == 121
    assert mask.repaired == ("the mask: 1 contours of type OPEN_PLANAR, 1 contours of type POINT were ignored",)


def test_a_contour_without_points_and_one_of_a_single_voxel(write):
    path = write({"GTV": [square(9)[:0], GRID.point_of([(7, 8, 10)])]})
    assert np.argwhere(sitk.GetArrayFromImage(read_mask(path, GRID))).tolist() == [[10, 8, 7]]


def test_a_contour_beside_the_ct(write):
    with pytest.raises(MaskError, match="structure set cannot be used") as caught:
        read_mask(write({"GTV": [square(10, 50, 64)]}), GRID)
    assert "a contour up to 9.0 pixels outside the CT" in caught.value.found


@pytest.mark.parametrize("kind", ["uneven", "tilted"])
def test_contours_are_filled_on_the_slices_that_they_were_drawn_on(save_series, tmp_path, kind):
    folder = save_series(noise(GRID))
    axes = np.reshape(GRID.direction, (3, 3))
    shifts = np.array([[0.4 * (n % 3 == 0), 0] if kind == "uneven" else [0, 0.31 * n] for n in range(20)])

    def move(number, header):
        moved = np.array(header.ImagePositionPatient, dtype=float) + axes[:, [2, 1]] @ shifts[number]
        header.ImagePositionPatient = [f"{value:.6f}" for value in moved]

    edit(folder, move)
    volume = open_volume(folder, repair=True)
    drawn = [square(level) + axes[:, [2, 1]] @ shifts[level] for level in range(8, 12)]
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": drawn}, folder / "0001.dcm")
    mask = place_mask(path, volume)
    assert mask.repaired == ("the mask: shifted with the slices it was drawn on",)
    points = np.concatenate(drawn)
    assert centroid_mm_lps(mask.image) == pytest.approx(points.mean(axis=0), abs=0.4)
    levels = np.flatnonzero(sitk.GetArrayViewFromImage(mask.image).any(axis=(1, 2)))
    heights = volume.grid.point_of([(0, 0, level) for level in levels]) @ axes[:, 2]
    np.testing.assert_allclose(
        [heights.min(), heights.max()], [min(points @ axes[:, 2]), max(points @ axes[:, 2])], atol=0.7
    )


def test_a_mask_of_another_series_is_noted(write, tmp_path):
    path = write({"GTV": [square(10)]})
    header = pydicom.dcmread(path)
    header.FrameOfReferenceUID, header.PatientID = "1.2.3", "SOMEONE ELSE"
    series = Dataset()
    series.SeriesInstanceUID = "1.2.3.4"
    study = Dataset()
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = "1.2.3"
    frame.RTReferencedStudySequence = [study]
    header.ReferencedFrameOfReferenceSequence = [frame]
    header.save_as(path)
    (note,) = place_mask(path, open_volume(tmp_path / "dicom")).repaired
    assert note == "the mask: its header references another series and another frame of reference and another patient"
    # Notes are stored in datasets, which name no patient.
    assert "SOMEONE" not in note and "1.2.3" not in note


def test_two_regions_of_one_number_are_refused(write, tmp_path):
    path = write({"GTV": [circle(9, 3)], "PTV": [circle(9, 6)]})
    header = pydicom.dcmread(path)
    for items, name in (
        (header.StructureSetROISequence, "ROINumber"),
        (header.ROIContourSequence, "ReferencedROINumber"),
    ):
        for item in items:
            setattr(item, name, 1)
    header.save_as(path)
    for segment in ("GTV", "PTV", "1"):
        with pytest.raises(MaskError, match="cannot be used") as caught:
            read_mask(path, GRID, segment=segment)
        assert caught.value.found == "two segments with the number 1, 'GTV' and 'PTV'"


def test_the_type_of_a_contour_in_small_letters(write):
    with pytest.warns(UserWarning, match="Invalid value for VR CS"):
        path = write({"GTV": [circle(9, 3)]}, kind="closed_planar ")
    assert np.array_equal(sitk.GetArrayFromImage(read_mask(path, GRID)), expected((9, 3)))


def test_a_cut_structure_set(write):
    path = write({"GTV": [circle(10, 4.0)]})
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(MaskError, match=r"cannot be used|empty"):
        read_mask(path, GRID)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_contours_on_a_ct_that_was_converted_to_nifti(write, save, order):
    path = write({"GTV": [square(9), square(10)]})
    volume = open_volume(save(sitk.PermuteAxes(sitk.Flip(noise(GRID), (False, True, False)), order), "ct.nii.gz"))
    mask = place_mask(path, volume)
    assert sitk.GetArrayViewFromImage(mask.image).sum() == 2 * 121
    assert centroid_mm_lps(mask.image) == pytest.approx(GRID.point_of((15, 15, 9.5)), abs=1e-3)


def zigzag(level, points):
    x = np.where(np.arange(points) % 2, 59.0, 0.0)
    return GRID.point_of(np.stack([x, np.linspace(0, 55, points), np.full_like(x, level)], axis=-1))


@pytest.mark.parametrize(
    ("contours", "found"),
    [
        ([circle(9, 4.0)[:9]] * 501, "501 contours"),
        ([zigzag(9, 5000)], "1 contours of 5000 points"),
        ([zigzag(9, 21_000)], "a contour of 21000 points"),
    ],
)
def test_contours_that_take_hours_are_refused(write, contours, found):
    with pytest.raises(MaskError, match="cannot be used") as caught:
        read_mask(write({"nodule": contours}), GRID)
    assert found in caught.value.found
