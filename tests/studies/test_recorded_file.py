"""Files with the digest beside them."""

import hashlib
from pathlib import Path

import pytest

from ggn_tf.errors import RunError
from ggn_tf.studies.item import check_recorded, recorded


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    with recorded(path):
        path.write_bytes(b"one")
    return path


def test_the_record_is_what_sha256sum_reads(path: Path) -> None:
    record = path.with_name("a.csv.sha256")
    assert record.read_text(encoding="utf-8") == f"{hashlib.sha256(b'one').hexdigest()}  a.csv\n"
    check_recorded(path)


def test_another_file_is_refused_and_one_without_a_record_is_accepted(path: Path) -> None:
    path.write_bytes(b"onf")
    with pytest.raises(RunError, match=r"not the one that was written(?s:.*)a\.csv"):
        check_recorded(path)
    path.with_name("a.csv.sha256").unlink()
    check_recorded(path)


def test_a_kill_while_it_is_written_leaves_no_record_of_the_former_file(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), recorded(path):
        path.write_bytes(b"two")
        raise KeyboardInterrupt
    check_recorded(path)
