"""Names of columns that are almost those with a meaning, and cells that a program may have changed."""

from pathlib import Path

import openpyxl
import pytest

from ggn_tf.cases.tables.table import open_table

HEADER = ["case_id", "patient_id", "image", "mask", "label"]
ROW = ["n1", "p1", "a.nii", "b.nii", "AIS"]
CENTER = ["center_x_mm", "center_y_mm", "center_z_mm"]


def csv(folder: Path, *rows: list[str], separator: str = ",", encoding: str = "utf-8") -> Path:
    path = folder / "t.csv"
    path.write_text("".join(separator.join(row) + "\n" for row in rows), encoding=encoding)
    return path


def workbook(folder: Path, *rows: list[object]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(folder / "t.xlsx")
    return folder / "t.xlsx"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("centre_x_mm", "center_x_mm"),
        ("Center X", "center_x_mm"),
        ("Segment", "segment"),
        ("SeriesInstanceUID", "series"),
    ],
)
def test_a_column_that_is_not_read_although_its_name_is_almost_right_is_noted(
    tmp_path: Path, name: str, meant: str
) -> None:
    table = open_table(csv(tmp_path, [*HEADER, name, "age"], [*ROW, "1", "60"]))
    assert table.notes == (f"the column {name!r} has no meaning and is only carried along; the name {meant!r} has one",)


def test_a_name_beside_the_one_with_the_meaning_is_a_further_column(tmp_path: Path) -> None:
    assert open_table(csv(tmp_path, [*HEADER, "series", "SeriesUID"], [*ROW, "1.2", "1.3"])).notes == ()


def test_ids_and_labels_that_look_like_dates_are_noted(tmp_path: Path) -> None:
    path = csv(tmp_path, HEADER, ["n1", "02-Mar", *ROW[2:]], ["n2", "Mar-20", *ROW[2:]], ["n3", "3-20", *ROW[2:]])
    assert open_table(path).notes == (
        "patient_id looks like a date in rows 2, 3, for example '02-Mar': spreadsheet programs turn texts such as 3-2 "
        "into dates",
    )


def test_a_date_of_a_workbook_has_no_time(tmp_path: Path) -> None:
    import datetime

    table = open_table(workbook(tmp_path, HEADER, ["n1", datetime.datetime(2026, 3, 2), *ROW[2:]]))
    assert table.rows[2].patient_id == "2026-03-02" and "looks like a date in row 2" in table.notes[0]


@pytest.mark.parametrize("text", ["NA", "nan", "unknown"])
def test_marks_of_a_missing_value_are_noted(tmp_path: Path, text: str) -> None:
    (note,) = open_table(csv(tmp_path, HEADER, ROW, ["n2", text, *ROW[2:]], ["n3", text, *ROW[2:]])).notes
    assert note.startswith(f"patient_id is {text!r} in rows 3, 4,")


@pytest.mark.parametrize("text", ["1.23457E+18", "1,23E+05", "1E+05"])
def test_a_number_that_was_shortened_is_no_id(tmp_path: Path, text: str) -> None:
    (problem,) = open_table(csv(tmp_path, HEADER, ["n1", text, *ROW[2:]], separator=";")).problems
    assert problem.text == f"patient_id is {text}, a number that a spreadsheet program shortened"


def test_a_number_of_a_workbook_that_lost_digits_is_no_id(tmp_path: Path) -> None:
    rows = [[f"n{number}", value, *ROW[2:]] for number, value in enumerate((12345678901234567.0, 123456789012345.0))]
    table = open_table(workbook(tmp_path, HEADER, *rows))
    assert [problem.rows for problem in table.problems] == [(2,)]
    assert table.rows[3].patient_id == "123456789012345"


@pytest.mark.parametrize("text", ["1E5", "E12", "12E"])
def test_an_id_with_an_e_is_an_id(tmp_path: Path, text: str) -> None:
    assert open_table(csv(tmp_path, HEADER, ["n1", text, *ROW[2:]])).problems == ()


def test_a_comma_beside_decimal_points_is_no_decimal_comma(tmp_path: Path) -> None:
    rows = [[*ROW, "12.5", "-30.25", "-99.5"], ["n2", *ROW[1:], "12.5", "-30.25", "-1,234"]]
    (problem,) = open_table(csv(tmp_path, [*HEADER, *CENTER], *rows, separator="\t")).problems
    assert problem.rows == (3,) and problem.text == "center_z_mm is '-1,234'"


@pytest.mark.parametrize(("text", "value"), [("\u221212.5", -12.5), ("1e1", 10.0), (".5", 0.5), ("+3", 3.0)])
def test_a_number_of_a_centre(tmp_path: Path, text: str, value: float) -> None:
    center = open_table(csv(tmp_path, [*HEADER, *CENTER], [*ROW, text, "1", "2"])).rows[2].center_mm_lps
    assert center == (value, 1.0, 2.0)


@pytest.mark.parametrize("text", ["1_0", "\u0661\u0662", "0x10", "12 mm", "inf"])
def test_what_is_no_number_of_a_centre(tmp_path: Path, text: str) -> None:
    (problem,) = open_table(csv(tmp_path, [*HEADER, *CENTER], [*ROW, text, "1", "2"])).problems
    assert problem.text == f"center_x_mm is {text!r}"


def test_a_formula_without_a_stored_value_is_not_an_empty_cell(tmp_path: Path) -> None:
    rows = [[*ROW, "=1+1", "=2", "x"], ["n2", *ROW[1:], "2", "", "=3"]]
    (problem,) = open_table(workbook(tmp_path, [*HEADER, "segment", "series", "note"], *rows)).problems
    assert problem.rows == (2,)
    assert problem.text.startswith("a formula without a stored value in segment, series:")


def test_the_unicode_text_of_excel_is_read(tmp_path: Path) -> None:
    table = open_table(csv(tmp_path, HEADER, ["n1", "M\u00fcller", *ROW[2:]], separator="\t", encoding="utf-16"))
    assert table.rows[2].patient_id == "M\u00fcller" and table.problems == ()
