import stat
from pathlib import Path

import pytest

from ggn_tf.cases.table import Case
from ggn_tf.dataset.identity import Pseudonyms, read_salt
from ggn_tf.errors import DatasetError


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
    assert KEPT.telling_columns([case(file="SMITH-01.nrrd")]) == set()


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("slice /data/hospital/SMITH/ct/SMITH_J_01.dcm is damaged", "slice <image> is damaged"),
        ("/data/hospital/SMITH/mask.nrrd: no voxel", "<mask>: no voxel"),
        ("patient MRN-77", f"patient {HASHED.id_of('MRN-77')}"),
        ("case SMITH-01", f"case {HASHED.id_of('SMITH-01')}"),
    ],
)
def test_a_reason_tells_neither_path_nor_id(text: str, hidden: str) -> None:
    assert HASHED.hide(text, case()) == hidden


def test_columns_that_name_a_case_are_found() -> None:
    rows = [case(sex="F", file="a", note="see MRN-77", number="SMITH-01"), case(sex="M", file="mask.nrrd", note="")]
    assert HASHED.telling_columns(rows) == {"file", "note", "number"}


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
    (tmp_path / "salt").write_text(content)
    with pytest.raises(DatasetError, match=rf"salt(?s:.*){found}(?s:.*)--salt-file"):
        read_salt(tmp_path / "salt")
    assert (tmp_path / "salt").read_text() == content


def test_a_salt_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"salt that hides the ids cannot be used(?s:.*)file/salt"):
        read_salt(tmp_path / "file" / "salt")
