"""The files that a header names: only those in its folder, and only regular ones."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.volume_files.detached import voxel_files
from ggn_tf.cases.volume_files.headers import read_header
from ggn_tf.cases.volumes import read_voxels
from ggn_tf.errors import VolumeError


@pytest.fixture(params=[".mhd", ".nhdr"])
def header(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path: Path = tmp_path / "sub" / f"ct{request.param}"
    path.parent.mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16)), str(path))
    return path


def renamed(header: Path, name: str) -> None:
    raw = voxel_files(header)[0]
    header.write_bytes(header.read_bytes().replace(raw.name.encode(), name.encode()))


def refused(header: Path) -> str:
    with pytest.raises(VolumeError, match="not an image") as caught:
        read_header(header)
    return str(caught.value.found)


def test_the_file_beside_the_header_is_read(header: Path) -> None:
    (raw,) = voxel_files(header)
    assert raw.parent == header.parent and raw != header
    assert read_header(header).size_xyz == (6, 5, 4)


@pytest.mark.parametrize("name", ["/etc/passwd", "../ct.raw", "LIST\n/dev/zero", "../%d.raw 1 4 1"])
def test_files_elsewhere_are_refused(header: Path, name: str) -> None:
    renamed(header, name)
    assert "outside the header's folder" in refused(header)


@pytest.mark.parametrize(
    ("filling", "found"),
    [
        ("x" * 5_000_000, "a header of more than 4194304 bytes"),
        # ITK takes two minutes for 300,000 keys of a NRRD header.
        ("".join(f"\nkey{number}{{sign}}1" for number in range(30_000)), "a header of 300"),
    ],
)
def test_a_header_of_more_than_is_checked_is_refused(header: Path, filling: str, found: str) -> None:
    sign = ":=" if header.suffix == ".nhdr" else " = "
    first, _, rest = header.read_text().partition("\n")
    header.write_text(f"{first}\nnote{sign}{filling.format(sign=sign)}\n{rest}")
    assert found in refused(header)


def test_links_that_leave_the_folder_pipes_and_missing_files_are_refused(header: Path, tmp_path: Path) -> None:
    (raw,) = voxel_files(header)
    raw.rename(tmp_path / "elsewhere.raw")
    assert "no regular file" in refused(header)
    raw.symlink_to(tmp_path / "elsewhere.raw")
    assert "outside the header's folder" in refused(header)
    raw.unlink()
    os.mkfifo(raw)
    assert "no regular file" in refused(header)


def test_a_file_that_is_too_small_is_refused(header: Path) -> None:
    (raw,) = voxel_files(header)
    content = header.read_bytes()
    header.write_bytes(content.replace(b"6 5 4", b"600 500 400"))
    raw.write_bytes(raw.read_bytes()[:100])
    with pytest.raises(VolumeError, match="smaller than its header says"):
        read_header(header)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_voxels_after_their_header_are_in_the_file_itself(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ct{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16)), str(path), useCompression=True)
    assert voxel_files(path) == [path]
    assert read_header(path).size_xyz == (6, 5, 4)


@pytest.mark.parametrize(
    "name",
    ["a%d%d.raw 1 4 1", "a%s.raw 1 4 1", "a%0999999999d.raw 1 4 1", f"%d.raw 1 {10**30} 1", f"%d.raw 1 {10**5} 1"],
)
def test_patterns_that_are_none_are_refused(header: Path, name: str) -> None:
    renamed(header, name)
    assert "voxels in" in refused(header)


@pytest.mark.parametrize("name", ["L\u00e4sion", "Liste", "list"])
@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_file_beside_the_header_may_have_any_name(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"{name}{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16)), str(path))
    (raw,) = voxel_files(path)
    assert raw.stem == name
    assert read_header(path).size_xyz == (6, 5, 4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), 0)


NRRD_HEADER = "NRRD0005\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n"
HIDDEN = [
    "data file:=ok.raw\ndata file: ../secret.raw\n\n",
    "data file: ok.raw\ndata file: ../secret.raw\n\n",
    "content: a\rdata file: ../secret.raw\n\n",
    "#data file: ok.raw\rdata file: ../secret.raw\r\r",
    "data file: s%ccret.raw 101 101 1\n\n",
    "data file: %s%d 1 4 1\n\n",
    "data file: %099999999d 1 4 1\n\n",
    "data file:\n\n",
]


@pytest.mark.parametrize("statement", HIDDEN)
def test_a_statement_that_only_itk_understands_is_refused(tmp_path: Path, statement: str) -> None:
    """Otherwise a header could name another file than the one that was checked."""
    (tmp_path / "sub").mkdir()
    for name in ("secret.raw", "sub/ok.raw", "sub/=ok.raw", "sub/%s%d 1 4 1", "sub/secret.raw"):
        (tmp_path / name).write_bytes(bytes(64))
    path = tmp_path / "sub" / "ct.nhdr"
    path.write_bytes((NRRD_HEADER + statement).encode())
    refused(path)


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    (tmp_path / "ok.raw").write_bytes(bytes(64))
    (tmp_path / "ct.nhdr").write_bytes((NRRD_HEADER + "data file: ok.raw\n\n").replace("\n", "\r\n").encode())
    assert voxel_files(tmp_path / "ct.nhdr") == [tmp_path / "ok.raw"]


def test_only_one_statement_of_a_metaimage_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "ok.raw").write_bytes(bytes(64))
    path = tmp_path / "ct.mhd"
    header = "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\n"
    path.write_text(f"{header}Name =\nElementDataFile = ok.raw\nElementDataFile = ../secret.raw\n")
    assert "several statements" in refused(path)


def test_a_header_of_empty_lines_is_refused_in_little_time(tmp_path: Path) -> None:
    (tmp_path / "ct.mha").write_bytes(b"\n" * 2**20)
    begun = time.process_time()
    with pytest.raises(ValueError, match="a header of 1048576 lines"):
        voxel_files(tmp_path / "ct.mha")
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("name", ["ct.vtk", "ct.tif", "ct.png", "ct.h5", "ct.gipl"])
def test_readers_of_other_formats_are_never_tried(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"# vtk DataFile Version 3.0\nx\nBINARY\n" + bytes(1000))
    assert refused(path) == "none of the formats that are read"


@pytest.mark.parametrize("stated", ["LIST\n{}", "slice%d.raw 0 {} 1"])
@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_a_metaimage_has_one_file_for_each_slice(tmp_path: Path, stated: str, count: int) -> None:
    voxels = np.arange(4 * 5 * 6, dtype="<i2").reshape(4, 5, 6)
    for number in range(5):
        (tmp_path / f"slice{number}.raw").write_bytes(voxels[number % 4].tobytes())
    listed = "\n".join(f"slice{number}.raw" for number in range(count)) if "LIST" in stated else count - 1
    path = tmp_path / "ct.mhd"
    path.write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nElementSpacing = 1 1 2\n"
        f"DimSize = 6 5 4\nElementType = MET_SHORT\nElementDataFile = {stated.format(listed)}\n"
    )
    if count == 4:
        np.testing.assert_array_equal(read_voxels(path, read_header(path), read_header(path).whole), voxels)
    else:
        assert refused(path) == f"{count} files for 4 slices"
