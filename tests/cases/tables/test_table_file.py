import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import openpyxl
import pytest

from ggn_tf.cases.tables.table import open_table
from ggn_tf.cases.tables.table_file import read_table_file
from ggn_tf.errors import TableError
from tests.support.case_files import read_table

HEADER = ("case_id", "patient_id", "image", "mask", "label")
ROW = ("n1", "p1", "a.nii", "b.nii", "AIS")


def write(path: Path, *rows: Sequence[object]) -> Path:
    """A CSV or a workbook, by the suffix."""
    if path.suffix == ".csv":
        path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    else:
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(list(row))
        book.save(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("label", "label"),
        ("label", "label "),
        (" label", "label"),
        ("label", "Label"),
        ("label", "label\xa0"),
        ("\ufefflabel", "label"),
        ("patient_id", "patient_id "),
        ("note", "Note"),
    ],
)
def test_two_columns_of_one_name_are_refused_with_both(tmp_path: Path, suffix: str, first: str, second: str) -> None:
    names = [name for name in HEADER if name != first.strip("\ufeff ")]
    path = write(tmp_path / f"t{suffix}", [*names, first, second], [*ROW[: len(names)], "MIA", "IAC"])
    with pytest.raises(TableError, match="same name") as caught:
        read_table(path)
    position = len(names) + 1
    assert caught.value.found == f"column {position} {first!r} and column {position + 1} {second!r}"


def test_names_are_read_without_invisible_characters(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ["\ufeff\ufeffcase_id", "patient_id\xa0", "image", "mask", " label\u200b"], ROW)
    assert [(case.case_id, case.label) for case in read_table(path)] == [("n1", "AIS")]


def test_empty_columns_have_no_name_to_repeat(tmp_path: Path) -> None:
    (case,) = read_table(write(tmp_path / "t.csv", [*HEADER, "", ""], [*ROW, "", ""]))
    assert case.extra == {}


@pytest.mark.parametrize("line", ["sep=;", "SEP=;", '"sep=;"', "\ufeffsep=;", "sep=;;;;;"])
def test_a_line_that_states_the_separator_is_no_header(tmp_path: Path, line: str) -> None:
    rows = [line, ";".join(HEADER), ";".join(ROW), "n2;p1;a,nii;b.nii;"]
    (tmp_path / "t.csv").write_text("\n".join(rows), encoding="utf-8")
    table = open_table(tmp_path / "t.csv")
    assert table.rows[2].case_id == "n1" and table.rows[3].image.name == "a,nii"
    # As Excel numbers them, which does not show the line.
    assert table.problems_of_rows() == {3: ["no label"]}


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_are_numbers_where_the_comma_separates_nothing(tmp_path: Path, separator: str) -> None:
    rows = [
        [*HEADER, "center_x_mm", "center_y_mm", "center_z_mm", "age"],
        [*ROW[:4], "4,0", "-1,5", "2.25", "3", "6,5"],
    ]
    (tmp_path / "t.csv").write_text("\n".join(map(separator.join, rows)), encoding="utf-8")
    (case,) = read_table(tmp_path / "t.csv")
    assert (case.center_mm_lps, case.label, case.extra) == ((-1.5, 2.25, 3.0), "4.0", {"age": "6,5"})


def test_a_thousands_separator_is_no_number(tmp_path: Path) -> None:
    rows = [[*HEADER, "center_x_mm", "center_y_mm", "center_z_mm"], [*ROW, "1.234,5", "1", "1"]]
    (tmp_path / "t.csv").write_text("\n".join(map(";".join, rows)), encoding="utf-8")
    with pytest.raises(TableError, match=r"center_x_mm is '1.234,5'"):
        read_table(tmp_path / "t.csv")


