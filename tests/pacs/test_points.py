"""Nodules of reports and segmentations. Slices are 8 mm apart and have 16 x 12 pixels of 8 x 8 mm."""

import tracemalloc
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pack_bits

from ggn_tf.cases.dicom.folder import scan_series
from ggn_tf.cases.dicom.slices import Slice
from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.geometry.segment import pick_segment
from ggn_tf.errors import GgnWarning, LocationError
from ggn_tf.pacs.points import MarkedNodule, read_points
from ggn_tf.prediction.dicom_points import read_dicom_points
from ggn_tf.prediction.locations import Mask, Point
from tests.support.chest import TURNED, lung_grid, lung_with_balls, write_dicom
from tests.support.dicom_files import write_enhanced, write_seg
from tests.support.marked_reports import LENGTH, REGION, group, in_image, in_patient, item, write_marks

FRAME, ORIGIN = "2.25.7", np.array([10.0, 20.0, 30.0])


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    grid = Grid((16, 12, 5), (8.0, 8.0, 8.0), tuple(ORIGIN.tolist()))
    image = grid.image_of(np.full((5, 12, 16), -850, np.int16))
    return write_dicom(image, tmp_path_factory.mktemp("ct") / "dicom", {"0020|0052": FRAME})


@pytest.fixture(scope="module")
def slices(ct: Path) -> tuple[Slice, ...]:
    return scan_series(ct)[0].slices


def centers(path: Path, slices: tuple[Slice, ...]) -> list[list[float]]:
    """As columns, rows and slices from 0."""
    found = [(np.array(nodule.center_mm_lps) - ORIGIN) / 8 for nodule in read_points(path, slices)]
    return [np.round(index, 9).tolist() for index in found]


@pytest.mark.parametrize(
    ("kind", "numbers", "expected"),
    [
        # The centre of the first pixel is (0.5, 0.5).
        ("POINT", (3.5, 4.5), (3, 4)),
        # OHIF's arrow: its tip, and its text.
        ("POINT", (3.5, 4.5, 9.5, 9.5), (3, 4)),
        ("POLYLINE", (3.5, 4.5, 5.5, 5.5), (4, 4.5)),
        ("POLYLINE", (1, 1, 5, 1, 5, 3, 1, 3, 1, 1), (2.5, 1.5)),
        ("POLYLINE", (1, 1, 5, 1, 5, 3, 1, 3), (2.5, 1.5)),
        # An L of three squares, whose points' mean would be elsewhere.
        ("POLYLINE", (0.5, 0.5, 4.5, 0.5, 4.5, 2.5, 2.5, 2.5, 2.5, 4.5, 0.5, 4.5), (10 / 6, 10 / 6)),
        ("POLYLINE", (2.5, 2.5, 4.5, 2.5, 6.5, 2.5), (4, 2)),
        # A bow tie, whose halves almost cancel each other.
        ("POLYLINE", (0.5, 0.5, 8.5, 4.5, 8.5, 0.5, 0.5, 4.6), (4, 2.025)),
        ("CIRCLE", (5.5, 5.5, 7.5, 5.5), (5, 5)),
        ("ELLIPSE", (2.5, 5.5, 8.5, 5.5, 5.5, 4.5, 5.5, 6.5), (5, 5)),
    ],
)
def test_a_graphic_on_an_image_has_its_centre(
    slices: tuple[Slice, ...], tmp_path: Path, kind: str, numbers: tuple[float, ...], expected: tuple[float, float]
) -> None:
    report = write_marks(tmp_path / "sr.dcm", group(in_image(kind, numbers, slices[2].uid)))
    assert centers(report, slices) == [pytest.approx([*expected, 2])]


