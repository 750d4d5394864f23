"""What a spreadsheet program or a writer of a case table may have changed: names that are not read, dates, blanks."""

import re
from collections.abc import Iterator, Mapping, Sequence

from ggn_tf.cases.spelling import folded

_NO_LETTER = re.compile(r"[\W_]+")
_ALIASES = {"seriesinstanceuid": "series", "seriesuid": "series", "segmentname": "segment", "segmentlabel": "segment"}
_MONTH = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
# Of workbooks, and as Excel writes 3-2 and 2020-3 into a CSV file.
_DATE = re.compile(
    rf"\d{{4}}-\d\d-\d\d( \d\d:\d\d:\d\d)?|\d{{1,2}}-({_MONTH})(-\d\d(\d\d)?)?|({_MONTH})-\d\d(\d\d)?", re.IGNORECASE
)
# What statistics programs write for a missing value.
_MISSING = ("na", "n/a", "nan", "null", "none", "#n/a", "-", "?", "unknown")
_SHOWN = 5


def near_names(columns: Sequence[str], meanings: Sequence[str]) -> Iterator[str]:
    """Notes on columns that are not read, and whose names are almost those that are."""
    by_form = {_form(name): name for name in meanings} | _ALIASES
    # Without the unit, too.
    by_form |= {_form(name.removesuffix("_mm")): name for name in meanings}
    for name in columns:
        meant = by_form.get(_form(name))
        if name not in meanings and meant is not None and meant not in columns:
            yield f"the column {name!r} has no meaning and is only carried along; the name {meant!r} has one"


def changed_cells(rows: Mapping[int, Mapping[str, str]], columns: Sequence[str]) -> Iterator[str]:
    """Notes on cells that a program may have changed, or that mark a missing value."""
    for column in columns:
        dates = [number for number, row in rows.items() if _DATE.fullmatch(row.get(column, ""))]
        if dates:
            yield (
                f"{column} looks like a date in {_listed(dates)}, for example {rows[dates[0]][column]!r}: spreadsheet "
                "programs turn texts such as 3-2 into dates"
            )
        missing = [number for number, row in rows.items() if row.get(column, "").lower() in _MISSING]
        if missing:
            yield (
                f"{column} is {rows[missing[0]][column]!r} in {_listed(missing)}, which is a value like any other; "
                "leave a cell empty where its value is missing"
            )


def _form(name: str) -> str:
    return _NO_LETTER.sub("", folded(name)).replace("centre", "center")


def _listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"row{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:_SHOWN]))}{more}"