def test_the_sheet_that_was_read_is_named_and_the_others(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "old"
    book.active.sheet_state = "hidden"
    book.active.append(["case_id", "something else"])
    for title, state in (("nodules", "visible"), ("lists", "veryHidden"), ("notes", "visible")):
        sheet = book.create_sheet(title)
        sheet.sheet_state = state
        sheet.append(HEADER)
        sheet.append(ROW)
    book.active = 1
    book.save(tmp_path / "t.xlsx")
    table = open_table(tmp_path / "t.xlsx")
    assert table.notes == (
        "of the workbook the sheet 'nodules' was read, and not 'old' (hidden), 'lists' (hidden), 'notes'",
    )


def test_charts_of_a_workbook_are_no_sheets(tmp_path: Path) -> None:
    book = openpyxl.load_workbook(write(tmp_path / "t.xlsx", HEADER, ROW))
    book.create_chartsheet("Ages", 0)
    book.save(tmp_path / "t.xlsx")
    assert open_table(tmp_path / "t.xlsx").rows[2].case_id == "n1"
    book.remove(book.worksheets[0])
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(TableError, match="cannot be read as a table") as caught:
        open_table(tmp_path / "t.xlsx")
    assert caught.value.found == "no sheet with cells, only charts: 'Ages'"


def test_rows_and_columns_that_a_workbook_hides_are_noted_by_number_and_read(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for number in range(1, 6):
        sheet.append(HEADER if number == 1 else [f"n{number}", *ROW[1:]])
    sheet.auto_filter.ref = "A1:E5"
    sheet.auto_filter.add_filter_column(0, ["n2", "n5"])
    sheet.row_dimensions[3].hidden = sheet.row_dimensions[4].hidden = True
    sheet.row_dimensions[900].hidden = True
    sheet.column_dimensions["E"].hidden = True
    book.save(tmp_path / "t.xlsx")
    table = open_table(tmp_path / "t.xlsx")
    assert len(table.rows) == 4
    assert table.notes == (
        "2 rows that the workbook hides, for example by a filter, were read as well: 3, 4",
        "1 column that the workbook hides were read as well: label",
    )


def test_merged_cells_are_noted_because_only_the_first_has_a_value(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (HEADER, ROW, ["n2", *ROW[1:]]):
        book.active.append(row)
    book.active.merge_cells("B2:B3")
    book.save(tmp_path / "t.xlsx")
    table = open_table(tmp_path / "t.xlsx")
    assert table.notes == ("merged cells, of which only the first has a value: B2:B3",)
    assert table.problems_of_rows() == {3: ["no patient_id"]}


def test_a_line_break_that_a_workbook_stores_as_an_escape_is_one(tmp_path: Path) -> None:
    rows = (["label_x000D_\n" if name == "label" else name for name in HEADER], [*ROW[:4], "AIS_x000D_"])
    (case,) = read_table(write(tmp_path / "t.xlsx", *rows))
    assert (case.label, case.extra) == ("AIS", {})


def test_a_plain_workbook_has_no_note(tmp_path: Path) -> None:
    assert open_table(write(tmp_path / "t.xlsx", HEADER, ROW)).notes == ()


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ([*ROW[:4], "#N/A"], "label is #N/A"),
        (["n1", "p1", "#REF!", *ROW[3:]], "image is #REF!"),
        (["n1", "", "", *ROW[3:]], "no patient_id"),
    ],
)
def test_a_row_without_its_values_does_not_hide_another(
    tmp_path: Path, suffix: str, row: list[str], problem: str
) -> None:
    table = open_table(write(tmp_path / f"t{suffix}", HEADER, row, ["n2", *ROW[1:]], ["n3", *ROW[1:4], "A+B"]))
    problems = table.problems_of_rows()
    assert list(problems) == [2, 4] and problem in problems[2] and problems[4] == ["label 'A+B'"]
    with pytest.raises(TableError, match="2 unusable rows"):
        read_table(table.path)


def test_more_cells_than_columns_are_an_error_of_their_row_alone(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "t.csv", HEADER, [*ROW, "", ""], ["n2", *ROW[1:], "", "x"]))
    assert table.problems_of_rows() == {3: ["7 cells for 5 columns"]}


def test_a_quotation_mark_that_is_not_closed_is_named_with_its_row(tmp_path: Path) -> None:
    lines = [",".join(HEADER), ",".join(ROW), 'n2,p1,a.nii,"b.nii,AIS', "n3,p1,a.nii,b.nii,AIS", ""]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    problems = open_table(tmp_path / "t.csv").problems_of_rows()
    assert list(problems) == [3] and "a quotation mark that is not closed; the next rows are part of it" in problems[3]


def test_rows_that_a_quotation_mark_joins_are_refused(tmp_path: Path) -> None:
    lines = [",".join(HEADER), 'n1,p1,"a.nii,b.nii,AIS', 'n2,p1,a".nii,b.nii,AIS', ""]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    assert "a line break in image" in open_table(tmp_path / "t.csv").problems_of_rows()[2]


