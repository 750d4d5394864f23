"""A folder as it is found in a hospital: 20 patients in three layouts, masks of three programs."""

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from click.testing import CliRunner, Result

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.tables.table import open_table
from ggn_tf.cli import main
from tests.support.chest import STRAIGHT, lung_with_balls, write_nifti
from tests.support.dicom_files import write_rtstruct, write_seg
from tests.support.slicer_files import write_slicer

GRID = Grid((32, 30, 28), (1.0, 1.0, 1.25), (0.0, 0.0, 0.0), STRAIGHT)
# Voxels z, y, x.
ONE, OTHER = (slice(4, 8), slice(5, 9), slice(6, 10)), (slice(18, 22), slice(20, 24), slice(20, 26))
SQUARE = np.array([(5.6, 4.6), (9.4, 4.6), (9.4, 8.4), (5.6, 8.4)])


def labels(*parts: tuple[slice, ...], values: tuple[int, ...] = (1, 2)) -> np.ndarray:
    array = np.zeros(GRID.size_xyz[::-1], np.uint8)
    for part, value in zip(parts, values, strict=False):
        array[part] = value
    return array


def write_ct(path: Path, grid: Grid = GRID) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_nifti(lung_with_balls(grid, [((8.0, 7.0, 7.0), 3.0)]), path)


def write_series_of(folder: Path, patient: str) -> Path:
    from ggn_tf.cases.dicom.series_writer import write_series

    folder.mkdir(parents=True)
    write_series(lung_with_balls(GRID, [((8.0, 7.0, 7.0), 3.0)]), folder, patient)
    return folder


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hospital")
    for number in range(1, 9):  # NIfTI and 3D Slicer, all with the same grid; the lung is a segment, too
        folder = root / f"patient {number}"
        write_ct(folder / "ct.nii.gz")
        layers = [np.ones(GRID.size_xyz[::-1]), labels(ONE, OTHER)]
        named = [("Lung", 0, 1), ("upper lobe", 1, 1), ("lower lobe", 1, 2)]
        write_slicer(folder / "Segmentation.seg.nrrd", GRID, layers, named)
    for number in range(9, 15):  # DICOM series and SEG; one label for two nodules
        series = write_series_of(root / f"export{number}" / "CT", f"MRN{number}")
        (series.parent / "SEG").mkdir()
        write_seg(series, series.parent / "SEG" / "1.dcm", {"Nodule": labels(ONE, OTHER, values=(1, 1)) > 0})
    series = write_series_of(root / "export15" / "CT", "MRN15")
    contours = [np.column_stack([SQUARE, np.full(4, 1.25 * level)]) for level in range(4, 8)]
    write_rtstruct(root / "export15" / "rs.dcm", {"=GTV": contours, "GTV 2": contours}, sorted(series.iterdir())[0])
    for number in (16, 17):  # images and masks apart
        write_ct(root / "images" / f"study_{number}_baseline.nrrd")
        mask = GRID.image_of(labels(ONE))
        (root / "masks").mkdir(exist_ok=True)
        write_nifti(mask, root / "masks" / f"{number}-final.nii.gz")
    write_ct(root / "patient 18" / "before.nii.gz")
    write_ct(root / "patient 18" / "after.nii.gz")
    write_nifti(GRID.image_of(labels(ONE)), root / "patient 18" / "nodule.nrrd")
    (root / "patient 19").mkdir()
    foreign = Grid((32, 30, 28), (0.7, 0.7, 1.25), (0.0, 0.0, 0.0), STRAIGHT)
    write_nifti(foreign.image_of(labels(ONE)), root / "patient 19" / "mask.nii.gz")
    write_ct(root / "patient 20" / "ct.nii.gz", Grid((32, 30, 28), (1.0, 1.0, 1.25), (500.0, 0.0, 0.0), STRAIGHT))
    (root / "patient 20" / "broken.nii.gz").write_bytes(b"no image")
    (root / "patient 20" / "letter.txt").write_text("Dear colleague")
    return root


def draft(folder: Path, output: Path) -> Result:
    return CliRunner().invoke(main, ["table", str(folder), "-o", str(output)])


@pytest.fixture(scope="module")
def drafted(hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, str]], str]:
    """The rows, and what was printed."""
    output = tmp_path_factory.mktemp("out") / "cases.csv"
    result = draft(hospital, output)
    assert result.exit_code == 0, result.output
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for column in ("image", "mask"):
            row[column] = str((output.parent / row[column]).resolve().relative_to(hospital)) if row[column] else ""
    return rows, result.output


def of(rows: list[dict[str, str]], part: str) -> list[dict[str, str]]:
    return [row for row in rows if part in row["mask"]]


def test_every_segment_is_a_row_on_the_ct_beside_it(drafted):
    rows = of(drafted[0], "patient 3/")
    assert [(row["image"], row["segment"], row["volume_mm3"]) for row in rows] == [
        ("patient 3/ct.nii.gz", "upper lobe", "80"),
        ("patient 3/ct.nii.gz", "lower lobe", "120"),
    ]
    assert {row["patient_id"] for row in rows} == {"patient 3"} and {row["label"] for row in rows} == {""}


