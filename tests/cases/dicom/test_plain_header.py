import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian

from ggn_tf.cases.dicom.folder import _TAGS
from ggn_tf.cases.dicom.plain_header import read_plain_header
from ggn_tf.cases.geometry.grid import Grid
from tests.support.case_phantoms import noise, rotation
from tests.support.dicom_files import compress, store

SMALL = Grid((16, 12, 2), (0.7, 0.8, 1.25), (-20.0, 30.0, -400.0), rotation(10, -5, 30))
SIZE = frozenset(("0028|0010", "0028|0011"))
START = "7fe0|0010"


@pytest.fixture(params=["implicit", "explicit"])
def slice_path(request, save_series):
    """A slice as SimpleITK writes it, and with the representations named."""
    path = save_series(noise(SMALL)) / "0002.dcm"
    if request.param == "explicit":
        change(path, lambda dataset: setattr(dataset.file_meta, "TransferSyntaxUID", ExplicitVRLittleEndian))
    return path


def as_simpleitk_tells(path):
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return {tag: reader.GetMetaData(tag).strip(" \0") for tag in _TAGS | SIZE if reader.HasMetaDataKey(tag)}


def change(path, edit):
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path)


def test_the_tags_are_those_that_simpleitk_tells(slice_path):
    tags = read_plain_header(slice_path, _TAGS)
    assert {tag: tags[tag] for tag in tags if tag in _TAGS | SIZE} == as_simpleitk_tells(slice_path)
    assert (tags["0028|0010"], tags["0028|0011"]) == ("12", "16")


@pytest.mark.parametrize(("kind", "stored"), [("<i2", -2000), ("<i2", 30000), ("<u2", 63536)])
def test_padding_is_signed_as_the_pixels_are(slice_path, kind, stored):
    def pad(dataset):
        store(dataset, np.zeros((12, 16), dtype=kind))
        dataset.add_new(0x00280120, "SS" if kind == "<i2" else "US", stored)

    change(slice_path, pad)
    assert read_plain_header(slice_path, _TAGS)["0028|0120"] == str(stored)
    assert as_simpleitk_tells(slice_path)["0028|0120"] == str(stored)


@pytest.mark.parametrize("undefined", [False, True])
def test_what_stands_in_a_sequence_is_not_the_slices_own(slice_path, undefined):
    def refer(dataset):
        inner, outer = Dataset(), Dataset()
        inner.SeriesInstanceUID = outer.SeriesInstanceUID = "1.2.3"
        outer.ReferencedSeriesSequence = Sequence([inner, inner])
        outer.ImagePositionPatient = [1, 2, 3]
        # One precedes the slice's own position, and one follows it.
        for name in ("ReferencedImageSequence", "RequestAttributesSequence"):
            setattr(dataset, name, Sequence([outer, outer]))
            dataset[name].is_undefined_length = undefined
            for item in dataset[name].value:
                item.is_undefined_length_sequence_item = undefined
                item["ReferencedSeriesSequence"].is_undefined_length = undefined

    expected = read_plain_header(slice_path, _TAGS)
    change(slice_path, refer)
    assert (b"\xfe\xff\xdd\xe0" in slice_path.read_bytes()) == undefined
    found = read_plain_header(slice_path, _TAGS)
    assert found == expected | {START: found[START]}


@pytest.mark.parametrize("length", [20_000, 200_000])
def test_a_scanners_own_data_may_be_large(slice_path, length):
    expected = read_plain_header(slice_path, _TAGS)

    def add(dataset):
        dataset.private_block(0x0009, "SCANNER", create=True).add_new(1, "OB", bytes(length))

    change(slice_path, add)
    found = read_plain_header(slice_path, _TAGS)
    assert int(found[START]) >= int(expected[START]) + length
    assert found == expected | {START: found[START]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NumberOfFrames", "2"),
        ("SamplesPerPixel", 3),
        ("BitsAllocated", 8),
        ("PhotometricInterpretation", "MONOCHROME1"),
        ("Rows", 13),
        ("Rows", 11),
        ("Columns", [16, 16]),
        ("SeriesDescription", "Thorax für Übersicht"),
    ],
)
def test_what_is_not_plain_is_left_to_gdcm(slice_path, name, value):
    def edit(dataset):
        dataset.SpecificCharacterSet = "ISO_IR 192"
        setattr(dataset, name, value)

    change(slice_path, edit)
    assert read_plain_header(slice_path, _TAGS) is None


@pytest.mark.parametrize("name", ["Rows", "BitsAllocated", "PhotometricInterpretation", "PixelData"])
def test_a_slice_that_lacks_what_makes_an_image_is_left_to_gdcm(slice_path, name):
    change(slice_path, lambda dataset: delattr(dataset, name))
    assert read_plain_header(slice_path, _TAGS) is None


@pytest.mark.parametrize("syntax", ["RLE", "JPEGLS", "JPEG2000"])
def test_compressed_pixels_are_left_to_gdcm(slice_path, syntax):
    compress(slice_path, syntax)
    assert read_plain_header(slice_path, _TAGS) is None


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_another_order_of_bytes_and_a_deflated_header_are_left_to_gdcm(slice_path, syntax):
    dataset = pydicom.dcmread(slice_path)
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(slice_path, dataset, little_endian=syntax != ExplicitVRBigEndian, implicit_vr=False)
    assert read_plain_header(slice_path, _TAGS) is None


@pytest.mark.parametrize("kept", [0, 3, 131, 140, 300, 700, -384, -1])
def test_a_cut_slice_is_left_to_gdcm(slice_path, kept):
    slice_path.write_bytes(slice_path.read_bytes()[:kept])
    assert read_plain_header(slice_path, _TAGS) is None


def test_bytes_after_the_pixels_do_not_matter(slice_path):
    expected = read_plain_header(slice_path, _TAGS)
    slice_path.write_bytes(slice_path.read_bytes() + bytes(50))
    assert read_plain_header(slice_path, _TAGS) == expected


def test_whichever_bit_is_altered_the_answer_is_that_of_simpleitk_or_none(slice_path):
    content = slice_path.read_bytes()
    generator = np.random.default_rng(0)
    for at in generator.integers(132, len(content) - 384, 400):
        altered = bytearray(content)
        altered[at] ^= 1 << generator.integers(8)
        slice_path.write_bytes(altered)
        tags = read_plain_header(slice_path, _TAGS)
        if tags is not None:
            assert {tag: tags[tag] for tag in tags if tag in _TAGS | SIZE} == as_simpleitk_tells(slice_path), at


@pytest.mark.real
@pytest.mark.parametrize("folder", ["lidc_0063/dicom", "dicom_awkward"])
def test_real_headers_are_read_as_simpleitk_reads_them(real_data, folder):
    paths = sorted((real_data / folder).rglob("*.dcm"))
    for path in paths:
        tags = read_plain_header(path, _TAGS)
        assert {tag: tags[tag] for tag in tags if tag in _TAGS | SIZE} == as_simpleitk_tells(path), path
    assert len(paths) > 10
