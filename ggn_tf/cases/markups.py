"""The points that a person set on nodules in 3D Slicer, from its markups files (.mrk.json, and .fcsv of Slicer 4)."""

import codecs
import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ggn_tf.cases.geometry.grid import Vector, vector
from ggn_tf.errors import LocationError
from ggn_tf.json_records import parse_document
from ggn_tf.shown_text import one_line

# 3D Slicer's RAS and DICOM's LPS differ in the signs of x and y.
_TO_LPS = {"LPS": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0)}
# Slicer up to 4.10 wrote numbers.
_FCSV, _FCSV_SYSTEMS = "# Markups fiducial file", {"RAS": "RAS", "LPS": "LPS", "0": "RAS", "1": "LPS"}
_UNITS_MM = {"mm": 1.0, "um": 0.001}
# The schema's defaults; Slicer itself always writes both.
_SYSTEM, _UNIT = "LPS", "mm"
_FIDUCIALS, _LINE = "Fiducial", "Line"
# Their points are corners and handles, not nodules; a scene often has one beside its points.
_SHAPES = ("Plane", "ROI")
# A point takes about 500 bytes.
_MOST_BYTES, _MOST_POINTS = 16 << 20, 10_000
# Beyond any coordinate, mm.
_FARTHEST = 1e12
# Of what a message quotes.
_LONGEST_TEXT = 200


class MarkupPoint(NamedTuple):
    """A named point, LPS mm."""

    label: str
    center_mm_lps: Vector


def lps_of_ras(point_mm: Vector) -> Vector:
    """A point in RAS mm, as 3D Slicer shows it, in LPS mm."""
    return vector(np.multiply(point_mm, _TO_LPS["RAS"]))


def read_markups(path: Path, *, line_midpoints: bool = False) -> list[MarkupPoint]:
    """Read the control points of a markups file, whatever its coordinate system.

    Points that were named in advance and never placed, which Slicer marks as undefined, are ignored; so are planes and
    regions of interest.

    Args:
        path: A .mrk.json file of 3D Slicer (markups schema 1), or a .fcsv file, which contains points only.
        line_midpoints: Whether a line, such as a diameter that was measured, is replaced by its midpoint. Its ends are
            on the nodule's rim.

    Returns:
        At least one point, in the file's order.

    Raises:
        LocationError: The file is missing or not a markups file, or contains no placed point, an invalid one, or a
            line, angle or curve.
    """
    path = Path(path)
    try:
        content = _content(path)
        if content.startswith(_FCSV.encode()):
            return _fcsv_points(path, content.decode("utf-8"))
        stored = parse_document(content)
    except (OSError, ValueError, csv.Error) as error:
        raise _unreadable(path, str(error)) from error
    markups = stored.get("markups") if isinstance(stored, dict) else None
    if not isinstance(markups, list) or not all(isinstance(markup, dict) for markup in markups):
        raise _unreadable(path, "no list of markups in it")
    if len(markups) > _MOST_POINTS:
        raise _unreadable(path, f"{len(markups)} markups, more than {_MOST_POINTS}")
    points = [point for markup in markups for point in _points(path, markup, line_midpoints)]
    return points or _none_placed(path, len(markups))


def _none_placed(path: Path, markups: int) -> NoReturn:
    raise LocationError(
        "The markups file contains no placed point.",
        case=path,
        found=f"{markups} markups",
        expected="a point list with a point on each nodule",
        remedy="Place the points in 3D Slicer (Markups, Point List), and save the list again.",
    )


def _fcsv_points(path: Path, text: str) -> list[MarkupPoint]:
    comments = dict(line[1:].split("=", 1) for line in text.splitlines() if line.startswith("#") and "=" in line)
    stated = {name.strip().lower(): value.strip() for name, value in comments.items()}
    system = _FCSV_SYSTEMS.get(stated.get("coordinatesystem", ""))
    columns = [name.strip() for name in stated.get("columns", "").split(",")]
    if system is None or not {"x", "y", "z", "label"} <= set(columns):
        raise _unreadable(path, f"CoordinateSystem {stated.get('coordinatesystem')!r}, columns {columns}")
    points: list[MarkupPoint] = []
    for row in csv.DictReader((line for line in text.splitlines() if line and not line.startswith("#")), columns):
        position = [_finite(row[axis]) for axis in "xyz"]
        if len(points) == _MOST_POINTS:
            raise _unreadable(path, f"more than {_MOST_POINTS} control points")
        if None in position:
            raise _unreadable(path, f"control point {len(points) + 1} has the position {position!r}")
        center = vector(np.multiply(np.array(position, dtype=float), _TO_LPS[system]))
        points.append(MarkupPoint(_label(row["label"]), center))
    return points or _none_placed(path, 1)


