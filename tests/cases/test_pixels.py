import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.encaps import encapsulate, generate_frames

from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import VolumeError
from tests.support.case_phantoms import noise, rotation
from tests.support.dicom_files import compress, compress_enhanced, edit, store, write_enhanced
from tests.support.whole_volumes import read_grid, read_region, read_volume

SMALL = Grid((16, 12, 6), (0.7, 0.7, 1.25), (-20.0, 30.0, -400.0), rotation(10, -5, 30))
SYNTAXES = {"JPEG": ".70", "JPEG2000": ".90", "JPEGLS": ".80", "RLE": "1.2.5"}


def values(folder):
    return sitk.GetArrayFromImage(read_volume(folder))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_compressed_slices_hold_the_same_values(save_series, syntax):
    image = noise(SMALL)
    folder = save_series(image)
    for path in folder.iterdir():
        compress(path, syntax)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.endswith(SYNTAXES[syntax])
    np.testing.assert_array_equal(values(folder), sitk.GetArrayFromImage(image))


@pytest.mark.parametrize("syntax", [None, "RLE", "JPEGLS"])
def test_monochrome1_is_read_by_the_stored_value(save_series, syntax):
    image = noise(SMALL)
    folder = save_series(image)
    edit(folder, lambda _, dataset: setattr(dataset, "PhotometricInterpretation", "MONOCHROME1"))
    for path in folder.iterdir() if syntax else ():
        compress(path, syntax)
    np.testing.assert_array_equal(values(folder), sitk.GetArrayFromImage(image))


@pytest.mark.parametrize("share", [0.95, 0.5])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_cut_code_stream_is_refused(save_series, syntax, share):
    folder = save_series(noise(SMALL))
    path = folder / "0003.dcm"
    compress(path, syntax)
    dataset = pydicom.dcmread(path)
    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    stream = stream[: int(len(stream) * share) // 2 * 2]
    dataset.PixelData = encapsulate([stream])
    dataset.save_as(path)
    with pytest.raises(VolumeError, match=r"cannot be read|damaged"):
        read_volume(folder)


def test_a_syntax_that_cannot_be_decoded_is_named(save_series):
    folder = save_series(noise(SMALL))

    def high_throughput(_, dataset):
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.HTJ2KLossless
        dataset.PixelData = encapsulate([dataset.PixelData])

    edit(folder, high_throughput)
    with pytest.raises(VolumeError) as caught:
        read_volume(folder)
    assert caught.value.found.startswith("0001.dcm cannot be decoded (transfer syntax High-Throughput JPEG 2000")


@pytest.mark.parametrize("kind", ["<i2", "<u2"])
def test_signed_and_unsigned_values(save_series, kind):
    stored = np.arange(12 * 16).reshape(12, 16).astype(kind) * 20 - (2000 if kind == "<i2" else 0)
    folder = save_series(noise(SMALL))
    edit(folder, lambda _, dataset: store(dataset, stored))
    np.testing.assert_array_equal(values(folder)[2], np.maximum(stored.astype(float) - 1024, -1024))


def test_slope_and_intercept_may_differ_from_slice_to_slice(save_series):
    folder = save_series(noise(SMALL))
    slopes, intercepts = [1, 0.5, 2.25, 1, 3, 0.125], [-1024, 0, -1000.5, -24, 10, -500]
    stored = np.arange(12 * 16, dtype="<i2").reshape(12, 16)

    def rescale(number, dataset):
        store(dataset, stored)
        dataset.RescaleSlope, dataset.RescaleIntercept = slopes[number], intercepts[number]

    edit(folder, rescale)
    expected = [stored * slope + intercept for slope, intercept in zip(slopes, intercepts, strict=True)]
    np.testing.assert_array_equal(values(folder), expected)


@pytest.mark.parametrize("change", [{"RescaleSlope": 0}, {"RescaleSlope": None}, {"RescaleIntercept": None}])
def test_values_without_a_scale_are_no_hounsfield_units(save_series, change):
    folder = save_series(noise(SMALL))

    def apply(_, dataset):
        for name, value in change.items():
            setattr(dataset, name, value)

    edit(folder, apply)
    with pytest.raises(VolumeError, match="do not make a volume") as caught:
        open_volume(folder)
    assert caught.value.found == "6 slices without a usable rescale slope and intercept, 0001.dcm first"
    assert "0028,1053" in caught.value.expected


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("ImageOrientationPatient", [1, 0, 0, 0, 0, 0], "without a position"),
        ("ImageOrientationPatient", [1, 0, 0, 0.2, 0.98, 0], "without a position"),
        ("PixelSpacing", None, "without a pixel spacing"),
        ("PixelSpacing", [0, 0.7], "without a pixel spacing"),
    ],
)
def test_a_header_that_makes_no_sense_is_not_replaced_by_another(save_series, name, value, found):
    folder = save_series(noise(SMALL))
    edit(folder, lambda number, dataset: setattr(dataset, name, value) if number == 2 else None)
    with pytest.raises(VolumeError, match="do not make a volume") as caught:
        open_volume(folder)
    assert f"1 slice {found}, 0003.dcm first" in caught.value.found