@pytest.mark.parametrize(
    ("kind", "indices", "expected"),
    [
        ("POINT", [(3, 4, 1.25)], (3, 4, 1.25)),
        ("POLYLINE", [(2, 2, 1), (4, 2, 3)], (3, 2, 2)),
        ("POLYGON", [(2, 2, 1), (2, 6, 1), (2, 6, 3), (2, 2, 3)], (2, 4, 2)),
        ("ELLIPSOID", [(2, 4, 2), (6, 4, 2), (4, 3, 2), (4, 5, 2), (4, 4, 1), (4, 4, 3)], (4, 4, 2)),
    ],
)
def test_a_graphic_in_the_patient_has_its_centre(
    slices: tuple[Slice, ...], tmp_path: Path, kind: str, indices: list[tuple[float, ...]], expected: tuple[float, ...]
) -> None:
    numbers = (np.array(indices) * 8 + ORIGIN).ravel().tolist()
    report = write_marks(tmp_path / "sr.dcm", group(in_patient(kind, numbers, FRAME)))
    assert centers(report, slices) == [pytest.approx(expected)]


def test_a_group_is_one_nodule_with_the_centre_of_its_regions_or_of_its_longest_graphic(
    slices: tuple[Slice, ...], tmp_path: Path
) -> None:
    long, short = ((1.5, 2.5, 9.5, 2.5), (3.5, 1.5, 3.5, 3.5))
    axes = group(in_image("POLYLINE", short, slices[1].uid), in_image("POLYLINE", long, slices[1].uid))
    outlines = [in_image("CIRCLE", (5.5, 5.5, 6.5, 5.5), slices[level].uid, code=REGION) for level in (1, 2, 3)]
    report = write_marks(tmp_path / "sr.dcm", axes, group(in_image("POLYLINE", long, slices[4].uid), *outlines))
    assert centers(report, slices) == [[5, 2, 1], [5, 5, 2]]


@pytest.mark.parametrize(
    ("kind", "numbers", "expected"),
    [
        # 5.7 pixels, with a box of 4 x 4; a diameter of 6.
        ("POLYLINE", (1.5, 1.5, 5.5, 5.5), [3, 3, 1]),
        ("CIRCLE", (6.5, 6.5, 9.5, 6.5), [6, 6, 1]),
        ("CIRCLE", (6.5, 6.5, 8.5, 6.5), [3.5, 9, 1]),
    ],
)
def test_the_longest_graphic_has_the_greatest_length_or_diameter(
    slices: tuple[Slice, ...], tmp_path: Path, kind: str, numbers: tuple[float, ...], expected: list[float]
) -> None:
    line = in_image("POLYLINE", (1.5, 9.5, 6.5, 9.5), slices[1].uid)
    report = write_marks(tmp_path / "sr.dcm", group(line, in_image(kind, numbers, slices[1].uid)))
    assert centers(report, slices) == [expected]


def test_an_image_that_a_graphic_names_many_times_counts_once(slices: tuple[Slice, ...], tmp_path: Path) -> None:
    # 5,000 points, as many as one element of a report may have.
    outline = in_image("POLYLINE", (1, 1, 5, 1, 5, 3, 1, 3) * 1250, slices[2].uid)
    images = [reference for item in (2, 3) for reference in _references(slices[item].uid, 500)]
    outline.ContentSequence[0].ReferencedSOPSequence = images
    report = write_marks(tmp_path / "sr.dcm", group(outline))
    tracemalloc.start()
    try:
        assert centers(report, slices) == [[2.5, 1.5, 2.5]]
        # The points on each named image would have 120 MB.
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


def _references(uid: str, count: int) -> list[Dataset]:
    references = [Dataset() for _ in range(count)]
    for reference in references:
        reference.ReferencedSOPInstanceUID = uid
    return references


