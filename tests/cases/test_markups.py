import json
from pathlib import Path

import pytest

from ggn_tf.cases.markups import MarkupPoint, lps_of_ras, read_markups
from ggn_tf.errors import LocationError

# As 3D Slicer 5.6 writes it, less what only concerns the display.
SLICER = {
    "@schema": "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#",
    "markups": [
        {
            "type": "Fiducial",
            "coordinateSystem": "LPS",
            "coordinateUnits": "mm",
            "controlPoints": [
                {"id": "1", "label": "F-1", "position": [-62.5, -110.0, -187.0], "positionStatus": "defined"},
                {"id": "2", "label": "", "position": [1, 2, 3], "positionStatus": "defined"},
                {"id": "3", "label": "F-3", "position": [0.0, 0.0, 0.0], "positionStatus": "undefined"},
            ],
        }
    ],
}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def one(tmp_path: Path, **changes: object) -> Path:
    markup = {**SLICER["markups"][0], **changes}
    return write(tmp_path / "F.mrk.json", {**SLICER, "markups": [markup]})


def test_placed_points_come_with_their_labels(tmp_path: Path) -> None:
    found = read_markups(write(tmp_path / "F.mrk.json", SLICER))
    assert found == [MarkupPoint("F-1", (-62.5, -110.0, -187.0)), MarkupPoint("", (1.0, 2.0, 3.0))]


def test_ras_points_are_turned(tmp_path: Path) -> None:
    found = read_markups(one(tmp_path, coordinateSystem="RAS"))
    assert found[0].center_mm_lps == (62.5, 110.0, -187.0)


def test_a_unit_may_be_a_dicom_code(tmp_path: Path) -> None:
    found = read_markups(one(tmp_path, coordinateUnits=["um", "UCUM", "micrometer"]))
    assert found[1].center_mm_lps == pytest.approx((0.001, 0.002, 0.003))


def test_what_the_file_leaves_out_has_the_schemas_default(tmp_path: Path) -> None:
    bare = {"markups": [{"type": "Fiducial", "controlPoints": [{"label": "a", "position": [1, 2, 3]}]}]}
    assert read_markups(write(tmp_path / "F.mrk.json", bare)) == [MarkupPoint("a", (1.0, 2.0, 3.0))]


def test_the_corners_of_a_box_are_no_nodules(tmp_path: Path) -> None:
    box = {**SLICER["markups"][0], "type": "ROI"}
    found = read_markups(write(tmp_path / "F.mrk.json", {"markups": [box, SLICER["markups"][0]]}))
    assert len(found) == 2


ENDS = [{"label": "L-1", "position": [1.0, 2.0, 3.0]}, {"label": "L-2", "position": [5.0, 2.0, 9.0]}]


def test_a_line_is_refused_or_its_midpoint_is_used(tmp_path: Path) -> None:
    path = one(tmp_path, type="Line", controlPoints=ENDS)
    with pytest.raises(LocationError, match="not a point list") as caught:
        read_markups(path)
    assert (caught.value.found, caught.value.arguments) == ("a markup of type Line with 2 points", ("line_midpoints",))
    assert read_markups(path, line_midpoints=True) == [MarkupPoint("", (3.0, 2.0, 6.0))]


@pytest.mark.parametrize("kind", ["Angle", "Curve", "ClosedCurve", "TestCurve", 3])
def test_what_is_neither_a_point_list_nor_a_line_is_refused(tmp_path: Path, kind: object) -> None:
    with pytest.raises(LocationError, match="not a point list") as caught:
        read_markups(one(tmp_path, type=kind, controlPoints=ENDS), line_midpoints=True)
    assert caught.value.arguments == ()


def test_a_line_of_one_end_has_no_midpoint(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match="not a point list"):
        read_markups(one(tmp_path, type="Line", controlPoints=ENDS[:1]), line_midpoints=True)


FCSV = """# Markups fiducial file version = {version}
# CoordinateSystem = {system}
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
vtkMRMLMarkupsFiducialNode_0,1.5,-2,3,0,0,0,1,1,1,0,"F, 1",,vtkMRMLScalarVolumeNode1
2,4,5,6,0,0,0,1,1,1,0,F-2,,
"""


@pytest.mark.parametrize(("version", "system", "sign"), [("4.10", "0", -1), ("4.11", "LPS", 1), ("4.13", "RAS", -1)])
def test_the_point_lists_of_slicer_4(tmp_path: Path, version: str, system: str, sign: int) -> None:
    path = tmp_path / "F.fcsv"
    path.write_text(FCSV.format(version=version, system=system), encoding="utf-8")
    points = [("F, 1", (1.5 * sign, -2.0 * sign, 3.0)), ("F-2", (4.0 * sign, 5.0 * sign, 6.0))]
    assert read_markups(path) == [MarkupPoint(*point) for point in points]


