import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.uid import RLELossless

from ggn_tf.cases.dicom.series_writer import uid
from ggn_tf.cases.geometry.axes import AxisOrder
from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import VolumeError
from tests.support.case_phantoms import noise, rewrite, rotation
from tests.support.dicom_files import edit
from tests.support.whole_volumes import read_grid, read_region, read_volume

SMALL = Grid((16, 12, 10), (0.7, 0.7, 1.25), (-20.0, 30.0, -400.0), rotation(0, 0, 0))


def refused(folder, match="do not make a volume"):
    with pytest.raises(VolumeError, match=match) as caught:
        open_volume(folder)
    assert caught.value.case == str(folder)
    return caught.value


@pytest.mark.parametrize("angles", [(0, 0, 0), (0, 0, 180), (10, -5, 30), (90, 0, 0), (180, 0, 0)])
def test_a_series_is_read_as_it_was_written(save_series, angles):
    grid = Grid(SMALL.size_xyz, SMALL.spacing_mm_xyz, SMALL.origin_mm_lps, rotation(*angles))
    image = noise(grid)
    folder = save_series(image)
    axes = AxisOrder.of(grid)
    assert read_grid(folder).same_as(axes.grid, tolerance_mm=1e-3)
    expected = axes.from_stored(sitk.GetArrayFromImage(image))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_volume(folder)), expected)


def test_slices_are_in_the_order_of_their_positions_whatever_their_names(save_series):
    image = noise(SMALL)
    folder = save_series(image)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"{(number * 7) % 10}-{number}.dcm")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_volume(folder)), sitk.GetArrayFromImage(image))


def test_a_region(save_series):
    image = noise(SMALL)
    box = Box((3, 2, 4), (6, 5, 3))
    region = read_region(save_series(image), box)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(region), sitk.GetArrayFromImage(image)[box.slices_zyx])
    assert Grid.from_image(region).same_as(SMALL.part(box), tolerance_mm=1e-3)


def test_a_region_of_one_slice_keeps_the_spacing(save_series):
    region = read_region(save_series(noise(SMALL)), Box((0, 0, 4), (6, 5, 1)))
    assert region.GetSpacing() == pytest.approx((0.7, 0.7, 1.25))


def test_only_the_slices_of_the_region_are_read(save_series):
    image = noise(SMALL)
    volume = open_volume(save_series(image))
    for path in volume.slices[6:]:
        path.unlink()
    box = Box((0, 0, 1), (16, 12, 5))
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(volume.read(box)), sitk.GetArrayFromImage(image)[box.slices_zyx]
    )
    with pytest.raises(VolumeError, match="voxels cannot be read"):
        volume.read(Box((0, 0, 5), (16, 12, 3)))


def test_missing_slices_are_counted(save_series):
    folder = save_series(noise(SMALL))
    for name in ("0004.dcm", "0005.dcm", "0008.dcm"):
        (folder / name).unlink()
    error = refused(folder)
    assert error.found == (
        "3 missing slices in 2 gaps: 3.75 mm from 0003.dcm to 0006.dcm, 2.50 mm from 0007.dcm to 0009.dcm"
    )
    assert error.expected == "1.25 mm from slice to slice"


def test_slices_at_one_position(save_series):
    folder = save_series(noise(SMALL))
    (folder / "copy.dcm").write_bytes((folder / "0004.dcm").read_bytes())
    image = sitk.ReadImage(str(folder / "copy.dcm"))
    image[0, 0, 0] = 7
    rewrite(image, folder / "copy.dcm")
    error = refused(folder)
    assert error.found == "11 slices at 10 positions, for example 0004.dcm and copy.dcm"


def test_a_file_that_is_there_twice_counts_once(save_series):
    folder = save_series(noise(SMALL))
    (folder / "copies").mkdir()
    (folder / "copies" / "4").write_bytes((folder / "0004.dcm").read_bytes())
    assert read_grid(folder).size_xyz == SMALL.size_xyz


