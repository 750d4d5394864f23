import gzip
import zlib

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Box
from ggn_tf.cases.volume_files.headers import read_header
from ggn_tf.cases.volume_files.nifti import read_blocks, read_occupied
from tests.support.case_phantoms import noise

BOXES = [Box((5, 7, 3), (9, 8, 4)), Box((0, 0, 5), (50, 46, 25)), Box((5, 7, 3), (1, 1, 1))]
READERS = {"blocks": lambda path, size: read_blocks(path, size, BOXES), "occupied": read_occupied}
UNREADABLE = (ValueError, EOFError, OSError, zlib.error)


@pytest.fixture(params=["m.nii", "m.nii.gz"])
def sparse(request, grid, save):
    """A label map whose slices 4, 6 and 7 of 30 hold something, and its voxels."""
    labels = np.zeros(grid.size_xyz[::-1], dtype=np.int16)
    labels[4, 10, 11], labels[6, 0, 0], labels[7, -1, -1] = 256, 1, -3
    return save(grid.image_of(labels), request.param), labels


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_several_blocks_are_read_at_once(grid, save, name):
    image = noise(grid)
    blocks = read_blocks(save(image, name), grid.size_xyz, BOXES)
    for box, block in zip(BOXES, blocks, strict=True):
        np.testing.assert_array_equal(block, sitk.GetArrayFromImage(image)[box.slices_zyx])


def test_a_qform_that_is_not_finite_leaves_the_sform_without_a_warning(grid, save):
    path = save(noise(grid), "ct.nii")
    content = path.read_bytes()
    path.write_bytes(content[:80] + np.full(3, np.nan, "<f4").tobytes() + content[92:])
    assert read_header(path).same_as(grid, 1e-3)


def test_only_the_slices_that_hold_something_are_read(grid, sparse):
    path, labels = sparse
    voxels, first = read_occupied(path, grid.size_xyz)
    assert first == 4
    np.testing.assert_array_equal(voxels, labels[4:8])


def test_a_volume_of_zeros_has_no_occupied_slice(grid, save):
    voxels, _ = read_occupied(save(sitk.Image(grid.size_xyz, sitk.sitkUInt8), "m.nii.gz"), grid.size_xyz)
    assert voxels.shape == (0, *grid.size_xyz[1::-1])


def test_zeros_that_the_header_shifts_are_not_left_out(grid, sparse):
    path, labels = sparse
    content = path.read_bytes()
    header = bytearray(gzip.decompress(content) if path.suffix == ".gz" else content)
    header[112:120] = np.array([2.0, 1.0], dtype="<f4").tobytes()
    path.write_bytes(gzip.compress(header) if path.suffix == ".gz" else header)
    voxels, first = read_occupied(path, grid.size_xyz)
    assert first == 0
    np.testing.assert_array_equal(voxels, 2.0 * labels + 1.0)


def test_a_gzip_file_in_several_members_is_read_whole(grid, save):
    image = noise(grid)
    path = save(image, "ct.nii")
    content = path.read_bytes()
    several = path.with_suffix(".nii.gz")
    several.write_bytes(b"".join(gzip.compress(content[at : at + 20_000]) for at in range(0, len(content), 20_000)))
    (whole,) = read_blocks(several, grid.size_xyz, [grid.whole])
    np.testing.assert_array_equal(whole, sitk.GetArrayFromImage(image))


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("kept", [1, 3, 9, 200, 5000, -9, -8, -1])
def test_a_gzip_file_that_is_cut_anywhere_is_refused(grid, save, read, kept):
    path = save(noise(grid), "ct.nii.gz")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UNREADABLE):
        read(path, grid.size_xyz)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("at", [0, 2, 400, 20_000, -2000, -9, -8, -5, -4, -1])
def test_a_gzip_file_that_is_altered_anywhere_is_refused(grid, save, read, at):
    path = save(noise(grid), "ct.nii.gz")
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(UNREADABLE):
        read(path, grid.size_xyz)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_fewer_voxels_than_announced_are_refused(grid, save, read, name):
    path = save(noise(grid), "ct.nii")
    content = path.read_bytes()[:-1]
    path = path.with_name(name)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    with pytest.raises(EOFError, match=f"{len(content)} bytes, where the header announces {len(content) + 1}"):
        read(path, grid.size_xyz)
