"""Pipes, devices and files that announce gigabytes: refused in little time and memory."""

import gzip
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import cut_patch_from
from ggn_tf.cases.tables.table_file import read_table_file
from ggn_tf.errors import GgnError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_phantoms import noise, rotation
from tests.support.whole_volumes import read_mask, read_volume

GRID = Grid((16, 12, 6), (0.7, 0.7, 1.25), (-20.0, 30.0, -400.0), rotation(0, 0, 0))
READERS: dict[str, Callable[[Path], object]] = {
    "CT": lambda path: cut_patch_from(path, NoduleTarget(center_mm_lps=(-15.0, 34.0, -397.0)), PatchProtocol()),
    "mask": lambda path: read_mask(path, GRID),
    "table": read_table_file,
}


@pytest.mark.parametrize("special", ["pipe", "device"])
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".dcm", ".csv", ".xlsx", ""])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, special: str, kind: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if special == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)
    with pytest.raises((GgnError, OSError)):
        READERS[kind](path)


def test_a_pipe_among_the_slices_of_a_ct_is_ignored(save_series: Callable[..., Path]) -> None:
    folder = save_series(noise(GRID))
    os.mkfifo(folder / "IM_0001")
    assert read_volume(folder).GetSize() == GRID.size_xyz


def announced(path: Path, size: tuple[int, int, int], following: int) -> Path:
    """A compressed NIfTI file whose header announces a size, followed by bytes that may be more than the voxels."""
    header = nibabel.Nifti1Header()
    header.set_data_shape(size)
    header.set_data_dtype(np.uint8)
    header.set_sform(np.eye(4), code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4 + following), 1) + bytes(2**20))
    return path


@pytest.mark.parametrize("kind", ["CT", "mask"])
@pytest.mark.parametrize(
    ("size", "following"), [((1024, 1024, 1024), 2**20), ((30_000, 30_000, 2), 2**20), ((16, 12, 6), 2**24)]
)
def test_what_a_small_file_announces_is_not_reserved(
    tmp_path: Path, kind: str, size: tuple[int, int, int], following: int
) -> None:
    path = announced(tmp_path / "a.nii.gz", size, following)
    tracemalloc.start()
    try:
        with pytest.raises(GgnError):
            READERS[kind](path)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
