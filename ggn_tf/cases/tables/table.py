"""The case table: one row per nodule, from CSV or Excel, every cell read as text."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ggn_tf.cases.spelling import trimmed
from ggn_tf.cases.tables.table_file import Row, RowProblem, TableFile, read_table_file
from ggn_tf.cases.tables.table_notes import changed_cells, near_names
from ggn_tf.errors import TableError
from ggn_tf.tasks import LONGEST_LABEL

REQUIRED = ("case_id", "patient_id", "image")
CENTER = ("center_x_mm", "center_y_mm", "center_z_mm")
_OPTIONAL = ("mask", "segment", "series")
_MOST_PROBLEMS = 10
_DECIMAL_COMMA, _DECIMAL_POINT = re.compile(r"[+-]?\d*,\d+"), re.compile(r"[+-]?\d*\.\d+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
# Either a number with three decimals or thousands.
_AMBIGUOUS = re.compile(r"[+-]?\d{1,3},\d{3}")
# How spreadsheet programs write an id of many digits, of which the last are lost.
_SHORTENED = re.compile(r"\d([.,]\d+)?E[+-]\d\d\d?", re.IGNORECASE)
# What a spreadsheet program writes for a formula without a value.
_FORMULA_ERROR = re.compile(r"#(N/A|REF!|VALUE!|NAME\?|DIV/0!|NULL!|NUM!)")


@dataclass(frozen=True, slots=True)
class Case:
    """A nodule: the paths of its CT and mask, and its label.

    Attributes:
        case_id: Its name, unique in the table.
        patient_id: Its patient; the nodules of a patient are always in the same set of a split.
        image: The CT: a volume file or a DICOM folder.
        mask: The mask, or None if only the centre is known.
        label: As in the table, always text.
        segment: The nodule's segment of the mask: its name, or a label's value.
        center_mm_lps: The nodule's centre, LPS mm; None to use the mask's centroid.
        extra: Further columns, as text.
        series: SeriesInstanceUID of the CT, if its DICOM folder contains several; or None.
    """

    case_id: str
    patient_id: str
    image: Path
    mask: Path | None
    label: str
    segment: str | None
    center_mm_lps: tuple[float, float, float] | None
    extra: dict[str, str]
    series: str | None = None


@dataclass(frozen=True)
class CaseTable:
    """A table with all that is wrong with it, for a report of everything at once.

    Attributes:
        path: The file.
        rows: The case of every row, by its number in the spreadsheet; what an unusable row lacks is empty.
        header_row: The number of the row with the names of the columns.
        problems: Why rows cannot be used.
        errors: What is wrong with the columns, of which only the first of one name is read.
        notes: What to know about the file, one sentence each.
    """

    path: Path
    rows: Mapping[int, Case]
    header_row: int = 1
    problems: tuple[RowProblem, ...] = ()
    errors: tuple[TableError, ...] = ()
    notes: tuple[str, ...] = ()

    def problems_of_rows(self) -> dict[int, list[str]]:
        """What is wrong with each unusable row."""
        texts: defaultdict[int, list[str]] = defaultdict(list)
        for problem in self.problems:
            for row in problem.rows:
                texts[row].append(problem.text)
        return dict(sorted(texts.items()))

    def all_errors(self) -> list[TableError]:
        """What is wrong with the columns and with the rows, which are listed by their number in the spreadsheet."""
        return [*self.errors, *([self._rows_error()] if self.problems else [])]

    def _rows_error(self) -> TableError:
        rows = len(self.problems_of_rows())
        texts = [f"{_rows_text(problem.rows)}: {problem.text}" for problem in self.problems]
        more = len(texts) - _MOST_PROBLEMS
        return TableError(
            f"The case table has {rows} unusable {'row' if rows == 1 else 'rows'}.",
            case=self.path,
            found="; ".join(texts[:_MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else ""),
            expected=EXPECTED_OF_ROWS,
            remedy=f"Correct these rows (the header is row {self.header_row}).",
        )


EXPECTED_OF_ROWS = (
    "for every nodule a unique case_id, a patient_id, an image, a label without ',' and '+' (they have a meaning in "
    "tasks), and a mask or a centre of three numbers"
)


def refuse(errors: list[TableError], path: Path) -> None:
    """Raise what is wrong with a table: one error as it is, several together.

    Raises:
        TableError: There is an error.
    """
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise TableError(
            f"The case table has {len(errors)} kinds of errors.",
            case=path,
            found=" ".join(f"({number}) {part.what} {part.found}." for number, part in enumerate(errors, start=1)),
            expected="a table without errors",
            remedy=" ".join(f"({number}) {part.remedy}" for number, part in enumerate(errors, start=1)),
            arguments=tuple(dict.fromkeys(name for part in errors for name in part.arguments)),
        )


def open_table(path: Path, label_column: str = "label", folder: Path | None = None) -> CaseTable:
    """Read a case table with everything that is wrong with its rows.

    Columns: `case_id`, `patient_id`, `image`, `mask`, the label column; optional `segment`, `series`,
    `center_x_mm`, `center_y_mm`, `center_z_mm` (LPS); further columns are kept. Paths are relative to the table, or
    URLs. Whether the files exist is checked when a case is read.

    Args:
        path: A .csv (comma, semicolon or tab; UTF-8) or .xlsx file; of a workbook the first visible sheet.
        label_column: The column with the label.
        folder: The folder that its paths are relative to. None: the table's own folder.

    Raises:
        TableError: The file is missing or not a table, a column is missing, or there is no row.
    """
    path, label_column = Path(path), trimmed(label_column)
    file = read_table_file(path)
    repeated = _repeated_columns(path, file)
    missing = _missing_columns(path, file, label_column)
    if missing is not None:
        refuse([*repeated, missing], path)
    _check_rows(path, file)
    rows = file.rows
    if file.decimal_comma:
        thousands = _has_decimal_points(file)
        rows = {number: _with_points(row, label_column, thousands) for number, row in rows.items()}
    named = (*REQUIRED, label_column, *_OPTIONAL, *CENTER)
    return CaseTable(
        path,
        {number: _case(folder or path.parent, row, label_column) for number, row in rows.items()},
        file.header_row,
        (*file.problems, *_unvalued(file, named), *_problems(rows, label_column)),
        tuple(repeated),
        (
            *file.notes,
            *near_names(file.columns, named),
            *changed_cells(rows, ("case_id", "patient_id", label_column)),
        ),
    )


def _repeated_columns(path: Path, file: TableFile) -> list[TableError]:
    if not file.repeated:
        return []
    return [
        TableError(
            "Columns of the case table have the same name.",
            case=path,
            found="; ".join(file.repeated),
            expected="names that differ in more than upper and lower case, space and invisible characters",
            remedy="Rename or delete one column of each pair.",
        )
    ]


def _missing_columns(path: Path, file: TableFile, label_column: str) -> TableError | None:
    columns = file.columns
    missing = [column for column in (*REQUIRED, label_column) if column not in columns]
    if not missing and "mask" not in columns and not set(CENTER) <= set(columns):
        missing = [f"mask (or {', '.join(CENTER)})"]
    if not missing or not columns:
        return None
    only_label = missing == [label_column]
    return TableError(
        f"The case table lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}.",
        case=path,
        found="; ".join([f"columns {', '.join(columns)}", *file.notes]),
        expected=f"case_id, patient_id, image, mask, {label_column}",
        remedy="Name the table's column of labels." if only_label else "Rename or add the column.",
        arguments=("label_column",) if only_label else (),
    )


def _check_rows(path: Path, file: TableFile) -> None:
    if not file.rows:
        raise TableError(
            "The case table has no row.",
            case=path,
            found="; ".join([f"columns {', '.join(file.columns) or 'none'}, no nodule", *file.notes]),
            expected="one row per nodule",
            remedy="Add the nodules, or name another file.",
        )


def _with_points(row: Row, label_column: str, thousands: bool) -> Row:
    """A row whose numbers are written with a decimal comma, which may separate thousands if points are used, too."""
    numbers = {
        name: text
        for name in (*CENTER, label_column)
        if _DECIMAL_COMMA.fullmatch(text := row.get(name, "")) and not (thousands and _AMBIGUOUS.fullmatch(text))
    }
    return {**row, **{name: text.replace(",", ".") for name, text in numbers.items()}}


def _has_decimal_points(file: TableFile) -> bool:
    """Whether a point is the decimal sign of some centre."""
    return any(_DECIMAL_POINT.fullmatch(row.get(name, "")) for row in file.rows.values() for name in CENTER)


def _unvalued(file: TableFile, named: Sequence[str]) -> Iterator[RowProblem]:
    for number, columns in file.unvalued.items():
        unread = [column for column in columns if column in named]
        if unread and number in file.rows:
            text = f"a formula without a stored value in {', '.join(unread)}: open and save it in a spreadsheet program"
            yield RowProblem((number,), text)


def _problems(rows: dict[int, Row], label_column: str) -> Iterator[RowProblem]:
    numbers = defaultdict(list)
    for number, row in rows.items():
        yield from (RowProblem((number,), problem) for problem in _row_problems(row, label_column))
        numbers[row["case_id"]].append(number)
    for case_id, repeated in numbers.items():
        if case_id and len(repeated) > 1:
            yield RowProblem(tuple(repeated), f"the same case_id {case_id!r}")


def _row_problems(row: Row, label_column: str) -> Iterator[str]:
    yield from (f"no {column}" for column in (*REQUIRED, label_column) if not row[column])
    if set(row[label_column]) & set(",+"):
        yield f"label {row[label_column]!r}"
    for column in (*REQUIRED, label_column, *_OPTIONAL):
        text = row.get(column, "")
        if "\n" in text or "\r" in text:
            yield f"a line break in {column}"
        elif text.startswith("#") and _FORMULA_ERROR.fullmatch(text):
            yield f"{column} is {text}"
        elif _SHORTENED.fullmatch(text):
            yield f"{column} is {text}, a number that a spreadsheet program shortened"
        elif column in ("case_id", "patient_id", label_column) and len(text) > LONGEST_LABEL:
            yield f"{column} of {len(text)} characters, more than {LONGEST_LABEL}"
    center = [row.get(column, "") for column in CENTER]
    if any(center):
        yield from (
            f"{column} is {text!r}" for column, text in zip(CENTER, center, strict=True) if _number(text) is None
        )
    elif not row.get("mask"):
        yield "neither a mask nor a centre"


def _number(text: str) -> float | None:
    """The finite number that a text states; None for any other text."""
    plain = text.replace("\u2212", "-")
    value = float(plain) if _NUMBER.fullmatch(plain) else math.inf
    return value if math.isfinite(value) else None


def _rows_text(rows: tuple[int, ...]) -> str:
    return f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows))}"


def _case(folder: Path, row: Row, label_column: str) -> Case:
    known = {*REQUIRED, *CENTER, *_OPTIONAL, label_column}
    x, y, z = (_number(text) if (text := row.get(column)) else None for column in CENTER)
    return Case(
        case_id=row["case_id"],
        patient_id=row["patient_id"],
        image=_path(folder, row["image"]) if row["image"] else Path(),
        mask=_path(folder, row["mask"]) if row.get("mask") else None,
        label=row[label_column],
        segment=row.get("segment") or None,
        center_mm_lps=None if x is None or y is None or z is None else (x, y, z),
        extra={column: text for column, text in row.items() if column not in known},
        series=row.get("series") or None,
    )


def _path(folder: Path, cell: str) -> Path:
    """A path relative to the table's folder, or a URL."""
    return Path(cell) if "://" in cell else folder / cell