@pytest.mark.parametrize(
    ("former", "other", "told"),
    [
        ("= LPS", "= 2", "CoordinateSystem '2'"),
        ("# Coord", "# coord-", "CoordinateSystem None"),
        (",4,5,", ",,5,", "None"),
        ("F-2", "F" * 200_000, "field larger than field limit (131072)"),
        ("2,4,5", "1,1,1,1,1,1\n" * 10_000 + "2,4,5", "more than 10000 control points"),
    ],
)
def test_a_damaged_point_list_of_slicer_4_is_refused(tmp_path: Path, former: str, other: str, told: str) -> None:
    path = tmp_path / "F.fcsv"
    path.write_text(FCSV.format(version="4.11", system="LPS").replace(former, other), encoding="utf-8")
    with pytest.raises(LocationError, match="cannot be read") as caught:
        read_markups(path)
    assert told in caught.value.found


def test_a_ras_point_in_lps() -> None:
    assert lps_of_ras((1.0, -2.0, 3.0)) == (-1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"coordinateSystem": "IJK"}, "coordinateSystem 'IJK'"),
        ({"coordinateUnits": "inch"}, "coordinateUnits 'inch'"),
        ({"controlPoints": [{"position": [1, 2]}]}, "control point 1 has the position [1, 2]"),
        ({"controlPoints": [{"position": None}]}, "control point 1 has the position None"),
        ({"controlPoints": [{"position": [1, 2, float("nan")]}]}, "NaN"),
        ({"controlPoints": [{"position": "123"}]}, "control point 1 has the position '123'"),
        ({"controlPoints": [{"position": [True, False, True]}]}, "[True, False, True]"),
        ({"controlPoints": ["F-1"]}, "control point 1 is 'F-1'"),
        ({"controlPoints": 3}, "controlPoints 3"),
        ({"coordinateSystem": ["LPS"]}, "coordinateSystem ['LPS']"),
        ({"coordinateUnits": {"mm": 1}}, "coordinateUnits {'mm': 1}"),
    ],
)
def test_what_is_no_point_is_refused(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(LocationError, match="cannot be read") as caught:
        read_markups(one(tmp_path, **changes))
    assert told in caught.value.found


@pytest.mark.parametrize("content", ["# Markups fiducial file version = 4.13", "[1, 2]", '{"markups": 3}', ""])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "F.fcsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LocationError, match="cannot be read") as caught:
        read_markups(path)
    assert caught.value.case == str(path)
    assert caught.value.arguments == ("center_mm",)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match="cannot be read"):
        read_markups(tmp_path / "none.mrk.json")


def test_a_list_without_a_placed_point_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match="no placed point"):
        read_markups(one(tmp_path, controlPoints=[]))


HOSTILE = {
    "deep": b'{"markups": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "a huge number": b'{"markups": [{"controlPoints": [{"position": [1, 2, 1' + b"0" * 400 + b"]}]}]}",
    "more digits than Python reads": b'{"markups": [{"controlPoints": [{"position": [1, 2, 1' + b"0" * 5000 + b"]}]}]}",
    "many markups": b'{"markups": [' + b"{}," * 20_000 + b"{}]}",
    "many points": b'{"markups": [{"controlPoints": [' + b'{"position":[1,2,3]},' * 20_000 + b"{}]}]}",
    "half a character": rb'{"markups": [{"controlPoints": [{"label": "\ud800", "position": [1, 2, 3]}]}]}',
    "not a number": b'{"markups": [{"controlPoints": [{"position": [1, 2, NaN]}]}]}',
    "a long quotation": b'{"markups": [{"controlPoints": ["' + b"a" * 100_000 + b'"]}]}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_a_few_words(name: str, tmp_path: Path) -> None:
    (tmp_path / "F.mrk.json").write_bytes(HOSTILE[name])
    with pytest.raises(LocationError) as caught:
        read_markups(tmp_path / "F.mrk.json")
    assert len(str(caught.value)) < 1000


def test_a_label_is_one_printable_line(tmp_path: Path) -> None:
    point = {"label": "a\nb\x1b[2J" + "c" * 1000, "position": [1, 2, 3]}
    (found,) = read_markups(one(tmp_path, controlPoints=[point]))
    assert found.label.startswith("a b\\u001b[2Jc") and len(found.label) == 200
    (tmp_path / "F.fcsv").write_text(
        FCSV.format(version="4.11", system="LPS").replace("F-2", "a\x1b[2J"), encoding="utf-8"
    )
    assert read_markups(tmp_path / "F.fcsv")[1].label == "a\\u001b[2J"