@pytest.mark.parametrize(("stored", "expected"), [(-2000, -1024), (-976, -1024), (4000, 2976), (30000, -1024)])
def test_padding_is_air(save_series, stored, expected):
    folder = save_series(noise(SMALL))

    def pad(_, dataset):
        layer = np.full((12, 16), 100, dtype="<i2")
        layer[0, 0] = stored
        store(dataset, layer)
        dataset.add_new(0x00280120, "SS", stored)

    edit(folder, pad)
    assert values(folder)[3, 0, 0] == expected
    assert values(folder)[3, 0, 1] == 100 - 1024


def test_padding_that_tissue_has_is_not_believed(save_series):
    folder = save_series(noise(SMALL))

    def pad(_, dataset):
        store(dataset, np.zeros((12, 16), dtype="<i2"))
        dataset.RescaleIntercept = 0
        dataset.add_new(0x00280120, "SS", 0)

    edit(folder, pad)
    assert np.all(values(folder) == 0)


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nrrd", "ct.mha"])
@pytest.mark.parametrize("padding", [-2000, -3024, -32768])
def test_padding_of_a_volume_file_is_air(grid, save, name, padding):
    image = noise(grid)
    image[0, 0, 0] = padding
    assert read_volume(save(image, name))[0, 0, 0] == -1024


def test_an_enhanced_ct(save_series, tmp_path):
    image = noise(SMALL)
    path = tmp_path / "enhanced"
    write_enhanced(save_series(image), path, order=[3, 0, 5, 1, 4, 2])
    assert read_grid(path).same_as(SMALL, 1e-3)
    np.testing.assert_array_equal(values(path), sitk.GetArrayFromImage(image))
    box = Box((2, 3, 1), (9, 8, 3))
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(read_region(path, box)), sitk.GetArrayFromImage(image)[box.slices_zyx]
    )


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_enhanced_ct_of_compressed_frames(save_series, tmp_path, syntax):
    image = noise(SMALL)
    compress_enhanced(save_series(image), tmp_path / "enhanced.dcm", syntax)
    np.testing.assert_array_equal(values(tmp_path / "enhanced.dcm"), sitk.GetArrayFromImage(image))


def test_an_enhanced_ct_in_a_folder_scaled_frame_by_frame(save_series, tmp_path):
    image = noise(SMALL)
    (tmp_path / "study").mkdir()
    write_enhanced(save_series(image), tmp_path / "study" / "1.dcm", slopes=(1.0, 2.0))
    expected = sitk.GetArrayFromImage(image).astype(float)
    expected[1::2] = 2 * expected[1::2] + 1024
    np.testing.assert_array_equal(values(tmp_path / "study"), expected)


def test_an_enhanced_ct_without_a_frame(save_series, tmp_path):
    path = tmp_path / "enhanced.dcm"
    write_enhanced(save_series(noise(SMALL)), path, order=[0, 1, 3, 4, 5])
    with pytest.raises(VolumeError, match="do not make a volume") as caught:
        open_volume(path)
    assert caught.value.found == "1 missing slice in 1 gap: 2.50 mm from enhanced.dcm frame 2 to enhanced.dcm frame 3"


@pytest.mark.parametrize(
    ("count", "described", "found"), [("6", 4, "6 frames"), ("6", 7, "6 frames"), (None, 6, "no NumberOfFrames")]
)
def test_an_enhanced_ct_whose_frames_are_not_all_described_is_refused(save_series, tmp_path, count, described, found):
    path = tmp_path / "enhanced.dcm"
    write_enhanced(save_series(noise(SMALL)), path)
    header = pydicom.dcmread(path)
    groups = [*header.PerFrameFunctionalGroupsSequence, header.PerFrameFunctionalGroupsSequence[5]]
    header.PerFrameFunctionalGroupsSequence = groups[:described]
    header.NumberOfFrames = count
    header.save_as(path)
    with pytest.raises(VolumeError, match="damaged") as caught:
        open_volume(path)
    assert caught.value.found == f"{found}, and {described} descriptions of frames"


def test_frames_of_two_kinds_between_one_another_are_refused(save_series, tmp_path):
    path = tmp_path / "enhanced.dcm"
    write_enhanced(save_series(noise(SMALL)), path)
    header = pydicom.dcmread(path)
    for number, groups in enumerate(header.PerFrameFunctionalGroupsSequence):
        kind = pydicom.Dataset()
        kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", ("NONE", "MAXIMUM")[number % 2]]
        groups.CTImageFrameTypeSequence = [kind]
    header.save_as(path)
    with pytest.raises(VolumeError, match="do not make a volume") as caught:
        open_volume(path)
    assert "ORIGINAL\\PRIMARY\\VOLUME\\MAXIMUM in 3 slices" in caught.value.found
    assert caught.value.remedy.startswith("Export each as a series of its own")


def test_a_cut_enhanced_ct(save_series, tmp_path):
    path = tmp_path / "enhanced.dcm"
    write_enhanced(save_series(noise(SMALL)), path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(VolumeError, match=r"cannot be read|damaged"):
        read_volume(path)
