import tracemalloc

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from ggn_tf.cases.dicom.bounds import find_overrun, read_without_pixels
from ggn_tf.cases.dicom.frames import look_into
from ggn_tf.cases.dicom.mask_references import DicomReferences, read_references
from ggn_tf.cases.dicom.slices import Damaged
from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import VolumeError
from tests.support.case_phantoms import noise, rotation
from tests.support.dicom_files import compress, edit, write_enhanced, write_report

SMALL = Grid((16, 12, 6), (0.7, 0.7, 1.25), (-20.0, 30.0, -400.0), rotation(10, -5, 30))
SYNTAXES = ("JPEG", "JPEG2000", "JPEGLS", "RLE")


@pytest.fixture
def slice_(save_series):
    return save_series(noise(SMALL)) / "0003.dcm"


def refused(folder):
    with pytest.raises(VolumeError, match="damaged or contains no image") as caught:
        open_volume(folder)
    return caught.value.found


@pytest.fixture
def explicit(slice_):
    """A slice that names every value's representation."""
    dataset = pydicom.dcmread(slice_)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.save_as(slice_, implicit_vr=False, little_endian=True)
    return slice_


def test_a_sound_slice_has_no_overrun(slice_):
    assert find_overrun(slice_) is None


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_sound_compressed_slice_has_no_overrun(slice_, syntax):
    compress(slice_, syntax)
    assert find_overrun(slice_) is None


@pytest.mark.parametrize("syntax", ["JPEG2000", "JPEGLS", "RLE"])
def test_a_slice_of_nothing_but_air_is_plausible_however_small_its_file(save_series, syntax):
    air = Grid((512, 512, 2), (0.7, 0.7, 1.25), (0.0, 0.0, 0.0), rotation(0, 0, 0))
    folder = save_series(air.image_of(np.full((2, 512, 512), -1024, np.int16)))
    for path in folder.iterdir():
        compress(path, syntax)
        assert find_overrun(path) is None
    assert open_volume(folder).grid.size_xyz == (512, 512, 2)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_every_uncompressed_syntax_is_walked_through(slice_, syntax):
    dataset = pydicom.dcmread(slice_)
    dataset.decode()
    dataset.file_meta.TransferSyntaxUID = syntax
    encoding = {"implicit_vr": syntax.endswith(".1.2"), "little_endian": not syntax.endswith(".2.2")}
    pydicom.dcmwrite(slice_, dataset, **encoding)
    assert find_overrun(slice_) is None
    dataset.Rows = 9000
    pydicom.dcmwrite(slice_, dataset, **encoding)
    assert find_overrun(slice_) == "384 bytes of pixels, where the header announces 288000"


def test_a_report_and_a_multi_frame_file_have_none(slice_, tmp_path):
    write_report(tmp_path / "report.dcm", slice_)
    write_enhanced(slice_.parent, tmp_path / "enhanced.dcm")
    for name in ("report.dcm", "enhanced.dcm"):
        assert find_overrun(tmp_path / name) is None, name


def test_gdcm_never_sees_what_does_not_begin_like_dicom(slice_, tmp_path):
    """It would take any bytes for a header: 1.1 GB for a file of 5 KB."""
    (tmp_path / "notes.txt").write_text("x" * 500, encoding="utf-8")
    (tmp_path / "empty").write_bytes(b"")
    assert find_overrun(tmp_path / "notes.txt") == "an element of group 7878 where the header starts"
    assert find_overrun(tmp_path / "empty") == "0 bytes, too few for a DICOM header"
    content = slice_.read_bytes()
    slice_.write_bytes(content[:132] + b"\x64" + content[133:])
    assert find_overrun(slice_) == "an element of group 0064 where the header starts"
    slice_.write_bytes(content[:380])
    assert find_overrun(slice_) == "the end of the file inside the header"


def sequences(levels, implicit, counted):
    """Sequences within sequences, of known or of undefined length."""
    content = b""
    for _ in range(levels):
        tail = b"" if counted else bytes.fromhex("feff0de0 00000000")
        item = bytes.fromhex("feff00e0") + (len(content) if counted else 0xFFFFFFFF).to_bytes(4, "little")
        content = item + content + tail
        length = (len(content) if counted else 0xFFFFFFFF).to_bytes(4, "little")
        tail = b"" if counted else bytes.fromhex("feffdde0 00000000")
        content = bytes.fromhex("08004011") + (b"" if implicit else b"SQ\0\0") + length + content + tail
    return content


def with_sequences(path, levels, counted):
    """The slice with sequences at their place in the order of tags."""
    content = path.read_bytes()
    implicit = pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_implicit_VR
    place = content.index(b"\x10\0\x10\0" if implicit else b"\x10\0\x10\0PN")
    path.write_bytes(content[:place] + sequences(levels, implicit, counted) + content[place:])


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("levels", [20, 20_000])
def test_sequences_are_nested_so_deep_and_no_deeper(explicit, counted, levels):
    """GDCM ends the process at the twenty thousandth: it reads each level by a call within a call."""
    with_sequences(explicit, levels, counted)
    if levels == 20:
        assert open_volume(explicit.parent).grid.same_as(SMALL, 0.01)
    else:
        assert "sequences nested more than 64 levels deep, at byte" in refused(explicit.parent)