def test_a_workbook_under_another_name_is_refused_as_a_workbook(tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        read_table(write(tmp_path / "t.xlsx", HEADER, ROW).rename(tmp_path / "t.csv"))
    assert caught.value.found == "an Excel workbook whose name ends in '.csv'"


def test_a_wide_sheet_is_refused(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(HEADER)
    book.active["XFD2"] = 1
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(TableError, match="cannot be read as a table") as caught:
        read_table(tmp_path / "t.xlsx")
    assert caught.value.found == "16384 columns, more than 1000"


@pytest.mark.parametrize(
    ("text", "case_id"),
    [
        ("sep=\t\n" + "\t".join(HEADER) + "\n" + "\t".join(ROW), "n1"),
        ("sep=|\n" + "|".join(HEADER) + "\n" + "|".join(ROW), "n1"),
        ("\n\n" + ",".join(HEADER) + "\n" + ",".join(ROW), "n1"),
        ('"size (x, y, z, t, u, v) mm";' + ";".join(HEADER) + "\n1;" + ";".join(ROW), "n1"),
        (",".join(HEADER) + '\r="0007",' + ",".join(ROW[1:]), "0007"),
    ],
)
def test_files_of_other_programs_are_read(tmp_path: Path, text: str, case_id: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    assert [case.case_id for case in read_table(tmp_path / "t.csv")] == [case_id]


COSTLY = {
    "a cell of many names": b'<c r="A2" x=\'' + b'r="A1" ' * 60_000 + b"'/>",
    "hidden rows without an end": b'<row r="1" max="1048576" min="1" hidden="1"/>' * 10_000,
    "a formula before many blanks": b'<c r="A1"><f/>' + b" " * 400_000,
    "one formula many times": b'<c r="A2"><f/></c>' * 25_000,
}
UNREADABLE = {
    "a long comment": (b"<!--" + b"<>" * 2**23 + b"-->", "a mark of more than 524288 bytes"),
    "a long instruction": (b"<?x " + b"<>" * 2**23 + b"?>", "a mark of more than 524288 bytes"),
    "a long name": (b'<x y="' + b"a" * 2**24 + b'"/>', "a mark of more than 524288 bytes"),
    "many styles": (b"<fonts>" + b"<font/>" * 10**6 + b"</fonts>", "styles and names, more than 200000"),
}


def with_parts(path: Path, added: dict[str, bytes], *, before: bytes, after: bytes) -> Path:
    """A workbook with further parts, and with another text in its other parts."""
    write(path, HEADER, ROW)
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, content in parts.items():
            book.writestr(name, content.replace(before, after))
        for name, content in added.items():
            book.writestr(name, content)
    return path


def with_further_xml(path: Path, xml: bytes) -> Path:
    return with_parts(path, {}, before=b"</worksheet>", after=xml + b"</worksheet>")


@pytest.mark.parametrize("name", COSTLY)
def test_what_a_sheet_hides_is_found_in_little_time(tmp_path: Path, name: str) -> None:
    path, begun = with_further_xml(tmp_path / "t.xlsx", b"<!--" + COSTLY[name] + b"-->"), time.process_time()
    assert read_table_file(path).rows[2]["case_id"] == "n1"
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_no_spreadsheet_program_writes_is_refused_in_little_time(tmp_path: Path, name: str) -> None:
    xml, found = UNREADABLE[name]
    path, begun = with_further_xml(tmp_path / "t.xlsx", xml), time.process_time()
    with pytest.raises(TableError, match=found):
        read_table_file(path)
    assert time.process_time() - begun < 5


LINK = "xl/externalLinks/externalLink1.xml"
NAMESPACE = b"http://schemas.openxmlformats.org/officeDocument/2006/relationships"
REFERENCE = b'<externalReferences><externalReference xmlns:r="%b" r:id="rId9"/></externalReferences>' % NAMESPACE
OTHER_PARTS = {
    "a query in UTF-16": ("customXml/item1.xml", "<DataMashup>AAAA</DataMashup>".encode("utf-16")),
    "a vector graphic": ("xl/media/image1.svg", b"<?xml version='1.0'?><!DOCTYPE svg><svg/>"),
    "a picture with a sign": ("xl/media/image2.bmp", b"BM<" + bytes(2**20)),
    "cells of another workbook": (LINK, b"<sheetData>" + b'<cell r="A1"/>' * 210_000 + b"</sheetData>"),
    "a pivot table": ("xl/pivotCache/pivotCacheRecords1.xml", b"<r>" + b'<x v="0"/>' * 210_000 + b"</r>"),
}


@pytest.mark.parametrize("name", OTHER_PARTS)
def test_parts_that_are_not_read_may_contain_anything(tmp_path: Path, name: str) -> None:
    path = with_parts(
        tmp_path / "t.xlsx", dict([OTHER_PARTS[name]]), before=b"</sheets>", after=b"</sheets>" + REFERENCE
    )
    assert read_table_file(path).rows[2]["case_id"] == "n1"


@pytest.mark.parametrize("content", ["<worksheet/>".encode("utf-16"), b"<!DOCTYPE x><worksheet/>"])
def test_a_sheet_is_checked_wherever_it_is_stored(tmp_path: Path, content: bytes) -> None:
    part = "customXml/item1.xml"
    path = with_parts(tmp_path / "t.xlsx", {part: content}, before=b"xl/worksheets/sheet1.xml", after=part.encode())
    with pytest.raises(TableError, match="cannot be read as a table") as caught:
        read_table_file(path)
    assert caught.value.found == "a part in UTF-16, or with a document type"


@pytest.mark.parametrize("end", ["\n", "\r"])
def test_a_file_of_empty_lines_is_refused_before_it_is_split(tmp_path: Path, end: str) -> None:
    (tmp_path / "cases.csv").write_text(end * 2_000_001, encoding="utf-8", newline="")
    with pytest.raises(TableError, match="2000001 lines"):
        read_table_file(tmp_path / "cases.csv")
