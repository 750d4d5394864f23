"""Lengths of records that TensorFlow would reserve."""

from pathlib import Path

import pytest

from ggn_tf.tfrecords import check_records, read_records


def record(content: bytes, length: int | None = None) -> bytes:
    stated = len(content) if length is None else length
    return stated.to_bytes(8, "little") + bytes(4) + content + bytes(4)


def test_whole_records_are_accepted_at_every_offset(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(record(b"one") + record(b""))
    check_records(path)
    check_records(path, (0, 19))
    assert [*read_records(path)] == [b"one", b""]
    path.write_bytes(b"")
    check_records(path)


@pytest.mark.parametrize("content", [record(b"one", 2**62), record(b"one", 4), record(b"one") + b"cut", b"\xff" * 8])
def test_a_record_that_ends_beyond_its_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a record"):
        check_records(path)
    with pytest.raises(ValueError, match="a record"):
        [*read_records(path)]


@pytest.mark.parametrize("offset", [-1, 4, 10**30])
def test_an_offset_outside_the_file_is_refused(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(record(b"one"))
    with pytest.raises(ValueError, match=f"at byte {offset}"):
        check_records(path, [offset])