def test_elements_are_counted(explicit, monkeypatch):
    """Deflated, millions of empty ones have some kilobytes."""
    count = len(list(pydicom.dcmread(explicit).iterall()))
    monkeypatch.setattr("ggn_tf.cases.dicom.elements._MOST_ELEMENTS", count)
    assert find_overrun(explicit) is None
    monkeypatch.setattr("ggn_tf.cases.dicom.elements._MOST_ELEMENTS", count - 1)
    assert find_overrun(explicit) == f"more than {count - 1} elements"


def test_of_too_many_elements_only_the_first_become_objects(slice_, monkeypatch):
    """Zeros, as in the holes of an incomplete copy, are empty elements of eight bytes."""
    content = slice_.read_bytes()
    pixels = content.index(bytes.fromhex("e07f1000"))
    slice_.write_bytes(content[:pixels] + bytes(2**22) + content[pixels:])
    monkeypatch.setattr("ggn_tf.cases.dicom.elements._MOST_ELEMENTS", 2**18)
    tracemalloc.start()
    try:
        assert "more than 262144 elements" in refused(slice_.parent)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "inserted",
    [bytes(2**21), bytes.fromhex("08001511 53510000 ffffffff") + bytes.fromhex("feff00e0 00000000") * 200_000],
    ids=["zeros", "items"],
)
def test_no_objects_are_made_of_what_comes_first(explicit, inserted):
    content = explicit.read_bytes()
    place = content.index(b"\x08\0\x16\0UI")
    explicit.write_bytes(content[:place] + inserted + content[place:])
    tracemalloc.start()
    try:
        assert isinstance(look_into(explicit, "damage"), Damaged)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_damaged_file_in_another_order_still_has_its_series(explicit):
    content = explicit.read_bytes()
    place = content.index(b"\x08\0\x16\0UI")
    explicit.write_bytes(content[:place] + b"\x20\0\x11\0IS\2\0" + b"1 " + content[place:])
    damaged = look_into(explicit, "damage")
    assert isinstance(damaged, Damaged) and damaged.series == pydicom.dcmread(explicit).SeriesInstanceUID


@pytest.mark.parametrize("levels", [20, 20_000])
def test_so_are_those_of_implicit_files(slice_, levels):
    with_sequences(slice_, levels, counted=False)
    if levels == 20:
        assert open_volume(slice_.parent).grid.same_as(SMALL, 0.01)
    else:
        assert "sequences nested more than 64 levels deep, at byte" in refused(slice_.parent)


def test_a_sequence_of_unknown_representation_is_walked_through(explicit):
    """PS3.5, 6.2.2: its elements contain no representations."""
    content = explicit.read_bytes()
    place = content.index(b"\x10\0\x10\0PN")
    inner = bytes.fromhex("feff00e0 ffffffff") + sequences(2, True, True) + bytes.fromhex("feff0de0 00000000")
    unknown = bytes.fromhex("09001010") + b"UN\0\0\xff\xff\xff\xff" + inner + bytes.fromhex("feffdde0 00000000")
    explicit.write_bytes(content[:place] + unknown + content[place:])
    assert find_overrun(explicit) is None
    assert open_volume(explicit.parent).grid.same_as(SMALL, 0.01)


@pytest.mark.parametrize("undefined", [True, False])
def test_an_icons_pixels_are_not_the_images(slice_, undefined):
    dataset = pydicom.dcmread(slice_)
    icon = Dataset()
    icon.Rows, icon.Columns, icon.BitsAllocated, icon.PixelData = 2, 2, 8, b"abcd"
    dataset.IconImageSequence = Items([icon])
    dataset["IconImageSequence"].is_undefined_length = icon.is_undefined_length_sequence_item = undefined
    dataset.save_as(slice_)
    assert find_overrun(slice_) is None


@pytest.mark.parametrize("representation", [b"??", b"--"])
def test_a_placeholder_of_old_software_is_no_damage(explicit, representation):
    content = explicit.read_bytes()
    assert content.count(b"\x08\x00\x3e\x10LO") == 1
    explicit.write_bytes(content.replace(b"\x08\x00\x3e\x10LO", b"\x08\x00\x3e\x10" + representation))
    assert find_overrun(explicit) is None


