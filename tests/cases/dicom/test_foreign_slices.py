"""Slices that are not what their place suggests: other units, patients, copies, and files that were not fetched."""

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import VolumeError
from tests.support.case_phantoms import noise, rotation
from tests.support.dicom_files import edit, write_enhanced
from tests.support.whole_volumes import read_grid

SMALL = Grid((16, 12, 10), (0.7, 0.7, 1.25), (-20.0, 30.0, -400.0), rotation(0, 0, 0))


@pytest.fixture
def folder(save_series) -> Path:
    return save_series(noise(SMALL))


def refused(folder: Path, match: str = "do not make a volume") -> VolumeError:
    with pytest.raises(VolumeError, match=match) as caught:
        open_volume(folder, repair=True)
    return caught.value


def give(folder: Path, name: str, *values: object) -> None:
    """Set an attribute of the slices to the values, taken in turn."""
    edit(folder, lambda number, dataset: setattr(dataset, name, values[number % len(values)]))


@pytest.mark.parametrize("kind", ["MGML", "Z_EFF", "ed"])
@pytest.mark.parametrize("enhanced", [False, True])
def test_values_that_are_no_hounsfield_units_are_refused(folder, tmp_path, kind, enhanced):
    give(folder, "RescaleType", kind)
    if enhanced:
        write_enhanced(folder, tmp_path / "whole.dcm")
        whole = pydicom.dcmread(tmp_path / "whole.dcm")
        groups = whole.SharedFunctionalGroupsSequence[0]
        groups.PixelValueTransformationSequence[0].RescaleType = kind
        whole.save_as(tmp_path / "whole.dcm")
    error = refused(tmp_path / "whole.dcm" if enhanced else folder)
    assert error.found == f"values of the rescale type {kind.upper()} (0028,1054)"


@pytest.mark.parametrize("kind", ["HU", "US", "", "HU_MOD"])
def test_hounsfield_units_by_their_names(folder, kind):
    give(folder, "RescaleType", kind)
    assert read_grid(folder).size_xyz == SMALL.size_xyz


def test_an_iodine_map_beside_a_ct_is_not_chosen(folder, save_series):
    other = save_series(noise(SMALL), "map", {"0020|000e": "1.2.3.4"})
    give(other, "RescaleType", "MGML")
    shutil.move(other, folder / "map")
    assert open_volume(folder).series != "1.2.3.4"


def test_stored_values_in_higher_bits_are_refused(folder):
    give(folder, "BitsStored", 12)
    give(folder, "HighBit", 15)
    assert refused(folder).found == "10 slices with stored values in higher bits, 0001.dcm first"


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("signed", [False, True])
def test_unused_bits_are_ignored_whatever_is_in_them(folder, photometric, signed):
    expected = sitk.GetArrayFromImage(open_volume(folder).read())

    def fill(number, dataset):
        hu = np.rint(dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)).astype(int)
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0 if signed else -1024
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, int(signed)
        dataset.PhotometricInterpretation = photometric
        stored = (hu - int(dataset.RescaleIntercept)) & 0x0FFF | (0x5000 if number % 2 else 0)
        dataset.PixelData = stored.astype("<u2").tobytes()

    edit(folder, fill)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(open_volume(folder).read()), expected)


@pytest.mark.parametrize("block", [1, 5])
def test_slices_of_two_patients_are_refused_without_their_names(folder, block):
    edit(folder, lambda number, dataset: setattr(dataset, "PatientID", f"SMITH{number // block % 2}"))
    error = refused(folder)
    assert error.found == "slices of 2 patients" and "SMITH" not in str(error)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("FrameOfReferenceUID", ("1.2.3", "1.2.4")),
        ("SeriesNumber", (3, 4)),
        ("ImageType", (["DERIVED", "SECONDARY", "MONO_40"], ["DERIVED", "SECONDARY", "MONO_70"])),
        ("FilterType", ("A", "B")),
        ("ContrastBolusAgent", ("", "Iomeron")),
    ],
)
def test_what_differs_from_slice_to_slice_is_mixed(folder, name, values):
    give(folder, name, *values)
    assert refused(folder).found.startswith(f"slices of 2 acquisitions or reconstructions between one another: {name} ")


def test_a_slice_that_was_sent_again_under_another_uid_counts_once(folder):
    for path in sorted(folder.iterdir()):
        again = pydicom.dcmread(path)
        again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = f"{again.SOPInstanceUID}.9"
        again.save_as(folder / f"again-{path.name}")
    assert read_grid(folder).size_xyz == SMALL.size_xyz


def fill_last(folder: Path, content: bytes | None) -> Path:
    """Replace the last slice: by bytes, or by a link to nothing."""
    path = sorted(folder.iterdir())[-1]
    path.unlink()
    if content is None:
        path.symlink_to("../.git/annex/objects/not-fetched")
    else:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content", [None, b"", b"version https://git-lfs.github.com/spec/v1\n", b"<html>" + b" " * 500]
)
def test_a_slice_that_was_not_fetched_is_not_left_out(folder, content):
    path = fill_last(folder, content)
    assert refused(folder, "damaged or contains no image").case == str(path)