def test_a_frame_of_an_enhanced_ct_is_found_by_its_number(ct: Path, slices: tuple[Slice, ...], tmp_path: Path) -> None:
    write_enhanced(ct, tmp_path / "enhanced.dcm", order=(4, 3, 2, 1, 0))
    frames = scan_series(tmp_path / "enhanced.dcm")[0].slices
    report = write_marks(tmp_path / "sr.dcm", group(in_image("POINT", (3.5, 4.5), frames[0].uid, frame=2)))
    single = write_marks(tmp_path / "single.dcm", group(in_image("POINT", (3.5, 4.5), slices[3].uid, frame=1)))
    assert centers(report, frames) == centers(single, slices) == [[3, 4, 3]]
    without = write_marks(tmp_path / "without.dcm", group(in_image("POINT", (3.5, 4.5), frames[0].uid)))
    with pytest.raises(LocationError, match="not of the series"):
        read_points(without, frames)


def test_of_a_turned_series_columns_and_rows_are_followed(tmp_path: Path) -> None:
    grid = lung_grid(direction=TURNED)
    slices = scan_series(write_dicom(lung_with_balls(grid)[:, :, :4], tmp_path / "ct"))[0].slices
    report = write_marks(tmp_path / "sr.dcm", group(in_image("POINT", (11.5, 7.5), slices[2].uid)))
    (nodule,) = read_points(report, slices)
    assert nodule.center_mm_lps == pytest.approx(grid.point_of((11, 7, 2)), abs=1e-4)


def test_unique_names_of_persons_are_kept(slices: tuple[Slice, ...], tmp_path: Path) -> None:
    point = in_image("POINT", (3.5, 4.5), slices[2].uid)
    names = ["upper\nlobe", "twice", "twice", "Cornerstone3DTools@^0.1.0:Length"]
    report = write_marks(tmp_path / "sr.dcm", *(group(point, name=name) for name in names))
    assert [nodule.name for nodule in read_points(report, slices)] == ["upper lobe", None, None, None]


def test_groups_that_are_elsewhere_are_left_out_with_a_note(slices: tuple[Slice, ...], tmp_path: Path) -> None:
    # Types of graphics that are elsewhere do not matter.
    groups = [group(in_image("POINT", (3.5, 4.5), slices[2].uid)), group(in_image("MULTIPOINT", (3, 4), "2.25.1"))]
    report = write_marks(tmp_path / "sr.dcm", *groups, group(item("NUM", LENGTH)))
    with pytest.warns(GgnWarning) as notes:
        assert len(read_points(report, slices)) == 1
    assert "1 measurement groups on images that are not of the series" in str(notes[0].message)
    assert "1 measurement groups without coordinates" in str(notes[0].message)


