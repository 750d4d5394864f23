"""The file of a case table, CSV or Excel: its columns and its rows, every cell as text."""

import codecs
import csv
import datetime
import io
import itertools
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggn_tf.cases.spelling import folded, trimmed
from ggn_tf.errors import TableError
from ggn_tf.shown_text import printable

Row = dict[str, str]
Cells = list[str]

_EXCEL = (".xlsx", ".xlsm")
# Excel's and LibreOffice's way to state the separator; the programs do not show this line.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[,;\t]*', re.IGNORECASE)
_QUOTED = re.compile('"[^"]*"')
# Workbooks keep 15 digits of a number.
_MOST_EXACT = 10**15
_END = "\0end of the file"
# Tables of ten thousand nodules have less than one million cells and 10 MB.
_MOST_COLUMNS, _MOST_CELLS, _MOST_BYTES = 1000, 2_000_000, 32 << 20
# The parser of XML reads an unfinished mark again with every further block; what is no text has a few hundred bytes.
_LONGEST_MARK = 2**19
_LONG_MARK = re.compile(rb"<!--.*?(?:-->|\Z)|<\?.*?(?:\?>|\Z)|<[^<]{%d}" % _LONGEST_MARK, re.DOTALL)
_WIDE = re.compile(rb"\xff\xfe|\xfe\xff|\0[<\s]|[<\s]\0")
# All but rows, cells and their texts, which are counted as cells. openpyxl takes 10 us for each.
_COSTLY_MARK, _MOST_COSTLY_MARKS = re.compile(rb"<(?![/?!]|(?:\w+:)?(?:row|c|f|v|is|si|t)[\s/>])"), 200_000
# Up to the next mark and not beyond: a comment may contain any number of beginnings.
_HIDDEN = re.compile(rb'<(?:\w+:)?(row|col)\s(?=[^<>]*\b(?:hidden="(?:1|true)"|ht="0(?:\.0+)?"))([^<>]*)>')
# The attributes of a cell whose formula has no value that the program last computed. Blanks are not tried twice (*+).
_UNVALUED = re.compile(
    rb"<(?:\w+:)?c\s([^<>]*)>\s*+<(?:\w+:)?f\b[^<>]*(?:/>|>[^<>]*</(?:\w+:)?f>)\s*+"
    rb"(?:<(?:\w+:)?v\s*+/>|<(?:\w+:)?v>\s*+</(?:\w+:)?v>)?\s*+</(?:\w+:)?c>"
)
# An empty text is the value of a formula that makes texts.
_CELL, _VALUED = re.compile(rb'\br="([A-Z]{1,3})(\d+)"'), re.compile(rb'\bt="str"')
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s[^<>]*\bref="([A-Z]{1,3}\d+:[A-Z]{1,3}\d+)"')
# Line breaks within a cell, as workbooks store them and openpyxl returns them.
_ESCAPED = re.compile("_x000(?:A|a|D|d)_")
_SHOWN = 5
_ROW, _FIRST, _LAST = (re.compile(rb'\b%b="(\d+)"' % name) for name in (b"r", b"min", b"max"))


@dataclass(frozen=True)
class RowProblem:
    """Something in one row or in several that makes them unusable.

    Attributes:
        rows: Their numbers in the spreadsheet.
        text: What is wrong with them.
    """

    rows: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class TableFile:
    """The content of a table's file.

    Attributes:
        columns: The names of the columns that are not empty, trimmed. Of columns with one name only the first is read.
        rows: The rows that are not blank, by their number in the spreadsheet; cells by column, trimmed.
        header_row: The number of the row with the names.
        problems: Rows that cannot be assigned to the columns.
        repeated: For each group of columns with one name their positions and names, for a reader.
        decimal_comma: Whether numbers are written with a decimal comma.
        notes: What a user does not see in the spreadsheet program.
        unvalued: By row, the columns with a formula whose value is not stored, which are read as empty.
    """

    columns: tuple[str, ...]
    rows: dict[int, Row]
    header_row: int = 1
    problems: tuple[RowProblem, ...] = ()
    repeated: tuple[str, ...] = ()
    decimal_comma: bool = False
    notes: tuple[str, ...] = ()
    unvalued: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Sheet:
    """All cells of a file, row by row, and what is known about the file."""

    rows: Iterable[Cells]
    decimal_comma: bool = False
    hidden_rows: frozenset[int] = frozenset()
    hidden_columns: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()
    unvalued: tuple[tuple[int, int], ...] = ()


def read_table_file(path: Path) -> TableFile:
    """Read a table.

    Args:
        path: A .csv file (comma, semicolon or tab, or as its first line `sep=` states; UTF-8), or an .xlsx workbook, of
            which the first visible sheet is read.

    Raises:
        TableError: The file is missing or is not a table.
    """
    if not path.is_file():
        raise TableError(
            "The case table does not exist.", case=path, remedy="Name a .csv or .xlsx file with one row per nodule."
        )
    try:
        return _content(_read_workbook(path) if path.suffix.lower() in _EXCEL else _read_csv(path))
    except Exception as error:
        # The readers raise a dozen unrelated types on other files: zip, XML and codec errors.
        raise TableError(
            "The case table cannot be read as a table.",
            case=path,
            found=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
            expected="a .csv file (comma, semicolon or tab, UTF-8) or an .xlsx workbook",
            remedy="Save it again from the spreadsheet program as 'CSV UTF-8' or as .xlsx, with this suffix.",
        ) from error


