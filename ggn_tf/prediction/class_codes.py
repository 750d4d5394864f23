"""Codes of the classes in DICOM reports: from a table, otherwise from a private scheme."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ggn_tf.cases.tables.table_file import Row, read_table_file
from ggn_tf.errors import TableError

PRIVATE_SCHEME = "99GGNTF"
_COLUMNS = ("class", "code", "scheme", "meaning")
# Lengths of DICOM's Code Value (long form), Coding Scheme Designator and Code Meaning, in characters.
_LONGEST = {"code": 64, "scheme": 16, "meaning": 64}
# Designators of DICOM PS3.16, Table 8-1, under which diseases are coded.
_STANDARD = frozenset(
    "DCM FMA I9 I9C I10 I10P I11 ICDO3 LN MSH NCIt RADLEX SCT SNM3 SRT UMLS".split()  # noqa: SIM905
)
_PRIVATE = re.compile(r"99[A-Z0-9_.-]+", re.IGNORECASE | re.ASCII)
_SHORT_NAME = re.compile(r"[A-Za-z0-9.+_-]{1,12}", re.ASCII)


@dataclass(frozen=True)
class ClassCode:
    """The code of a class: value, coding scheme designator and meaning."""

    value: str
    scheme: str
    meaning: str


def private_code(kind: str, class_name: str, meaning: str) -> ClassCode:
    """The code of a class in the private scheme; the same name has the same code in every report.

    The kind is one letter for what is coded of the class. Long names, and names with other characters, are coded by
    their digest.
    """
    short = _SHORT_NAME.fullmatch(class_name) is not None
    name = class_name if short else hashlib.sha256(class_name.encode()).hexdigest()[:12]
    return ClassCode(f"{kind}-{name}", PRIVATE_SCHEME, meaning)


def read_class_codes(path: Path, class_names: Sequence[str] | None = None) -> dict[str, ClassCode]:
    """Read a table with one row per class.

    Args:
        path: A table with the columns class, code, scheme and meaning.
        class_names: The classes of the model, of which every row must be one; None where they are not known yet.

    Raises:
        TableError: The file is not such a table, or rows cannot be used; the error names each of them.
    """
    if not path.is_file():
        raise _unusable(path, "no such file")
    try:
        table = read_table_file(path)
    except TableError as error:
        raise _unusable(path, error.found) from error
    columns = {name.casefold(): name for name in table.columns}
    if missing := [name for name in _COLUMNS if name not in columns]:
        raise _unusable(path, f"no column {', '.join(missing)}")
    problems = [f"row {row}: {problem.text}" for problem in table.problems for row in problem.rows]
    codes: dict[str, ClassCode] = {}
    for number, row in table.rows.items():
        cells = {name: row.get(columns[name], "") for name in _COLUMNS}
        problem = _problem(cells, codes, class_names)
        if problem is not None:
            problems.append(f"row {number}: {problem}")
        codes[cells["class"]] = ClassCode(cells["code"], cells["scheme"], cells["meaning"])
    if problems or not codes:
        raise _unusable(path, "; ".join(problems) or "no rows")
    return codes


def _problem(cells: Row, earlier: Mapping[str, ClassCode], class_names: Sequence[str] | None) -> str | None:
    """What makes a row unusable; None for nothing."""
    if empty := [name for name in _COLUMNS if not cells[name]]:
        return f"no {', '.join(empty)}"
    for name, longest in _LONGEST.items():
        if len(cells[name]) > longest or "\\" in cells[name] or not cells[name].isprintable():
            return f"{name} {cells[name]!r} has more than {longest} characters, a backslash or a control character"
    if cells["scheme"] not in _STANDARD and not _PRIVATE.fullmatch(cells["scheme"]):
        return f"scheme {cells['scheme']!r} is neither one of DICOM's nor private (99...)"
    if class_names is not None and cells["class"] not in class_names:
        return f"class {cells['class']!r} is none of the model's: {', '.join(class_names)}"
    if cells["class"] in earlier:
        return f"class {cells['class']!r} a second time"
    if (cells["code"], cells["scheme"]) in {(code.value, code.scheme) for code in earlier.values()}:
        return f"code {cells['code']!r} a second time"
    return None


def _unusable(path: Path, found: object) -> TableError:
    return TableError(
        "The table of class codes cannot be used.",
        case=path,
        found=found,
        expected="columns class, code, scheme, meaning and one row per class; scheme is a designator of DICOM PS3.16 "
        f"({', '.join(sorted(_STANDARD))}) or a private one that begins with 99",
        remedy="Correct the rows. A class without a row is coded in a private scheme.",
        arguments=("codes",),
    )
