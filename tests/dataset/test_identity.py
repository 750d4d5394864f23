import errno
import os
import pwd
import stat
import warnings
from pathlib import Path

import pytest

from ggn_tf.cases.tables.table import Case
from ggn_tf.dataset.case_outcome import RejectedCase, outcome_of
from ggn_tf.dataset.identity import Pseudonyms, read_salt, salt_path
from ggn_tf.errors import DatasetError, GgnWarning, VolumeError


def case(**extra: str) -> Case:
    folder = Path("/data/hospital")
    return Case("SMITH-01", "MRN-77", folder / "SMITH/ct", folder / "SMITH/mask.nrrd", "AIS", None, None, extra)


HASHED = Pseudonyms(b"key")
KEPT = Pseudonyms(None)


def test_an_id_becomes_the_start_of_its_hmac_sha256() -> None:
    # printf 'The quick brown fox jumps over the lazy dog' | openssl dgst -sha256 -hmac key
    assert HASHED.id_of("The quick brown fox jumps over the lazy dog") == "f7bc83f43053"


def test_another_salt_gives_another_id() -> None:
    assert Pseudonyms(b"a").id_of("MRN-77") != Pseudonyms(b"b").id_of("MRN-77")


def test_ids_can_be_kept() -> None:
    assert KEPT.id_of("MRN-77") == "MRN-77"
    assert KEPT.hide("file /data/hospital/SMITH/ct of SMITH-01", case()) == "file /data/hospital/SMITH/ct of SMITH-01"
    assert KEPT.identifying_columns([case(file="SMITH-01.nrrd")]) == set()


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("slice /data/hospital/SMITH/ct/SMITH_J_01.dcm is damaged", "slice <image> is damaged"),
        ("/data/hospital/SMITH/mask.nrrd: no voxel", "<mask>: no voxel"),
        ("patient MRN-77", f"patient {HASHED.id_of('MRN-77')}"),
        ("case SMITH-01", f"case {HASHED.id_of('SMITH-01')}"),
    ],
)
def test_a_reason_contains_neither_path_nor_id(text: str, hidden: str) -> None:
    assert HASHED.hide(text, case()) == hidden


@pytest.fixture
def series(tmp_path: Path) -> Case:
    """A folder with names as on a hospital's CD."""
    folder = tmp_path / "ROE JANE" / "scan"
    (folder / "Doe^Jim").mkdir(parents=True)
    for name in ("DOE_JOHN_19500101.dcm", "JANE ROE 4.dcm", "Doe^Jim/MUSTER.1.dcm"):
        (folder / name).write_bytes(b"")
    mask = tmp_path / "mask" / "Mueller.nii.gz"
    return Case("1", "2", folder, mask, "AIS", "Smith's", None, {}, series="2.25.7")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("one slice, DOE_JOHN_19500101.dcm", "one slice, <file>"),
        ("doe_john_19500101 is damaged", "<file> is damaged"),
        ("3 slices, JANE ROE 4.dcm first", "3 slices, <file> first"),
        ("at {image}/JANE ROE 4.dcm: 5 bytes", "at <image>: 5 bytes"),
        ("MUSTER.1.dcm in Doe^Jim", "<file> in <path>"),
        ("from ROE JANE", "from <path>"),
        ("Mueller has no voxel", "<path> has no voxel"),
        ("Mueller.nii.gz, Mueller.nii", "<path>, <path>"),
        ("expected series 2.25.7", "expected series <uid>"),
        ("2.25.7, 1.2.840.113619.2.55, 1.3.12.2", "<uid>, <uid>, <uid>"),
        ('no voxel of segment "Smith\'s".', "no voxel of segment <segment>."),
        ("The mask is empty.", "The mask is empty."),
        ("0.8 x 0.8 x 1.25 mm, 512 x 512, 12.5", "0.8 x 0.8 x 1.25 mm, 512 x 512, 12.5"),
    ],
)
def test_no_name_of_a_file_a_folder_or_a_series_is_shown(series: Case, text: str, hidden: str) -> None:
    assert HASHED.hide(text.format(image=series.image), series) == hidden


def rejection(pseudonyms: Pseudonyms, case: Case) -> RejectedCase:
    error = VolumeError(
        "The DICOM slices do not make a volume.",
        found="2 slices of 2.25.8 (DOE THORAX), one slice, DOE_JOHN_19500101.dcm",
        expected="at least two slices",
        remedy="Correct DOE_JOHN_19500101.dcm.",
    )
    outcome = outcome_of(case, error, pseudonyms, set())
    assert isinstance(outcome, RejectedCase)
    return outcome