def _content(sheet: _Sheet) -> TableFile:
    numbered = ((number, cells) for number, cells in enumerate(sheet.rows, start=1) if any(map(str.strip, cells)))
    header_row, header = next(numbered, (1, []))
    rows, problems, used = dict[int, Cells](), list[RowProblem](), set[int]()
    for number, cells in numbered:
        rows[number] = texts = [_cell_text(cell) for cell in cells]
        used.update(index for index, text in enumerate(texts) if text)
        if any(texts[len(header) :]):
            found = max(index for index, text in enumerate(texts, start=1) if text)
            problems.append(RowProblem((number,), f"{found} cells for {len(header)} columns"))
        if cells[-1].endswith(_END):
            problems.append(RowProblem((number,), "a quotation mark that is not closed; the next rows are part of it"))
    names = {index: trimmed(name) for index, name in enumerate(header)}
    names = {index: name or f"Unnamed: {index}" for index, name in names.items() if name or index in used}
    by_name: defaultdict[str, list[int]] = defaultdict(list)
    for index, name in names.items():
        by_name[folded(name)].append(index)
    first = {indices[0]: names[indices[0]] for indices in by_name.values()}
    hidden = [name for index, name in first.items() if index in sheet.hidden_columns]
    unvalued: defaultdict[int, tuple[str, ...]] = defaultdict(tuple)
    for number, index in sheet.unvalued:
        unvalued[number] += (first[index],) if index in first else ()
    return TableFile(
        columns=tuple(first.values()),
        rows={
            number: {name: cells[index] if index < len(cells) else "" for index, name in first.items()}
            for number, cells in rows.items()
        },
        header_row=header_row,
        problems=tuple(problems),
        repeated=tuple(_positions(indices, header) for indices in by_name.values() if len(indices) > 1),
        decimal_comma=sheet.decimal_comma,
        notes=(*sheet.notes, *_hidden_notes(sorted(sheet.hidden_rows & rows.keys()), hidden)),
        unvalued=dict(unvalued),
    )


def _cell_text(cell: str) -> str:
    text = printable(cell.removesuffix(_END)).strip()
    # Spreadsheet programs show ="0007" as 0007: it is how other programs keep zeros.
    return text[2:-1] if text.startswith('="') and text.endswith('"') else text


def _positions(indices: Sequence[int], header: Cells) -> str:
    return " and ".join(f"column {index + 1} {header[index]!r}" for index in indices)


def _hidden_notes(rows: Sequence[int], columns: Sequence[str]) -> Iterator[str]:
    if rows:
        numbers = ", ".join(map(str, rows))
        yield f"{_counted(rows, 'row')} that the workbook hides, for example by a filter, were read as well: {numbers}"
    if columns:
        yield f"{_counted(columns, 'column')} that the workbook hides were read as well: {', '.join(columns)}"