def test_each_segment_of_a_seg_is_a_nodule(ct: Path, slices: tuple[Slice, ...], tmp_path: Path) -> None:
    mask = np.zeros((5, 12, 16), np.uint8)
    mask[2, 4:6, 3:5] = 1
    write_seg(ct, tmp_path / "seg.dcm", {"2": mask, "1": mask[:, ::-1]})
    assert read_points(tmp_path / "seg.dcm", slices) == [MarkedNodule("2", None, "1.0"), MarkedNodule("1", None, "2.0")]
    assert read_dicom_points(tmp_path / "seg.dcm", ct)[1] == Mask(tmp_path / "seg.dcm", "2.0", "1")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    seg.SegmentSequence[1].SegmentLabel = ""
    seg.save_as(tmp_path / "seg.dcm")
    found = read_points(tmp_path / "seg.dcm", slices)
    assert found == [MarkedNodule("2", None, "1"), MarkedNodule(None, None, "2.0")]
    assert [pick_segment(tmp_path, {1: "2", 2: ""}, nodule.segment) for nodule in found] == [1, 2]
    # As a label map, whose value 1 is the background, and not the 0 that its first segment describes as such.
    seg = pydicom.dcmread(write_seg(ct, tmp_path / "seg.dcm", {"2": mask, "1": mask[:, ::-1]}, "LABELMAP"))
    seg.add_new("PixelPaddingValue", "US", 1)
    seg.save_as(tmp_path / "seg.dcm")
    found = read_points(tmp_path / "seg.dcm", slices)
    assert found == [MarkedNodule("Background", None, "0"), MarkedNodule("1", None, "2")]


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP", "without frames"])
def test_a_segment_without_pixels_is_left_out_with_a_note(
    ct: Path, slices: tuple[Slice, ...], tmp_path: Path, kind: str
) -> None:
    drawn = np.zeros((5, 12, 16), np.uint8)
    drawn[1:4, 4:6, 3:5] = 1
    masks = {"a": drawn[:, ::-1], "b": drawn, "c": drawn[:, :, ::-1]}
    if kind == "without frames":
        write_seg(ct, tmp_path / "seg.dcm", {**masks, "a": drawn * 0, "c": drawn * 0})
    else:
        write_seg(ct, tmp_path / "seg.dcm", masks, kind)
        seg = pydicom.dcmread(tmp_path / "seg.dcm")
        pixels = seg.pixel_array.astype(np.uint8)
        if kind == "LABELMAP":
            pixels[pixels != 2] = 0
        else:
            first = [
                int(item.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
                for item in seg.PerFrameFunctionalGroupsSequence
            ]
            # 127 of 255 is below the fraction from which a voxel belongs to a segment.
            pixels[np.array(first) != 2] = 0 if kind == "BINARY" else pixels[np.array(first) != 2] // 2
        seg.PixelData = pack_bits(pixels) if kind == "BINARY" else pixels.tobytes()
        seg.save_as(tmp_path / "seg.dcm")
    with pytest.warns(GgnWarning, match="2 segments without pixels"):
        assert read_points(tmp_path / "seg.dcm", slices) == [MarkedNodule("b", None, "2")]
    if kind == "BINARY":
        seg.PixelData = pack_bits(pixels * 0)
        seg.save_as(tmp_path / "seg.dcm")
        with pytest.raises(LocationError, match="without pixels"):
            read_points(tmp_path / "seg.dcm", slices)


def test_points_are_locations_for_a_prediction(ct: Path, slices: tuple[Slice, ...], tmp_path: Path) -> None:
    report = write_marks(tmp_path / "sr.dcm", group(in_image("POINT", (3.5, 4.5), slices[2].uid), name="a"))
    assert read_dicom_points(report, ct) == [Point(34.0, 52.0, 46.0, "a", ras=False)]


def point(slices: tuple[Slice, ...]) -> Dataset:
    return in_image("POINT", (3.5, 4.5), slices[2].uid)


def changed(**values: object) -> Callable[[tuple[Slice, ...]], list[Dataset]]:
    """A report of one point with other values; None removes one."""

    def make(slices: tuple[Slice, ...]) -> list[Dataset]:
        graphic = point(slices)
        for name, value in values.items():
            delattr(graphic, name) if value is None else setattr(graphic, name, value)
        return [group(graphic)]

    return make


MALFORMED = {
    "another frame of reference": lambda slices: [group(in_patient("POINT", (34, 52, 46), "2.25.8"))],
    "no frame of reference": lambda slices: [group(in_patient("POINT", (34, 52, 46), ""))],
    "another series": lambda slices: [group(in_image("POINT", (3.5, 4.5), "2.25.1"))],
    "no image": changed(ContentSequence=None),
    "an image without an instance": lambda slices: [
        group(item("SCOORD", None, [item("IMAGE")], GraphicType="POINT", GraphicData=[1, 1]))
    ],
    "no group": lambda slices: [],
    "no coordinates": lambda slices: [group()],
    "coordinates outside a group": lambda slices: [point(slices)],
    "outside the image": lambda slices: [group(in_image("POINT", (16.6, 4.5), slices[2].uid))],
    "outside the slices": lambda slices: [group(in_patient("POINT", (34, 52, 71), FRAME))],
    "several points": lambda slices: [group(in_image("MULTIPOINT", (3, 4, 5, 6), slices[2].uid))],
    "an unknown type": changed(GraphicType="DOE^JOHN"),
    "no type": changed(GraphicType=None),
    "an odd number of values": changed(GraphicData=[3.5, 4.5, 5.5]),
    "no value": changed(GraphicData=[]),
    "no data": changed(GraphicData=None),
    "not a number": changed(GraphicData=[float("nan"), 4.5]),
    "infinite": changed(GraphicData=[3.5, float("inf")]),
    "far away": changed(GraphicData=[1e30, -1e30]),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_report_that_marks_nothing_on_the_ct_is_one_error(
    slices: tuple[Slice, ...], tmp_path: Path, kind: str
) -> None:
    with disable_value_validation():
        report = write_marks(tmp_path / "sr.dcm", *MALFORMED[kind](slices))
    with warnings.catch_warnings(), pytest.raises(LocationError) as caught:
        warnings.simplefilter("error")
        read_points(report, slices)
    assert caught.value.found and caught.value.remedy and "DOE" not in str(caught.value)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def bytes_of(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def as_kind(sop_class: str) -> Callable[[Path], object]:
    return lambda path: write_marks(path, sop_class=sop_class)


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        bytes_of(b""),
        bytes_of(b"DOE^JOHN" * 100),
        bytes_of(bytes(128) + b"DICM" + b"DOE^JOHN" * 100),
        # A mammography CAD report, a presentation state, a CT, and a SEG without segments.
        as_kind("1.2.840.10008.5.1.4.1.1.88.50"),
        as_kind("1.2.840.10008.5.1.4.1.1.11.1"),
        as_kind("1.2.840.10008.5.1.4.1.1.2"),
        as_kind("1.2.840.10008.5.1.4.1.1.66.4"),
        lambda path: path.unlink(),
    ],
)
def test_a_file_that_is_damaged_or_of_another_kind_is_one_error(
    slices: tuple[Slice, ...], tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    report = write_marks(tmp_path / "sr.dcm", group(point(slices)))
    damage(report)
    with pytest.raises(LocationError) as caught:
        read_points(report, slices)
    assert caught.value.found and caught.value.remedy and "DOE" not in str(caught.value)


def test_a_report_without_end_is_refused(
    slices: tuple[Slice, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = write_marks(tmp_path / "sr.dcm", *[group(point(slices))] * 3)
    for name, limit in (("_MOST_GROUPS", 2), ("_MOST_BYTES", 100)):
        with monkeypatch.context() as limits, pytest.raises(LocationError, match=f"more than {limit}"):
            limits.setattr(f"ggn_tf.pacs.points.{name}", limit)
            read_points(report, slices)


@pytest.mark.parametrize(("tag", "kind"), [("FrameOfReferenceUID", "frame of reference"), ("PatientID", "patient")])
def test_a_seg_of_something_else_is_refused_before_its_pixels_are_read(
    ct: Path, slices: tuple[Slice, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str, kind: str
) -> None:
    write_seg(ct, tmp_path / "seg.dcm", {"a": np.ones((5, 12, 16), np.uint8)})
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    setattr(seg, tag, "2.25.9")
    seg.save_as(tmp_path / "seg.dcm")
    read = pydicom.dcmread

    def read_header(path: Path, *, stop_before_pixels: bool, **options: object) -> Dataset:
        return read(path, stop_before_pixels=stop_before_pixels, **options)

    # Without `stop_before_pixels`, it raises a TypeError.
    monkeypatch.setattr(pydicom, "dcmread", read_header)
    with pytest.raises(LocationError, match=f"another {kind}"):
        read_points(tmp_path / "seg.dcm", slices)


def test_a_seg_with_empty_frames_without_end_is_refused_before_they_are_decoded(
    ct: Path, slices: tuple[Slice, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each segment alone has no more pixels than the CT."""
    monkeypatch.setattr("ggn_tf.cases.geometry.segment._SMALL", 0)
    mask = np.ones((5, 12, 16), np.uint8)
    for count in (32, 33):
        write_seg(ct, tmp_path / "seg.dcm", {str(number): mask for number in range(count)})
        with nullcontext() if count == 32 else pytest.raises(LocationError, match="damaged"):
            assert len(read_points(tmp_path / "seg.dcm", slices)) == count