@pytest.mark.parametrize("content", [b"", b"<html>", "compressed"])
def test_a_slice_without_a_suffix_that_was_not_fetched_is_not_left_out(folder, content):
    for path in list(folder.iterdir()):
        path.rename(path.with_suffix(""))
    last = sorted(folder.iterdir())[-1]
    if content == "compressed":
        last.with_name(f"{last.name}.gz").write_bytes(gzip.compress(last.read_bytes()))
        assert read_grid(folder).size_xyz == SMALL.size_xyz
        last.unlink()
        last = last.with_name(f"{last.name}.gz")
    else:
        last.write_bytes(content)
    assert refused(folder, "damaged or contains no image").case == str(last)


def test_a_text_whose_name_has_another_form_than_those_of_slices_is_ignored(folder):
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"IM{number}")
    (folder / "README2").write_text("text", encoding="utf-8")
    (folder / "below").mkdir()
    (folder / "below" / "IM3").write_text("text", encoding="utf-8")
    assert read_grid(folder).size_xyz == SMALL.size_xyz


def test_dicom_without_a_preamble_that_is_named_as_the_slices_are_is_no_slice(folder):
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"IM{number:04d}")
    report = pydicom.Dataset()
    report.SOPClassUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.22", "SR"
    pydicom.dcmwrite(folder / "IM0100", report, implicit_vr=True, little_endian=True)
    assert read_grid(folder).size_xyz == SMALL.size_xyz


def test_slices_whose_class_was_blanked_are_read(folder):
    expected = sitk.GetArrayFromImage(open_volume(folder).read())
    edit(folder, lambda number, dataset: setattr(dataset, "SOPClassUID", ""))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(open_volume(folder).read()), expected)


PRIVATE = "1.3.12.2.1107.5.9.1"


def make_private(path: Path, changes: Callable[[pydicom.Dataset], object] = lambda dataset: None) -> None:
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = PRIVATE
    changes(dataset)
    dataset.save_as(path)


@pytest.mark.parametrize("count", [3, 10])
def test_images_of_a_private_class_are_named(folder, count):
    for path in sorted(folder.iterdir())[:count]:
        make_private(path)
    found = refused(folder, "damaged or contains no image").found
    assert found.startswith(
        f"an image of the private SOP class {PRIVATE}, which cannot be decoded; and {count - 1} more"
    )


def test_documents_of_a_private_class_are_named_where_there_is_nothing_else(folder, save_series):
    for path in folder.iterdir():
        make_private(path, lambda dataset: dataset.pop("PixelData"))
    error = refused(folder, "no DICOM image")
    assert error.found == f"10 files, none of them a DICOM image (10 of the private SOP class {PRIVATE})"
    for path in save_series(noise(SMALL), "ct").iterdir():
        shutil.copy(path, folder / f"ct-{path.name}")
    assert read_grid(folder).size_xyz == SMALL.size_xyz


def test_a_private_series_beside_a_ct_is_not_chosen(folder, save_series):
    other = save_series(noise(SMALL), "private", {"0020|000e": "1.2.3.4"})
    for path in other.iterdir():
        make_private(path)
        shutil.copy(path, folder / f"private-{path.name}")
    assert read_grid(folder).size_xyz == SMALL.size_xyz


def test_what_other_programs_leave_in_a_folder_is_ignored(folder):
    for path in list(folder.iterdir()):
        (folder / f"._{path.name}").write_bytes(bytes.fromhex("00051607") + bytes(4092))
    (folder / ".DS_Store").write_bytes(b"x" * 200)
    (folder / "LICENSE").write_text("text", encoding="utf-8")
    (folder / ".#lock").symlink_to("nothing")
    assert read_grid(folder).size_xyz == SMALL.size_xyz


def test_slices_in_a_linked_folder_belong_to_the_series(folder, tmp_path):
    (tmp_path / "other disk").mkdir()
    for path in sorted(folder.iterdir())[5:]:
        path.rename(tmp_path / "other disk" / path.name)
    (folder / "more").symlink_to(tmp_path / "other disk")
    (folder / "again").symlink_to(tmp_path / "other disk")
    (tmp_path / "other disk" / "back").symlink_to(folder)
    (folder / "above").symlink_to("..")
    assert read_grid(folder).size_xyz == SMALL.size_xyz


def test_names_that_are_not_utf_8_are_refused(folder):
    first = sorted(folder.iterdir())[0]
    first.rename(Path(os.fsdecode(os.fsencode(folder) + b"/\xe4.dcm")))
    assert refused(folder, "name of the file").found == "bytes that are not UTF-8"