@pytest.mark.parametrize("compressed", [False, True])
def test_an_instance_with_two_headers_counts_once(save_series, compressed):
    folder = save_series(noise(SMALL))
    other = pydicom.dcmread(folder / "0004.dcm")
    other.SeriesDescription, other.PatientName = "sent again", "Somebody^Else"
    if compressed:
        other.compress(RLELossless, generate_instance_uid=False)
    other.save_as(folder / "again.dcm")
    assert read_grid(folder).size_xyz == SMALL.size_xyz


MIXED = {
    "AcquisitionNumber": (1, 2),
    "AcquisitionTime": ("101500", "101730.5"),
    "ConvolutionKernel": ("B30f", "B70f"),
    "KVP": (80, 140),
    "TemporalPositionIdentifier": (1, 2),
}


@pytest.mark.parametrize("attribute", MIXED)
@pytest.mark.parametrize("shift_mm", [0.0, 0.3, 0.625])
def test_acquisitions_between_one_another_are_refused_whatever_their_distance(save_series, attribute, shift_mm):
    folder = save_series(noise(SMALL))
    second = Grid(SMALL.size_xyz, SMALL.spacing_mm_xyz, (-20.0, 30.0, -400.0 + shift_mm), SMALL.direction)
    other = save_series(noise(second), "second", {"0020|000e": series_of(folder)})
    for part, value in zip((folder, other), MIXED[attribute], strict=True):
        edit(part, lambda _, dataset, value=value: setattr(dataset, attribute, value))
    for number, path in enumerate(sorted(other.iterdir())):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid(f"second {number}")
        dataset.save_as(folder / f"second-{path.name}")
    error = refused(folder)
    assert error.found.startswith(f"slices of 2 acquisitions or reconstructions between one another: {attribute} ")
    assert error.arguments == ()
    with pytest.raises(VolumeError, match="do not make a volume"):
        open_volume(folder, repair=True)


def test_acquisitions_one_after_the_other_are_one_volume(save_series):
    folder = save_series(noise(SMALL))
    edit(folder, lambda number, dataset: setattr(dataset, "AcquisitionNumber", 1 + number // 4))
    edit(folder, lambda number, dataset: setattr(dataset, "AcquisitionTime", f"1015{number:02}"))
    assert read_grid(folder).size_xyz == SMALL.size_xyz


def test_one_acquisition_whose_headers_differ_in_form_is_one_volume(save_series):
    folder = save_series(noise(SMALL))

    def vary(number, dataset):
        dataset.KVP = ("120", "120.0")[number % 2]
        dataset.SliceThickness = ("1.25", "1.250")[number % 2]
        if number != 4:
            dataset.AcquisitionTime = "101500"

    edit(folder, vary)
    assert read_grid(folder).size_xyz == SMALL.size_xyz


@pytest.mark.parametrize(
    ("character_set", "text"),
    [
        ("ISO_IR 100", "Lunge dünn"),
        ("ISO_IR 192", "肺 1 mm"),
        ("\\ISO 2022 IR 87", "胸部 CT"),
        ("ISO_IR 144", "Лёгкие"),
    ],
)
def test_texts_are_decoded_by_their_character_set(save_series, character_set, text):
    folder = save_series(noise(SMALL))

    def describe(_, dataset):
        dataset.SpecificCharacterSet = character_set.split("\\")
        dataset.SeriesDescription = text

    edit(folder, describe)
    stack = open_volume(folder).stack
    assert stack is not None and {item.description for item in stack.slices} == {text}


def test_a_text_whose_character_set_is_wrong_can_still_be_written(save_series):
    folder = save_series(noise(SMALL))
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", b"ISO_IR 999"))
    edit(folder, lambda _, dataset: setattr(dataset, "SeriesDescription", "0123456789"))
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"0123456789", "Lunge dünn".encode("latin-1")))
    stack = open_volume(folder).stack
    assert stack is not None
    stack.slices[0].description.encode("utf-8")


