"""NRRD and MetaImage files whose headers leave out or state otherwise what ITK assumes."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.reader_process import ReaderProcess
from ggn_tf.cases.volume_files.stated_geometry import ends_of, header_fields
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import VolumeError

VOXELS = np.random.default_rng(0).integers(-1000, 400, (6, 7, 8)).astype("<i2")
DIRECTIONS = "space directions: (0.7,0,0) (0,0.8,0) (0,0,1.5)\nspace origin: (-20,-30,100)"
POSITION = "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -20 -30 100"


def nrrd(folder: Path, geometry: str) -> Path:
    header = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 8 7 6\nendian: little\nencoding: raw\n{geometry}\n\n"
    path = folder / "ct.nrrd"
    path.write_bytes(header.encode() + VOXELS.tobytes())
    return path


def metaimage(folder: Path, geometry: str) -> Path:
    kind = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False"
    size = "DimSize = 8 7 6\nElementType = MET_SHORT\nElementDataFile = LOCAL"
    path = folder / "ct.mha"
    path.write_bytes(f"{kind}\n{geometry}\n{size}\n".encode() + VOXELS.tobytes())
    return path


def refused(path: Path, match: str) -> str:
    with pytest.raises(VolumeError, match=match) as caught:
        open_volume(path)
    assert caught.value.case == str(path) and caught.value.arguments == ()
    assert caught.value.found is not None
    return caught.value.found


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1, 1)),
        ("LPS", (1, 1, 1)),
        ("right-anterior-superior", (-1, -1, 1)),
        ("RAS", (-1, -1, 1)),
        # SimpleITK up to 2.5.5 turned these.
        ("left-anterior-superior", (1, -1, 1)),
        ("LAS", (1, -1, 1)),
    ],
)
def test_every_anatomical_space_of_nrrd_is_one_ct(space: str, signs: tuple[int, int, int], tmp_path: Path) -> None:
    x, y, z = np.multiply(signs, (0.7, 0.8, 1.5))
    a, b, c = np.multiply(signs, (-20, -30, 100))
    geometry = f"space: {space}\nspace directions: ({x},0,0) (0,{y},0) (0,0,{z})\nspace origin: ({a},{b},{c})"
    volume = open_volume(nrrd(tmp_path, geometry))
    assert volume.grid.origin_mm_lps == pytest.approx((-20, -30, 100))
    assert volume.grid.direction == pytest.approx(np.eye(3).ravel())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(volume.read()), VOXELS)
    assert volume.repaired == ()


@pytest.mark.parametrize(
    "geometry",
    [
        "kinds: domain domain domain",
        "spacings: nan nan nan",
        "space: LPS\nspace directions: none none none",
        "space: LPS",
    ],
)
def test_a_nrrd_without_a_spacing_is_refused(geometry: str, tmp_path: Path) -> None:
    assert refused(nrrd(tmp_path, geometry), "does not state the distance") == "neither space directions nor spacings"


@pytest.mark.parametrize(
    "geometry", ["spacings: 0.7 0.8 1.5", f"space dimension: 3\n{DIRECTIONS}", f"space: scanner-xyz\n{DIRECTIONS}"]
)
def test_a_nrrd_that_does_not_say_which_axis_is_which_is_noted(geometry: str, tmp_path: Path) -> None:
    volume = open_volume(nrrd(tmp_path, geometry))
    assert volume.grid.spacing_mm_xyz == pytest.approx((0.7, 0.8, 1.5))
    assert len(volume.repaired) == 1 and "does not state the directions of its axes" in volume.repaired[0]


def test_a_nrrd_without_an_origin_is_noted(tmp_path: Path) -> None:
    (note,) = open_volume(nrrd(tmp_path, f"space: LPS\n{DIRECTIONS.splitlines()[0]}")).repaired
    assert "does not state the position of its first voxel" in note


def test_a_metaimage_of_a_hand_written_header_is_noted(tmp_path: Path) -> None:
    (note,) = open_volume(metaimage(tmp_path, "ElementSpacing = 0.7 0.8 1.5")).repaired
    assert "does not state the directions of its axes and the position of its first voxel" in note


def test_a_key_with_a_value_is_no_field_of_a_nrrd(tmp_path: Path) -> None:
    refused(nrrd(tmp_path, "space:=LPS\nspacings:=1 1 1"), "does not state the distance")


@pytest.mark.parametrize("units", ['space units: "m" "m" "m"', 'units: "cm" "cm" "cm"'])
def test_other_units_of_a_nrrd_are_refused(units: str, tmp_path: Path) -> None:
    refused(nrrd(tmp_path, f"space: LPS\n{DIRECTIONS}\n{units}"), "not in millimetres")
    named = nrrd(tmp_path, f'space: LPS\n{DIRECTIONS}\nspace units: "mm" "mm" "mm"')
    assert open_volume(named).grid.spacing_mm_xyz == pytest.approx((0.7, 0.8, 1.5))


@pytest.mark.parametrize("spacing", ["", "ElementSpacing = 0.7 0.8 0", "ElementSpacing = 0.7 0.8 -1.5"])
def test_a_metaimage_without_a_positive_spacing_is_refused(spacing: str, tmp_path: Path) -> None:
    found = refused(metaimage(tmp_path, f"{POSITION}\n{spacing}".strip()), "does not state the distance")
    assert found == (spacing.replace(" =", "") or "no ElementSpacing")


@pytest.mark.parametrize("name", ["ElementSpacing", "ElementSize"])
def test_the_spacing_of_a_metaimage_under_its_two_names(name: str, tmp_path: Path) -> None:
    volume = open_volume(metaimage(tmp_path, f"{POSITION}\n{name} = 0.7 0.8 1.5"))
    assert volume.grid.spacing_mm_xyz == pytest.approx((0.7, 0.8, 1.5))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(volume.read()), VOXELS)


@pytest.mark.parametrize(("slope", "offset"), [("1", "-1024"), ("0.1", "0")])
def test_a_metaimage_whose_values_are_scaled_is_refused(slope: str, offset: str, tmp_path: Path) -> None:
    scale = f"ElementToIntensityFunctionSlope = {slope}\nElementToIntensityFunctionOffset = {offset}"
    path = metaimage(tmp_path, f"{POSITION}\nElementSpacing = 0.7 0.8 1.5\n{scale}")
    assert refused(path, "values of the file") == f"ElementToIntensityFunction with slope {slope}, offset {offset}"


@pytest.mark.parametrize(
    "scale", ["old min: -1024\nold max: 3071", "old max: 3071", "oldmin: 0", "old max: 65535", "old min: inf"]
)
def test_a_nrrd_whose_values_were_quantized_is_refused(scale: str, tmp_path: Path) -> None:
    found = refused(nrrd(tmp_path, f"space: LPS\n{DIRECTIONS}\n{scale}"), "values of the file")
    assert found == scale.replace("oldmin", "old min").replace(":", "").replace("\n", ", ")


@pytest.mark.parametrize(
    ("kind", "scale"),
    [
        ("short", "old min: nan\nold max: NaN"),
        ("short", "old min: -32768\nold max: 32767"),
        ("uint16", "old min: 0\nold max: 65535.0"),
    ],
)
def test_a_nrrd_whose_quantization_changes_no_value_is_read(kind: str, scale: str, tmp_path: Path) -> None:
    path = nrrd(tmp_path, f"space: LPS\n{DIRECTIONS}\n{scale}")
    path.write_bytes(path.read_bytes().replace(b"type: short", f"type: {kind}".encode()))
    assert open_volume(path).grid.size_xyz == (8, 7, 6)


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        ("signed char", (-128, 127)),
        ("uint8_t", (0, 255)),
        ("unsigned short int", (0, 65535)),
        ("int", (-(2**31), 2**31 - 1)),
        ("unsigned long long", (0, 2.0**64)),
    ],
)
def test_the_ends_of_integer_types(kind: str, ends: tuple[float, float]) -> None:
    assert ends_of(kind) == ends


def test_a_metaimage_of_text_is_refused(tmp_path: Path) -> None:
    path = metaimage(tmp_path, f"{POSITION}\nElementSpacing = 0.7 0.8 1.5")
    path.write_bytes(path.read_bytes().replace(b"BinaryData = True", b"BinaryData = False"))
    assert refused(path, "written as text") == "BinaryData = False"


def test_other_units_of_a_metaimage_are_refused(tmp_path: Path) -> None:
    path = metaimage(tmp_path, f"DistanceUnits = m\n{POSITION}\nElementSpacing = 0.0007 0.0008 0.0015")
    assert refused(path, "not in millimetres") == "DistanceUnits m"


def test_blank_lines_and_colons_of_a_metaimage(tmp_path: Path) -> None:
    volume = open_volume(metaimage(tmp_path, f"\n{POSITION}\nComment = a: b\nElementSpacing : 0.7 0.8 1.5"))
    assert volume.grid.spacing_mm_xyz == pytest.approx((0.7, 0.8, 1.5)) and volume.repaired == ()


BLANKS = " " * 100_000


@pytest.mark.parametrize("line", [BLANKS, f"Comment{BLANKS}x", f"{BLANKS}Comment", f"Comment{BLANKS}={BLANKS}x"])
def test_a_line_of_blanks_is_read_at_once(tmp_path: Path, line: str) -> None:
    path = metaimage(tmp_path, f"{line}\n{POSITION}")
    with ReaderProcess(most_processor_s=2) as reader:
        fields, _ = reader.run(header_fields, path)
    assert fields["offset"] == "-20 -30 100" and fields.get("comment", "x") == "x"


def test_a_path_that_is_not_utf_8_is_refused_before_itk_ends_the_process(tmp_path: Path) -> None:
    source = nrrd(tmp_path, f"space: LPS\n{DIRECTIONS}")
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe4.nrrd"))
    source.rename(path)
    with pytest.raises(VolumeError, match="cannot be read") as caught:
        open_volume(path)
    assert caught.value.found == "bytes that are not UTF-8"