def test_what_is_an_organ_or_the_whole_ct_is_no_row(drafted, tmp_path: Path):
    assert drafted[1].count("Segmentation.seg.nrrd: The mask has no background.") == 8
    grid = Grid((70, 70, 70), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), STRAIGHT)
    write_ct(tmp_path / "ct.nii.gz", grid)
    parts = np.zeros((70, 70, 70), np.uint8)
    parts[:60, :60, :60], parts[62:66, 62:66, 62:66] = 1, 2
    write_slicer(tmp_path / "s.seg.nrrd", grid, [parts], [("Lung", 0, 1), ("Nodule", 0, 2)])
    result = draft(tmp_path, tmp_path / "cases.csv")
    assert "segment Lung: 216 ml is not the size of a nodule" in result.output and "1 rows, labels" in result.output


def test_every_component_is_a_row_with_a_point_in_it(drafted, hospital: Path):
    rows = of(drafted[0], "export10/")
    assert [(row["patient_id"], row["image"], row["volume_mm3"]) for row in rows] == [
        ("MRN10", "export10/CT", "120"),
        ("MRN10", "export10/CT", "80"),
    ]
    series = pydicom.dcmread(next((hospital / "export10" / "CT").iterdir())).SeriesInstanceUID
    assert {row["series"] for row in rows} == {series}
    for row, part in zip(rows, (OTHER, ONE), strict=True):
        point = [float(row[f"center_{axis}_mm"]) for axis in "xyz"]
        x, y, z = np.rint(GRID.index_of(point)).astype(int)
        assert labels(part)[z, y, x]


def test_a_region_whose_name_is_a_formula_is_named_by_its_number(drafted):
    assert [row["segment"] for row in of(drafted[0], "rs.dcm")] == ["1", "GTV 2"]


def test_names_decide_between_cts_of_one_grid(drafted):
    rows = of(drafted[0], "masks/")
    assert [row["image"] for row in rows] == [f"images/study_{number}_baseline.nrrd" for number in (16, 17)]
    assert [row["patient_id"] for row in rows] == ["study_16_baseline", "study_17_baseline"]


def test_ids_that_may_be_one_patient_are_asked_for(drafted, tmp_path: Path):
    assert "name of a folder" in of(drafted[0], "patient 3/")[0]["question"] and "One patient?" not in drafted[1]
    assert of(drafted[0], "export10/")[0]["question"] == ""
    for number, name in enumerate(("LIDC-0018_R_1", "LIDC-0018_R_2", "LIDC-0018_L_1", "LIDC-0019_R_1")):
        origin = (100.0 * number, 0.0, 0.0)
        grid = Grid(GRID.size_xyz, (1.0, 1.0, 1.25), origin, STRAIGHT)
        write_ct(tmp_path / "images" / f"{name}.nrrd", grid)
        (tmp_path / "masks").mkdir(exist_ok=True)
        write_nifti(grid.image_of(labels(ONE)), tmp_path / "masks" / f"{name}.nii.gz")
    result = draft(tmp_path, tmp_path / "cases.csv")
    alike = "One patient? The ids LIDC-0018_L_1, LIDC-0018_R_1, LIDC-0018_R_2 differ in their end alone."
    assert result.output.count("One patient?") == 1 and alike in result.output


def test_what_names_cannot_decide_is_asked(drafted):
    (row,) = of(drafted[0], "patient 18/")
    assert row["image"] == "" and "before.nii.gz" in row["question"] and "after.nii.gz" in row["question"]


def test_a_mask_without_a_ct_is_asked_for_and_a_ct_without_a_mask_is_listed(drafted):
    (row,) = of(drafted[0], "patient 19/")
    assert row["image"] == "" and row["patient_id"] == "patient 19" and row["question"].startswith("Which CT?")
    assert "patient 20/ct.nii.gz: a CT without a mask" in drafted[1]
    assert "broken.nii.gz: The file is not an image." in drafted[1] and "letter.txt" not in drafted[1]


def test_the_rows_are_a_case_table_once_they_have_labels(drafted, hospital: Path, tmp_path: Path):
    rows = [{**row, "label": "AIS"} for row in drafted[0] if row["image"]]
    assert len({row["case_id"] for row in rows}) == len(rows) == 16 + 12 + 2 + 2
    with (tmp_path / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert open_table(tmp_path / "cases.csv", folder=hospital).all_errors() == []


@pytest.mark.parametrize("name", ["cases.xlsx", "taken.csv"])
def test_nothing_is_written_over_a_table(name: str, hospital: Path, tmp_path: Path):
    (tmp_path / "taken.csv").write_text("mine")
    result = draft(hospital, tmp_path / name)
    assert result.exit_code == 1 and "error: The table cannot be written." in result.output
    assert (tmp_path / "taken.csv").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_a_folder_without_masks_is_refused(tmp_path: Path):
    (tmp_path / "a").mkdir()
    write_ct(tmp_path / "a" / "ct.nii.gz")
    result = draft(tmp_path / "a", tmp_path / "cases.csv")
    assert result.exit_code == 1 and "The folder contains no mask of a nodule." in result.output
    assert not (tmp_path / "cases.csv").exists()
    assert "There is no such folder." in draft(tmp_path / "none", tmp_path / "cases.csv").output


def test_a_mask_of_probabilities_is_no_row_and_names_why(tmp_path: Path):
    write_ct(tmp_path / "ct.nii.gz")
    write_nifti(GRID.image_of(labels(ONE)), tmp_path / "ct_mask.nii.gz")
    soft = sitk.Cast(GRID.image_of(labels(ONE)), sitk.sitkFloat32) * 0.4
    write_nifti(soft, tmp_path / "ct_soft.nii.gz")
    result = draft(tmp_path, tmp_path / "cases.csv")
    assert result.exit_code == 0 and "ct_soft.nii.gz: The mask's values are not labels." in result.output