def _finite(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _content(path: Path) -> bytes:
    """The content of a regular file of a plausible size."""
    if not path.is_file():
        raise OSError("no such file" if not path.exists() else "not a regular file")
    if path.stat().st_size > _MOST_BYTES:
        raise OSError(f"{path.stat().st_size} bytes, more than {_MOST_BYTES}")
    return path.read_bytes().removeprefix(codecs.BOM_UTF8)


def _points(path: Path, markup: dict[str, Any], line_midpoints: bool) -> Iterator[MarkupPoint]:
    kind = markup.get("type", _FIDUCIALS)
    if kind in _SHAPES:
        return
    points = list(_placed(path, markup))
    if kind == _FIDUCIALS:
        yield from points
    elif kind == _LINE and line_midpoints and len(points) == 2:
        yield MarkupPoint("", vector(np.mean([point.center_mm_lps for point in points], axis=0)))
    elif points:
        raise _not_points(path, str(kind), len(points))


def _placed(path: Path, markup: dict[str, Any]) -> Iterator[MarkupPoint]:
    system, unit = markup.get("coordinateSystem", _SYSTEM), markup.get("coordinateUnits", _UNIT)
    unit = unit[0] if isinstance(unit, list) and unit else unit
    if str(system) not in _TO_LPS or str(unit) not in _UNITS_MM:
        raise _unreadable(path, f"coordinateSystem {_quoted(system)}, coordinateUnits {_quoted(unit)}")
    points = markup.get("controlPoints") or []
    if not isinstance(points, list):
        raise _unreadable(path, f"controlPoints {_quoted(points)}")
    if len(points) > _MOST_POINTS:
        raise _unreadable(path, f"{len(points)} control points, more than {_MOST_POINTS}")
    for number, point in enumerate(points, start=1):
        if not isinstance(point, dict):
            raise _unreadable(path, f"control point {number} is {_quoted(point)}")
        if point.get("positionStatus", "defined") == "defined":
            position = np.multiply(_position(path, number, point), _TO_LPS[system]) * _UNITS_MM[unit]
            yield MarkupPoint(_label(point.get("label")), vector(position))


def _label(label: object) -> str:
    return one_line(str(label or ""))[:_LONGEST_TEXT].strip()


def _position(path: Path, number: int, point: dict[str, Any]) -> Vector:
    position = point.get("position")
    numbers = position if isinstance(position, list) and len(position) == 3 else [math.nan] * 3
    # JSON's true and false are numbers in Python, and its integers have no end.
    if not all(type(value) in (int, float) and abs(value) <= _FARTHEST for value in numbers):
        raise _unreadable(path, f"control point {number} has the position {_quoted(position)}")
    return vector(numbers)


def _quoted(value: object) -> str:
    return repr(value)[:_LONGEST_TEXT]


def _not_points(path: Path, kind: str, count: int) -> LocationError:
    line = kind == _LINE and count == 2
    return LocationError(
        "The markups file contains a markup that is not a point list.",
        case=path,
        found=f"a markup of type {kind} with {count} points",
        expected=f"markups of type {_FIDUCIALS} with one point on each nodule",
        remedy="Place a point on each nodule (Markups, Point List) and save that list alone"
        + ("; or use the midpoint of each line." if line else "."),
        arguments=("line_midpoints",) if line else (),
    )


def _unreadable(path: Path, found: str) -> LocationError:
    return LocationError(
        "The markups file cannot be read.",
        case=path,
        found=found,
        expected="a .mrk.json or .fcsv file of 3D Slicer, coordinates LPS or RAS, in mm",
        remedy="Save the point list in 3D Slicer as Markups JSON, or give the points as centres.",
        arguments=("center_mm",),
    )
