from pathlib import Path

import pytest

from ggn_tf.errors import TableError
from ggn_tf.prediction.class_codes import ClassCode, private_code, read_class_codes

HEADER = "class,code,scheme,meaning\n"
MIA = "MIA,8256/3,ICDO3,Minimally invasive adenocarcinoma\n"


def write(path: Path, rows: str, header: str = HEADER) -> Path:
    path.write_text(header + rows, encoding="utf-8")
    return path


def test_a_table_gives_each_class_its_code(tmp_path: Path) -> None:
    path = write(tmp_path / "codes.csv", MIA + "AAH+AIS,LEPIDIC,99HOSPITAL,Präinvasiv\n")
    assert read_class_codes(path, ["AAH+AIS", "MIA", "IAC"]) == {
        "MIA": ClassCode("8256/3", "ICDO3", "Minimally invasive adenocarcinoma"),
        "AAH+AIS": ClassCode("LEPIDIC", "99HOSPITAL", "Präinvasiv"),
    }


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("IAC,,ICDO3,Adenocarcinoma\n", "row 3: no code"),
        (",8140/3,ICDO3,Adenocarcinoma\n", "row 3: no class"),
        ("IAC,8140/3,ICD-O-3,Adenocarcinoma\n", "row 3: scheme 'ICD-O-3'"),
        ("IAC,8140/3,99,Adenocarcinoma\n", "row 3: scheme '99'"),
        ("IAC,8140/3,99HOSPITAL-OF-THE-CITY,Adenocarcinoma\n", "row 3: scheme"),
        (f"IAC,8140/3,ICDO3,{'a' * 65}\n", "row 3: meaning"),
        (f"IAC,{'8' * 65},ICDO3,Adenocarcinoma\n", "row 3: code"),
        ("IAC,8140\\3,ICDO3,Adenocarcinoma\n", "row 3: code"),
        ("IAC,8140/3,ICDO3,Adeno\x07carcinoma\n", "row 3: meaning"),
        ("iac,8140/3,ICDO3,Adenocarcinoma\n", "row 3: class 'iac'"),
        (MIA, "row 3: class 'MIA' a second time"),
        ("IAC,8256/3,ICDO3,Adenocarcinoma\n", "row 3: code '8256/3' a second time"),
        ("IAC,8140/3,ICDO3,Adenocarcinoma,invasive\n", "row 3: 5 cells for 4 columns"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: str, found: str) -> None:
    with pytest.raises(TableError) as caught:
        read_class_codes(write(tmp_path / "codes.csv", MIA + row), ["MIA", "IAC"])
    assert found in str(caught.value.found)
    assert caught.value.arguments == ("codes",)


def test_every_bad_row_is_named_at_once(tmp_path: Path) -> None:
    rows = MIA + "IAC,,ICDO3,Adenocarcinoma\nAIS,8140/2,ICD,In situ\n"
    with pytest.raises(TableError) as caught:
        read_class_codes(write(tmp_path / "codes.csv", rows))
    assert "row 3: no code; row 4: scheme 'ICD'" in str(caught.value.found)


@pytest.mark.parametrize(
    ("content", "found"), [("", "no column"), (HEADER, "no rows"), ("class,code\nA,1\n", "scheme")]
)
def test_what_is_no_table_of_codes_is_refused(tmp_path: Path, content: str, found: str) -> None:
    with pytest.raises(TableError) as caught:
        read_class_codes(write(tmp_path / "codes.csv", content, ""))
    assert found in str(caught.value.found)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "codes.csv").write_bytes(bytes(range(256)))
    for name in ("missing.csv", "codes.csv"):
        with pytest.raises(TableError, match="class codes"):
            read_class_codes(tmp_path / name)


def test_private_codes_are_short_and_stable() -> None:
    assert private_code("C", "AAH+AIS", "AAH+AIS") == ClassCode("C-AAH+AIS", "99GGNTF", "AAH+AIS")
    # printf 浸潤性 | sha256sum | cut -c-12
    assert private_code("P", "浸潤性", "x").value == "P-0ed93bb7f598"
    assert len(private_code("C", "invasive adenocarcinoma", "x").value) <= 16
