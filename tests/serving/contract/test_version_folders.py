from pathlib import Path

import pytest

from ggn_tf.errors import ExportError
from ggn_tf.serving.contract.version_folders import (
    LARGEST_VERSION,
    find_version,
    list_versions,
    newest_version,
    next_version,
)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("1", 1),
        ("0", 0),
        ("0000007", 7),
        ("+7", 7),
        (" 7 ", 7),
        (str(LARGEST_VERSION), LARGEST_VERSION),
        ("0" * 30 + str(LARGEST_VERSION), LARGEST_VERSION),
        *((name, None) for name in (str(LARGEST_VERSION + 1), "20250101120000123456789", "9" * 200)),
        *((name, None) for name in ("-3", "1_0", "1.0", "0x1", "1e3", "++1", "+ 1", "٣", "２", "²", "latest", "1 2")),
    ],
)
def test_a_name_is_the_number_that_tensorflow_serving_reads(tmp_path: Path, name: str, number: int | None):
    """absl::SimpleAtoi on 64 bits; a negative number is none."""
    (tmp_path / name).mkdir()
    assert list_versions(tmp_path) == ({} if number is None else {number: tmp_path / name})


def test_of_two_names_of_one_number_the_last_is_taken(tmp_path: Path):
    for name in ("1", "01", "+1", "001"):
        (tmp_path / name).mkdir()
    assert list_versions(tmp_path) == {1: tmp_path / "1"}


def test_a_timestamp_beyond_64_bits_disturbs_neither_the_newest_nor_the_next(tmp_path: Path):
    for name in ("1", "20250101120000123456789"):
        (tmp_path / name).mkdir()
    assert newest_version(tmp_path) == (1, tmp_path / "1")
    assert next_version(tmp_path) == 2


def test_after_the_largest_number_there_is_none(tmp_path: Path):
    (tmp_path / str(LARGEST_VERSION)).mkdir()
    with pytest.raises(ExportError, match=str(LARGEST_VERSION)):
        next_version(tmp_path)


@pytest.mark.parametrize("name", ["20250101120000123456789", "-3", "final"])
def test_a_renamed_version_directory_has_no_number(tmp_path: Path, name: str):
    (tmp_path / name / "assets.extra").mkdir(parents=True)
    (tmp_path / name / "assets.extra" / "contract.json").touch()
    assert find_version(tmp_path / name) == (0, tmp_path / name)