def test_an_uneven_increment(save_series, tmp_path):
    thick = Grid((16, 12, 4), (0.7, 0.7, 1.7), (-20.0, 30.0, -387.5), SMALL.direction)
    folder = save_series(noise(SMALL))
    for path in save_series(noise(thick), "thick", {"0020|000e": series_of(folder)}).iterdir():
        path.rename(folder / f"thick-{path.name}")
    error = refused(folder)
    assert error.found == "distances from 1.25 to 1.70 mm: a slice is 1.04 mm off its place"


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even(save_series):
    folder = save_series(noise(SMALL))
    for path in folder.iterdir():
        image = sitk.ReadImage(str(path))
        x, y, z = image.GetOrigin()
        image.SetOrigin((x, y, round(z, 1)))
        rewrite(image, path)
    assert read_grid(folder).spacing_mm_xyz[2] == pytest.approx(1.25, abs=0.02)


def test_a_gantry_tilt_is_given_in_degrees(save_series):
    folder = save_series(noise(SMALL))
    for number, path in enumerate(sorted(folder.iterdir())):
        image = sitk.ReadImage(str(path))
        x, y, z = image.GetOrigin()
        image.SetOrigin((x, y + number * 1.25 * np.tan(np.radians(15)), z))
        rewrite(image, path)
    error = refused(folder)
    assert error.found == "a gantry tilt of 15.0 degrees: 3.01 mm sideways over 11.25 mm of slices"


def test_another_size_in_the_series(save_series):
    other = Grid((16, 14, 3), SMALL.spacing_mm_xyz, (-20.0, 30.0, -387.5), SMALL.direction)
    folder = save_series(noise(SMALL))
    for path in save_series(noise(other), "other", {"0020|000e": series_of(folder)}).iterdir():
        path.rename(folder / f"other-{path.name}")
    error = refused(folder)
    assert error.found == "2 values of size: (16, 12, 1) in 10, (16, 14, 1) in 3"


def test_another_orientation_in_the_series(save_series):
    other = Grid(SMALL.size_xyz, SMALL.spacing_mm_xyz, SMALL.origin_mm_lps, rotation(90, 0, 0))
    folder = save_series(noise(SMALL))
    for path in save_series(noise(other), "other", {"0020|000e": series_of(folder)}).iterdir():
        path.rename(folder / f"other-{path.name}")
    assert "2 values of orientation" in refused(folder).found


def test_a_localizer_and_other_files_are_left_aside(save_series):
    folder = save_series(noise(SMALL))
    scout = save_series(noise(SMALL), "scout", {"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER", "0020|000e": uid("scout")})
    (scout / "0001.dcm").rename(folder / "scout.dcm")
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (folder / "notes.txt").write_text("a report", encoding="utf-8")
    assert read_grid(folder).size_xyz == SMALL.size_xyz


def test_another_modality(save_series):
    error = refused(save_series(noise(SMALL), tags={"0008|0060": "MR"}), "no CT series")
    assert error.found == "10 of modality MR"


def test_one_slice(save_series):
    folder = save_series(noise(SMALL))
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()
    assert refused(folder).found == "one slice, 0001.dcm"


def test_a_damaged_slice(save_series):
    folder = save_series(noise(SMALL))
    path = folder / "0005.dcm"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(VolumeError, match="damaged or contains no image") as caught:
        open_volume(folder)
    assert caught.value.case == str(path)


@pytest.mark.parametrize("names", [[], ["a.txt", "b.txt"]])
def test_a_folder_without_dicom(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("text", encoding="utf-8")
    assert refused(tmp_path, "no DICOM image").found.startswith(f"{len(names)} files")


def series_of(folder):
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(folder / "0001.dcm"))
    reader.ReadImageInformation()
    return reader.GetMetaData("0020|000e")
