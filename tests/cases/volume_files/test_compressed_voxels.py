"""Compressed voxels of NRRD and MetaImage files, whose checksums ITK ignores."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import MaskError, VolumeError
from tests.support.case_phantoms import CENTER, ball, noise, rotation
from tests.support.whole_volumes import read_mask

GRID = Grid.around(CENTER, (20, 18, 12), (0.8, 0.8, 1.5), rotation(0, 0, 0))
VOXELS = sitk.GetArrayFromImage(noise(GRID))


def compressed(folder: Path, suffix: str, image: sitk.Image) -> tuple[Path, Path, int]:
    """The file of the header, that of the voxels, and where they begin."""
    path = folder / f"volume{suffix}"
    sitk.WriteImage(image, str(path), useCompression=True)
    beside = [other for other in folder.iterdir() if other != path]
    end = {".mha": b"ElementDataFile = LOCAL\n", ".nrrd": b"\n\n"}.get(suffix)
    return path, (*beside, path)[0], 0 if end is None else path.read_bytes().index(end) + len(end)


DAMAGES = {
    "an altered byte": lambda stream: stream[:-20] + bytes([stream[-20] ^ 4]) + stream[-19:],
    "zeros": lambda stream: stream[:40] + bytes(30) + stream[70:],
    "an altered checksum": lambda stream: stream[:-8] + bytes(8),
    "a cut": lambda stream: stream[: len(stream) // 2],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_damaged_voxels_are_refused_whatever_itk_makes_of_them(tmp_path: Path, suffix: str, damage: str) -> None:
    for name, image in (("ct", noise(GRID)), ("mask", ball(GRID, CENTER, 4.0))):
        (tmp_path / name).mkdir()
        path, voxels, start = compressed(tmp_path / name, suffix, image)
        content = voxels.read_bytes()
        voxels.write_bytes(content[:start] + DAMAGES[damage](content[start:]))
        with pytest.raises((VolumeError, MaskError), match="voxels cannot be read") as caught:
            open_volume(path).read() if name == "ct" else read_mask(path, GRID)
        assert caught.value.case == str(path)


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_undamaged_voxels_are_read(tmp_path: Path, suffix: str) -> None:
    path, _, _ = compressed(tmp_path, suffix, noise(GRID))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(open_volume(path).read()), VOXELS)


@pytest.mark.parametrize("stated", ["CompressedDataSize = 200\n", "CompressedDataSize = 0\n", ""])
def test_a_metaimage_that_does_not_state_the_length_of_its_voxels_is_refused(tmp_path: Path, stated: str) -> None:
    path, _, start = compressed(tmp_path, ".mha", noise(GRID))
    length = path.stat().st_size - start
    path.write_bytes(path.read_bytes().replace(f"CompressedDataSize = {length}\n".encode(), stated.encode()))
    with pytest.raises(VolumeError, match="voxels cannot be read") as caught:
        open_volume(path).read()
    assert (
        caught.value.found == f"CompressedDataSize {stated[21:-1] or 'missing'}, where the voxels have {length} bytes"
    )


@pytest.mark.parametrize("stated", ["CompressedDataSize = 0\n", ""])
@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress])
def test_a_file_of_compressed_voxels_of_either_form_needs_no_length(tmp_path: Path, stated: str, pack) -> None:
    path, raw, _ = compressed(tmp_path, ".mhd", noise(GRID))
    length = raw.stat().st_size
    raw.write_bytes(pack(VOXELS.tobytes()))
    path.write_text(path.read_text().replace(f"CompressedDataSize = {length}\n", stated))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(open_volume(path).read()), VOXELS)


@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
@pytest.mark.parametrize("members", [1, 2])
def test_an_undamaged_stream_of_fewer_voxels_is_refused(tmp_path: Path, suffix: str, members: int) -> None:
    path, voxels, start = compressed(tmp_path, suffix, noise(GRID))
    header, length = voxels.read_bytes()[:start], voxels.stat().st_size - start
    stream = zlib.compress(VOXELS[:4].tobytes()) + zlib.compress(VOXELS[4:].tobytes()) * (members - 1)
    voxels.write_bytes(header + stream)
    path.write_bytes(path.read_bytes().replace(b"Size = %d\n" % length, b"Size = %d\n" % len(stream)))
    with pytest.raises(VolumeError, match="voxels cannot be read") as caught:
        open_volume(path).read()
    whole = VOXELS.nbytes
    assert caught.value.found == f"{whole // 3} bytes of compressed voxels, where the header announces {whole}"


def test_a_length_is_needed_where_compressed_voxels_begin_later_in_their_file(tmp_path: Path) -> None:
    path, raw, _ = compressed(tmp_path, ".mhd", noise(GRID))
    length = raw.stat().st_size
    raw.write_bytes(bytes(10) + raw.read_bytes())
    header = path.read_text().replace("ElementDataFile", "HeaderSize = 10\nElementDataFile")
    path.write_text(header)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(open_volume(path).read()), VOXELS)
    path.write_text(header.replace(f"CompressedDataSize = {length}\n", ""))
    with pytest.raises(VolumeError, match="voxels cannot be read"):
        open_volume(path).read()


def test_compressed_voxels_of_a_metaimage_in_several_files_are_refused(tmp_path: Path) -> None:
    path, raw, _ = compressed(tmp_path, ".mhd", noise(GRID))
    names = []
    for number, layer in enumerate(VOXELS):
        names.append(f"{number}.zraw")
        (tmp_path / names[-1]).write_bytes(zlib.compress(layer.tobytes()))
    path.write_text(path.read_text().replace(raw.name, "\n".join(["LIST", *names])))
    with pytest.raises(VolumeError, match="voxels cannot be read") as caught:
        open_volume(path).read()
    assert caught.value.found == "compressed voxels in several files"


@pytest.mark.parametrize(("skipped", "members"), [(0, 1), (2, 1), (0, 3)])
def test_a_nrrd_in_several_members_or_after_lines(tmp_path: Path, skipped: int, members: int) -> None:
    path, _, start = compressed(tmp_path, ".nrrd", noise(GRID))
    header = path.read_bytes()[: start - 1] + (b"line skip: %d\n" % skipped) * (skipped > 0)
    parts = np.array_split(VOXELS, members)
    stream = b"".join(gzip.compress(part.tobytes()) for part in parts)
    path.write_bytes(header + b"\n" + b"text\n" * skipped + stream)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(open_volume(path).read()), VOXELS)
    path.write_bytes(path.read_bytes()[:-6] + bytes(6))
    with pytest.raises(VolumeError, match="voxels cannot be read"):
        open_volume(path).read()


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_stream_of_far_more_voxels_is_not_decompressed_to_its_end(tmp_path: Path, suffix: str) -> None:
    path, _, start = compressed(tmp_path, suffix, noise(GRID))
    pack = gzip.compress if suffix == ".nrrd" else zlib.compress
    stream = pack(bytes(20 << 20))
    header = path.read_bytes()[:start]
    path.write_bytes(header + stream)
    with pytest.raises(VolumeError, match="voxels cannot be read") as caught:
        open_volume(path).read()
    assert caught.value.found == "more compressed voxels than the header announces"