def _counted(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _read_csv(path: Path) -> _Sheet:
    _refuse_more_bytes(path.stat().st_size)
    content = path.read_bytes()
    if content.startswith(b"PK") and b"xl/workbook." in content:
        raise ValueError(f"an Excel workbook whose name ends in {path.suffix or path.name!r}")
    # Before a million empty lines become a million texts.
    count = content.count(b"\n") + content.count(b"\r")
    if count > _MOST_CELLS:
        raise ValueError(f"{count} lines, more than {_MOST_CELLS}")
    # Excel's "Unicode Text".
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    lines = io.StringIO(content.decode("utf-16" if wide else "utf-8-sig"), newline="").readlines()
    header = next((line for line in lines if line.strip()), "")
    stated = _SEPARATOR_LINE.fullmatch(header.lstrip("\ufeff").rstrip("\r\n"))
    if stated:
        lines = lines[lines.index(header) + 1 :]
    # Spreadsheet programs write the country's separator: a semicolon where the comma is the decimal point.
    separator = stated[1] if stated else max(",;\t", key=_QUOTED.sub("", header).count)
    *rows, last = _bounded(csv.reader(itertools.chain(lines, [_END]), delimiter=separator))
    if last != [_END]:
        rows.append(last)
    return _Sheet(rows, decimal_comma=separator != ",")


def _read_workbook(path: Path) -> _Sheet:
    # Imported here: only workbooks need it.
    from openpyxl.chartsheet import Chartsheet
    from openpyxl.reader.excel import ExcelReader
    from openpyxl.utils import column_index_from_string

    class WorkbookReader(ExcelReader):  # type: ignore[misc]  # openpyxl has no types
        """A reader that skips the content of chart sheets, on some of which openpyxl fails."""

        def read_chartsheet(self, sheet: Any, rel: Any) -> None:
            self.wb._add_sheet(Chartsheet(parent=self.wb, title=sheet.name))

    reader = WorkbookReader(path, read_only=True, data_only=True, keep_links=False)
    reader.archive.close()
    reader.archive = archive = _Archive(path)
    with archive:
        reader.read()
        book = reader.wb
        visible = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"] or book.worksheets
        if not visible:
            raise ValueError(f"no sheet with cells, only charts: {', '.join(map(repr, book.sheetnames))}")
        sheet, others = visible[0], [other for other in book.worksheets if other is not visible[0]]
        sheet.reset_dimensions()
        with closing(sheet.rows) as rows_of_cells:
            cells = list(_bounded(_texts(row) for row in rows_of_cells))
        # openpyxl ignores what is hidden where it reads row by row.
        xml = archive.read(sheet._worksheet_path)
    rows, columns = _hidden(xml)
    names = ", ".join(f"{other.title!r}{'' if other.sheet_state == 'visible' else ' (hidden)'}" for other in others)
    notes = [f"of the workbook the sheet {sheet.title!r} was read, and not {names}"] if others else []
    if merged := [area.decode() for area in _MERGED.findall(xml)]:
        listed = ", ".join(merged[:_SHOWN]) + (", ..." if len(merged) > _SHOWN else "")
        notes.append(f"merged cells, of which only the first has a value: {listed}")
    places = {
        cell.groups() for found in _UNVALUED.findall(xml) if not _VALUED.search(found) and (cell := _CELL.search(found))
    }
    unvalued = tuple(sorted((int(row), column_index_from_string(letters.decode()) - 1) for letters, row in places))
    return _Sheet(cells, hidden_rows=rows, hidden_columns=columns, notes=tuple(notes), unvalued=unvalued)


def _bounded(rows: Iterable[Cells]) -> Iterator[Cells]:
    """The rows, as long as there are not more cells than a table has."""
    count = 0
    for cells in rows:
        count += 1 + len(cells)
        if len(cells) > _MOST_COLUMNS:
            raise ValueError(f"{len(cells)} columns, more than {_MOST_COLUMNS}")
        if count > _MOST_CELLS:
            raise ValueError(f"more than {_MOST_CELLS} cells")
        yield cells


def _refuse_more_bytes(count: int) -> None:
    if count > _MOST_BYTES:
        raise ValueError(f"{count} bytes, more than {_MOST_BYTES}")


class _CostlyPartError(Exception):
    """No ValueError, to which openpyxl gives another text."""


class _Archive(zipfile.ZipFile):
    """A workbook whose parts are checked before openpyxl gets them: what takes it minutes is refused.

    Other parts may contain anything: pictures, links to other workbooks, pivot tables and what programs add, of which
    openpyxl with our options opens none.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # No more is read of a part than the list of parts states.
        _refuse_more_bytes(sum(part.file_size for part in self.infolist()))
        self._checked = dict[str, bytes]()
        self._marks = 0

    def open(self, name: str, *_: Any, **__: Any) -> Any:  # type: ignore[override]  # only to read, by name
        if name not in self._checked:
            with super().open(name) as file:
                part: bytes = file.read()
            self._check(part)
            self._checked[name] = part
        return io.BytesIO(self._checked[name])

    def _check(self, part: bytes) -> None:
        # The patterns are of UTF-8, in which spreadsheet programs write these parts.
        if _WIDE.match(part) or b"<!DOCTYPE" in part:
            raise _CostlyPartError("a part in UTF-16, or with a document type")
        if any(len(mark) > _LONGEST_MARK for mark in _LONG_MARK.findall(part)):
            raise _CostlyPartError(f"a mark of more than {_LONGEST_MARK} bytes")
        self._marks += len(_COSTLY_MARK.findall(part))
        if self._marks > _MOST_COSTLY_MARKS:
            raise _CostlyPartError(f"{self._marks} styles and names, more than {_MOST_COSTLY_MARKS}")


def _texts(cells: Sequence[Any]) -> Cells:
    # Before any is converted: openpyxl fills rows up to their last cell.
    return [""] * len(cells) if len(cells) > _MOST_COLUMNS else [_text(cell.value) for cell in cells]


def _text(value: object) -> str:
    """Whole numbers without a decimal point and dates without midnight, as the spreadsheet program shows them."""
    if value is None:
        return ""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return str(value.date())
    if isinstance(value, float) and value.is_integer():
        # Beyond, a workbook has lost digits.
        return str(int(value)) if abs(value) < _MOST_EXACT else f"{value:.14E}"
    return _ESCAPED.sub("\n", str(value))


def _hidden(xml: bytes) -> tuple[frozenset[int], frozenset[int]]:
    """The numbers of the hidden rows of a sheet from 1, and of the hidden columns from 0."""
    rows, columns, seen = set[int](), set[int](), 0
    for kind, attributes in _HIDDEN.findall(xml):
        if kind == b"row" and (row := _ROW.search(attributes)):
            rows.add(int(row[1]))
        elif (first := _FIRST.search(attributes)) and (last := _LAST.search(attributes)) and seen < _MOST_COLUMNS:
            # Entries of columns do not overlap.
            seen += 1
            columns.update(range(int(first[1]) - 1, min(int(last[1]), _MOST_COLUMNS)))
    return frozenset(rows), frozenset(columns)
