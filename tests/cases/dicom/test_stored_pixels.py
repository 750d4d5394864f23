"""Pixels of plain slices, read from the bytes, against GDCM's."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.uid import ExplicitVRLittleEndian

from ggn_tf.cases.dicom.folder import read_slices, scan_series
from ggn_tf.cases.dicom.plain_header import read_stored
from ggn_tf.cases.geometry.grid import Grid
from tests.support.case_phantoms import noise, rotation
from tests.support.dicom_files import edit, store

SMALL = Grid((16, 12, 4), (0.7, 0.8, 1.25), (-20.0, 30.0, -400.0), rotation(10, -5, 30))
ROWS, COLUMNS = slice(3, 9), slice(5, 14)


def slices_of(save_series, kind="<i2", bits=16, extra=0, **changes):
    """A series of random values of some bits, and of `extra` in the bits above."""
    generator = np.random.default_rng(0)
    least = -(1 << bits - 1) if kind == "<i2" else 0

    def change(number, dataset):
        stored = generator.integers(least, least + (1 << bits), (12, 16))
        store(dataset, (stored | extra).astype(kind))
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        for name, value in changes.items():
            setattr(dataset, name, value)
        if number % 2:
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian

    path = save_series(noise(SMALL))
    edit(path, change)
    return scan_series(path)[0].slices


def decoded(slices):
    paths = [str(item.path) for item in slices]
    return sitk.GetArrayFromImage(sitk.ReadImage(paths, sitk.sitkFloat32, imageIO="GDCMImageIO"))


@pytest.mark.parametrize("scale", [("1", "-1024"), ("1.0", "-1024.5"), ("0.1", "0.3"), ("-2.75", "1e2"), ("3", "0")])
@pytest.mark.parametrize(("kind", "bits"), [("<i2", 16), ("<u2", 16), ("<i2", 12), ("<u2", 12)])
def test_a_part_is_equal_to_the_bit_to_what_gdcm_decodes(save_series, kind, bits, scale):
    slices = slices_of(save_series, kind, bits, RescaleSlope=scale[0], RescaleIntercept=scale[1])
    found = read_stored(slices, ROWS, COLUMNS)
    expected = decoded(slices)
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found, expected[:, ROWS, COLUMNS])
    np.testing.assert_array_equal(read_slices(slices), expected)


@pytest.mark.parametrize(("kind", "extra"), [("<u2", 1 << 12), ("<u2", 0xF000)])
def test_what_is_in_the_bits_above_a_value_is_left_to_gdcm(save_series, kind, extra):
    slices = slices_of(save_series, kind, 12, extra)
    assert read_stored(slices) is None
    assert read_slices(slices, ROWS, COLUMNS).shape == (4, 6, 9)


@pytest.mark.parametrize("name", ["1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.4"])
def test_the_scale_of_other_classes_is_left_to_gdcm(save_series, name):
    assert read_stored(slices_of(save_series, SOPClassUID=name)) is None


def test_a_slice_that_was_cut_since_its_header_was_read_is_refused(save_series):
    slices = slices_of(save_series)
    slices[1].path.write_bytes(slices[1].path.read_bytes()[:-50])
    with pytest.raises(RuntimeError, match=slices[1].path.name):
        read_slices(slices)


@pytest.mark.real
def test_real_slices_are_equal_to_the_bit(real_data):
    slices = scan_series(real_data / "lidc_0063" / "dicom")[0].slices[40:60]
    np.testing.assert_array_equal(read_stored(slices), decoded(slices))


def test_a_value_without_its_highest_bit_is_left_to_gdcm(save_series):
    path = slices_of(save_series)[0].path
    dataset = pydicom.dcmread(path)
    del dataset.HighBit
    dataset.save_as(path)
    assert read_stored(scan_series(path.parent)[0].slices) is None
