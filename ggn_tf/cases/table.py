"""The case table: one row per nodule, from CSV or Excel, every cell read as text."""

import math
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ggn_tf.errors import TableError

REQUIRED = ("case_id", "patient_id", "image")
CENTER = ("center_x_mm", "center_y_mm", "center_z_mm")
_EXCEL = (".xlsx", ".xlsm")
_MOST_PROBLEMS = 10

Row = dict[str, str]


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


def read_table(path: Path, label_column: str = "label", folder: Path | None = None) -> list[Case]:
    """Read a case table.

    Columns: `case_id`, `patient_id`, `image`, `mask`, the label column; optional `segment`, `series`,
    `center_x_mm`, `center_y_mm`, `center_z_mm` (LPS); further columns are kept. Paths are relative to the table, or
    URLs. Whether the files exist is checked when a case is read.

    Args:
        path: A .csv (comma, semicolon or tab; UTF-8) or .xlsx file; of a workbook the first sheet.
        label_column: The column with the label.
        folder: The folder that its paths are relative to. None: the table's own folder.

    Raises:
        TableError: The file is missing or not a table, a column is missing, there is no row, or rows are not usable;
            they are listed by their number in the spreadsheet.
    """
    path = Path(path)
    rows = _read_rows(path)
    columns = list(next(iter(rows.values()), {}))
    _check_columns(path, columns, label_column)
    problems = list(_problems(rows, label_column))
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        raise TableError(
            f"The case table has {len(problems)} unusable {'row' if len(problems) == 1 else 'rows'}.",
            case=path,
            found="; ".join(problems[:_MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else ""),
            expected="for every nodule a unique case_id, a patient_id, an image, a label without ',' and '+' (they "
            "have a meaning in tasks), and a mask or a centre of three numbers",
            remedy="Correct these rows (the header is row 1).",
        )
    return [_case(folder or path.parent, row, label_column) for row in rows.values()]


def _read_rows(path: Path) -> dict[int, Row]:
    """Every row that is not blank, under its number in the spreadsheet."""
    if not path.is_file():
        raise TableError(
            "The case table does not exist.", case=path, remedy="Name a .csv or .xlsx file with one row per nodule."
        )
    try:
        frame = _read_frame(path)
    except Exception as error:
        # The readers raise a dozen unrelated types on other files: parser, zip, XML and codec errors.
        raise TableError(
            "The case table cannot be read as a table.",
            case=path,
            found=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
            expected="a .csv file (comma, semicolon or tab, UTF-8) or an .xlsx workbook",
            remedy="Save it again from the spreadsheet program as 'CSV UTF-8' or as .xlsx.",
        ) from error
    frame = frame.fillna("").map(str.strip)
    frame.columns = [str(column).strip() for column in frame.columns]
    rows = {number: dict(zip(frame.columns, cells, strict=True)) for number, *cells in frame.itertuples(name=None)}
    filled = {int(number) + 2: row for number, row in rows.items() if any(row.values())}
    if not filled:
        raise TableError(
            "The case table has no row.",
            case=path,
            found=f"columns {', '.join(frame.columns) or 'none'}, no nodule",
            expected="one row per nodule",
            remedy="Add the nodules, or name another file.",
        )
    return filled


def _read_frame(path: Path) -> pd.DataFrame:
    if path.suffix.lower() in _EXCEL:
        return pd.read_excel(path, dtype=str, keep_default_na=False)
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline()
    with warnings.catch_warnings():
        # If every row has more cells than the header, pandas only warns and drops the last.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            path,
            # Spreadsheet programs write the country's separator: a semicolon where the comma is the decimal point.
            sep=max(",;\t", key=header.count),
            dtype=str,
            keep_default_na=False,
            index_col=False,
            encoding="utf-8-sig",
            skip_blank_lines=False,
        )


def _check_columns(path: Path, columns: list[str], label_column: str) -> None:
    missing = [column for column in (*REQUIRED, label_column) if column not in columns]
    if not missing and "mask" not in columns and not set(CENTER) <= set(columns):
        missing = [f"mask (or {', '.join(CENTER)})"]
    if missing:
        only_label = missing == [label_column]
        raise TableError(
            f"The case table lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}.",
            case=path,
            found=f"columns {', '.join(columns)}",
            expected=f"case_id, patient_id, image, mask, {label_column}",
            remedy="Name the table's column of labels." if only_label else "Rename or add the column.",
            arguments=("label_column",) if only_label else (),
        )


def _problems(rows: dict[int, Row], label_column: str) -> Iterator[str]:
    numbers = defaultdict(list)
    for number, row in rows.items():
        yield from (f"row {number}: {problem}" for problem in _row_problems(row, label_column))
        numbers[row["case_id"]].append(str(number))
    for case_id, repeated in numbers.items():
        if case_id and len(repeated) > 1:
            yield f"rows {', '.join(repeated)}: the same case_id {case_id!r}"


def _row_problems(row: Row, label_column: str) -> Iterator[str]:
    yield from (f"no {column}" for column in (*REQUIRED, label_column) if not row[column])
    if set(row[label_column]) & set(",+"):
        yield f"label {row[label_column]!r}"
    center = [row.get(column, "") for column in CENTER]
    if any(center):
        yield from (
            f"{column} is {text!r}" for column, text in zip(CENTER, center, strict=True) if not _is_finite(text)
        )
    elif not row.get("mask"):
        yield "neither a mask nor a centre"


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _case(folder: Path, row: Row, label_column: str) -> Case:
    known = {*REQUIRED, *CENTER, "mask", "segment", "series", label_column}
    x, y, z = (row.get(column, "") for column in CENTER)
    return Case(
        case_id=row["case_id"],
        patient_id=row["patient_id"],
        image=_path(folder, row["image"]),
        mask=_path(folder, row["mask"]) if row.get("mask") else None,
        label=row[label_column],
        segment=row.get("segment") or None,
        center_mm_lps=(float(x), float(y), float(z)) if x else None,
        extra={column: text for column, text in row.items() if column not in known},
        series=row.get("series") or None,
    )


def _path(folder: Path, cell: str) -> Path:
    """A path relative to the table's folder, or a URL."""
    return Path(cell) if "://" in cell else folder / cell
