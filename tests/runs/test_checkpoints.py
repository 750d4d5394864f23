import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ggn_tf.errors import RunError
from ggn_tf.runs.checkpoints import Checkpoint, CheckpointStore, read_archive, write_archive


def checkpoint(number: int) -> Checkpoint:
    return Checkpoint({"step": number, "loss": 0.1 + 0.2}, {"model/0": np.full((1000,), number, np.float32)})


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    store = CheckpointStore(tmp_path, "segment")
    for number in (1, 2, 3):
        store.write(checkpoint(number))
    return store


def test_the_last_two_are_kept_and_the_newest_is_read_to_the_last_bit(store: CheckpointStore, tmp_path: Path):
    assert sorted(path.name for path in tmp_path.iterdir()) == ["segment-000002.npz", "segment-000003.npz"]
    latest = store.latest()
    assert latest.progress == {"step": 3, "loss": 0.1 + 0.2}
    np.testing.assert_array_equal(latest.arrays["model/0"], np.full((1000,), 3, np.float32))


@pytest.mark.parametrize("cut", ["truncated", "flipped", "empty"])
def test_a_damaged_newest_gives_way_to_the_one_before(store: CheckpointStore, tmp_path: Path, cut: str):
    file = tmp_path / "segment-000003.npz"
    content = bytearray(file.read_bytes())
    if cut == "flipped":
        content[len(content) // 2] ^= 0xFF
    file.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "flipped": content}[cut])
    assert store.latest().progress["step"] == 2


def test_no_flipped_bit_passes_unnoticed(store: CheckpointStore, tmp_path: Path):
    """The archive's own sums would not do: a flip in its directory can hide a member."""
    file = tmp_path / "segment-000003.npz"
    whole = file.read_bytes()
    for position in (*range(300), *range(len(whole) - 400, len(whole))):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        assert store.latest().progress["step"] == 2, position


def test_numpy_reads_it_too(store: CheckpointStore, tmp_path: Path):
    with np.load(tmp_path / "segment-000003.npz") as archive:
        assert archive["model/0"][0] == 3


def test_members_that_share_their_bytes_are_refused():
    stream = io.BytesIO()
    write_archive(stream, checkpoint(1))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.filelist += archive.filelist[1:] * 1000
        archive._didModify = True
    with pytest.raises(ValueError, match="more bytes than the archive"):
        read_archive(stream.getvalue())


def test_a_damaged_first_checkpoint_is_as_none(tmp_path: Path):
    store = CheckpointStore(tmp_path, "segment")
    store.write(checkpoint(1))
    (tmp_path / "segment-000001.npz").write_bytes(b"x")
    assert store.latest() is None


def test_all_damaged_is_an_error_with_a_remedy(store: CheckpointStore, tmp_path: Path):
    for file in tmp_path.iterdir():
        file.write_bytes(b"x")
    with pytest.raises(RunError, match="2 damaged files"):
        store.latest()


def test_stages_do_not_see_each_other(store: CheckpointStore, tmp_path: Path):
    other = CheckpointStore(tmp_path, "classify")
    assert other.latest() is None
    store.clear()
    assert store.latest() is None and list(tmp_path.iterdir()) == []