def test_pixels_that_are_not_there_are_not_made_up(save_series):
    folder = save_series(noise(SMALL))
    edit(folder, lambda _, dataset: [setattr(dataset, name, 8192) for name in ("Rows", "Columns")])
    assert refused(folder).endswith("384 bytes of pixels, where the header announces 134217728; and 5 more such files")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_more_pixels_than_compression_can_hold(save_series, syntax):
    folder = save_series(noise(SMALL))
    for path in folder.iterdir():
        compress(path, syntax)
    edit(folder, lambda _, dataset: [setattr(dataset, name, 65535) for name in ("Rows", "Columns")])
    assert "65535 x 65535 pixels announced, in a file of" in refused(folder)


@pytest.mark.parametrize(("syntax", "marker"), [("JPEG", 0xC3), ("JPEGLS", 0xF7), ("JPEG2000", 0x51)])
def test_a_stream_of_another_size_than_the_header(slice_, syntax, marker):
    """The decoder would reserve 2 GB for it."""
    compress(slice_, syntax)
    assert find_overrun(slice_) is None
    content = slice_.read_bytes()
    start = content.index(b"\xff\x4f\xff\x51" if syntax == "JPEG2000" else b"\xff\xd8\xff")
    place = content.index(bytes([0xFF, marker]), start)
    place += 6 if syntax == "JPEG2000" else 5
    slice_.write_bytes(content[:place] + b"\x7f" + content[place + 1 :])
    assert "compressed pixels of " in find_overrun(slice_)


@pytest.mark.parametrize("inserted", [b"\0", b"\xff" * 100, b"\xff\xe0\xff\xff"], ids=["garbage", "fill", "elsewhere"])
def test_a_jpeg_header_that_only_decoders_find_is_refused(slice_, inserted):
    compress(slice_, "JPEG")
    content = slice_.read_bytes()
    start = content.index(b"\xff\xd8\xff") + 2
    length = int.from_bytes(content[start - 6 : start - 2], "little") + len(inserted)
    slice_.write_bytes(
        content[: start - 6] + length.to_bytes(4, "little") + b"\xff\xd8" + inserted + content[start:] + bytes(1 << 17)
    )
    assert find_overrun(slice_).endswith("without a JPEG header")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_fragment_that_reaches_beyond_the_file(slice_, syntax):
    """GDCM would take 2 GB for it."""
    compress(slice_, syntax)
    content = slice_.read_bytes()
    item = content.index(b"\xfe\xff\x00\xe0", content.index(b"\xfe\xff\x00\xe0") + 4)
    slice_.write_bytes(content[: item + 6] + b"\x29" + content[item + 7 :])
    assert find_overrun(slice_).startswith(
        f"a fragment of {0x290000 + int.from_bytes(content[item + 4 : item + 6], 'little')} "
    )


def test_a_deflated_slice_is_inflated_to_a_bound(explicit, monkeypatch):
    dataset = pydicom.dcmread(explicit)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    dataset.save_as(explicit)
    assert find_overrun(explicit) is None
    monkeypatch.setattr("ggn_tf.cases.dicom.bounds._MOST_INFLATED", 500)
    assert "a deflated data set of more than 500 bytes" in refused(explicit.parent)


def test_an_element_that_reaches_beyond_the_file(explicit):
    content = explicit.read_bytes()
    place = content.index(b"\xe0\x7f\x10\x00OW\0\0") + 8
    explicit.write_bytes(content[:place] + (3_000_000_000).to_bytes(4, "little") + content[place + 4 :])
    assert "an element (7fe0,0010) of 3000000000 bytes at byte" in refused(explicit.parent)


def test_an_element_without_a_representation(explicit):
    """GDCM would take what follows for a length, and reserve gigabytes."""
    content = explicit.read_bytes()
    explicit.write_bytes(content.replace(b"\x08\x00\x16\x00UI", b"\x08\x00\x16\x00J!"))
    assert find_overrun(explicit).startswith("no value representation, but b'J!', at byte")
    assert "no header: no value representation, but b'J!', at byte" in refused(explicit.parent)


def test_a_deflated_mask_is_never_inflated_beyond_the_bound(explicit, monkeypatch):
    dataset = pydicom.dcmread(explicit)
    dataset.add_new(0x00090010, "LO", "MAKER")
    dataset.add_new(0x00091001, "OB", bytes(100_000))
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    pydicom.dcmwrite(explicit, dataset)
    assert read_without_pixels(explicit).SOPInstanceUID == dataset.SOPInstanceUID
    monkeypatch.setattr("ggn_tf.cases.dicom.bounds._MOST_INFLATED", 5000)
    with pytest.raises(ValueError, match="more than 5000 bytes"):
        read_without_pixels(explicit)
    assert read_references(explicit) == DicomReferences()


def test_a_folder_without_end_is_refused_before_its_files_are_read(slice_, monkeypatch):
    monkeypatch.setattr("ggn_tf.cases.dicom.folder._MOST_FILES", 5)
    with pytest.raises(VolumeError, match="far more files than a study") as caught:
        open_volume(slice_.parent)
    assert caught.value.found == "more than 5 files"