def test_a_rejection_under_a_hash_does_not_quote_what_was_found(series: Case) -> None:
    rejected = rejection(HASHED, series)
    assert rejected.reason == "The DICOM slices do not make a volume; expected: at least two slices"
    assert rejected.remedy == "Correct <file>."


def test_a_rejection_under_a_kept_id_quotes_what_was_found(series: Case) -> None:
    assert "(DOE THORAX), one slice, DOE_JOHN_19500101.dcm; expected: at least" in rejection(KEPT, series).reason


def test_an_expectation_that_names_a_series_is_left_out(series: Case) -> None:
    error = VolumeError("No such series.", expected="series 2.25.7", remedy="Correct it.")
    assert outcome_of(series, error, HASHED, set()) == RejectedCase(HASHED.id_of("1"), "No such series", "Correct it.")


def test_columns_that_name_a_case_are_found() -> None:
    rows = [case(sex="F", file="a", note="see MRN-77", number="SMITH-01"), case(sex="M", file="mask.nrrd", note="")]
    assert HASHED.identifying_columns(rows) == {"file", "note", "number"}


def test_a_salt_is_made_for_its_owner_alone_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "config" / "salt"
    first = read_salt(path)
    assert len(first) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_salt(path) == first


def test_two_users_have_two_salts(tmp_path: Path) -> None:
    assert read_salt(tmp_path / "a") != read_salt(tmp_path / "b")


@pytest.mark.parametrize(("content", "found"), [("", "0 bytes"), ("abcd", "2 bytes"), ("salt!", "non-hexadecimal")])
def test_a_damaged_salt_is_refused_not_replaced(tmp_path: Path, content: str, found: str) -> None:
    (tmp_path / "salt").write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=found) as caught:
        read_salt(tmp_path / "salt")
    assert caught.value.arguments == ("salt_file", "keep_ids")
    assert (tmp_path / "salt").read_text(encoding="utf-8") == content


def test_a_salt_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DatasetError, match="file/salt"):
        read_salt(tmp_path / "file" / "salt")


def test_a_new_salt_is_announced_once(tmp_path: Path) -> None:
    with pytest.warns(GgnWarning, match="A new salt"):
        read_salt(tmp_path / "salt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_salt(tmp_path / "salt")


@pytest.mark.parametrize("settings", ["~/.config/ggn-tf", "ggn-tf", "config/ggn-tf"])
def test_without_a_home_there_is_no_salt_beside_the_data(monkeypatch: pytest.MonkeyPatch, settings: str) -> None:
    """click gives these folders without HOME and an entry in the list of users, and for a relative XDG_CONFIG_HOME."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", _unknown)
    for home in (None, ".", "data"):
        if home is not None:
            monkeypatch.setenv("HOME", home)
        with pytest.raises(DatasetError, match="no home folder") as caught:
            salt_path(None, Path(settings))
        assert caught.value.arguments == ("salt_file", "keep_ids")
        with pytest.raises(DatasetError, match="no home folder"):
            salt_path("~/salt", Path(settings))


def test_the_salt_is_in_the_user_s_settings_or_where_it_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a")
    assert salt_path(None, Path("/etc/xdg/ggn-tf")) == Path("/etc/xdg/ggn-tf/salt")
    assert salt_path(None, Path("ggn-tf")) == Path("/home/a/.config/ggn-tf/salt")
    assert salt_path("~/salt", Path("/x")) == Path("/home/a/salt")
    assert salt_path("here/salt", Path("/x")) == Path("here/salt")


def _unknown(number: int) -> None:
    raise KeyError(number)


def test_a_salt_on_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a salt would be refused by every later call."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DatasetError, match="No space left"):
        read_salt(tmp_path / "salt")
    assert list(tmp_path.iterdir()) == []


def test_names_of_a_folder_without_end_are_not_collected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ggn_tf.dataset.identity._MOST_FILES", 3)
    for number in range(9):
        (tmp_path / f"slice{number}.dcm").touch()
    row = Case("n1", "p1", tmp_path, None, "AIS", None, None, {})
    seen = sum(f"slice{number}" not in HASHED.hide(f"slice{number}.dcm", row) for number in range(9))
    assert seen == 3
