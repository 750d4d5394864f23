import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import openpyxl
import pytest
import SimpleITK as sitk  # noqa: N813
from click.testing import CliRunner, Result

from ggn_tf.cases.tables.table import CENTER
from ggn_tf.cli import main
from tests.support.bare_command import exits_without_tensorflow
from tests.support.case_files import SPACING_MM_XYZ, read_rows, shift_mask, tilt_case, write_table

YELLOW = np.array((255, 220, 0)) / 255


@pytest.fixture
def copied(table: Path, tmp_path: Path) -> Path:
    """The cases, to be changed."""
    shutil.copytree(table.parent, tmp_path / "cases")
    return tmp_path / "cases" / "cases.csv"


def check(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments), "--jobs", "1"])


def document_of(*arguments: object, exit_code: int = 0) -> dict:
    result = check(*arguments, "--json")
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def test_a_case_is_measured(table: Path) -> None:
    case = document_of(table)["cases"][1]
    assert (case["case_id"], case["patient_id"], case["label"]) == ("SMITH-0001", "MRN-0000", "MIA")
    assert (case["status"], case["reason"], case["remedy"]) == ("usable", None, None)
    assert case["spacing_mm_xyz"] == pytest.approx(SPACING_MM_XYZ)
    # A ball of 5 mm at -500 +- 50 HU.
    assert case["diameter_mm"] == pytest.approx(10.0, rel=0.03)
    assert case["mean_hu"] == pytest.approx(-500, abs=5)
    assert case["solid_fraction"] == 0


def test_counts_a_label(bad_table: Path) -> None:
    document = document_of(bad_table, exit_code=1)
    # Case 2 and 5 are of IAC, of the patients 1 and 2; 8 and 11 of the patients 4 and 5.
    assert document["labels"]["IAC"] == {"cases": 4, "usable": 2, "patients": 2}
    assert document["labels"]["AAH"] == {"cases": 4, "usable": 4, "patients": 4}
    assert document["rejected"] == 2


def test_a_rejected_case_has_reason_and_remedy(bad_table: Path) -> None:
    case = document_of(bad_table, exit_code=1)["cases"][2]
    assert case["status"] == "rejected"
    assert case["reason"] == "The mask is empty; found: no voxel above 0; expected: the nodule's voxels"
    assert "Segment the nodule" in case["remedy"]
    assert case["diameter_mm"] is None


def test_a_person_reads_cases_problems_and_counts(bad_table: Path) -> None:
    result = check(bad_table)
    assert result.exit_code == 1
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["SMITH-0002", "rejected", "IAC"] in lines
    assert ["IAC", "4", "2", "2"] in lines
    usable = next(line for line in lines if line[:1] == ["SMITH-0001"])
    assert usable[1:8] == ["usable", "MIA", "0.8", "x", "0.8", "x", "1.25"] and usable[-1] == "100%"
    block = next(part for part in result.stdout.split("rejected: ") if part.startswith("The mask is empty."))
    assert "SMITH-0002" in block and "SMITH-0002-mask.nii" in block and "remedy:" in block
    assert result.stdout.splitlines()[-1] == "10 of 12 cases can be used"


def test_it_agrees_with_prepare(bad_table: Path, tmp_path: Path) -> None:
    shutil.copytree(bad_table.parent, tmp_path / "cases")
    table = tmp_path / "cases" / "cases.csv"
    rows = read_rows(table)
    rows[0]["label"] = "AIS"
    rows[1].update(image=rows[0]["image"], mask=rows[0]["mask"], label="AIS")
    write_table(table, rows)
    found = document_of(table, exit_code=1)
    prepare = ["prepare", str(table), "-o", str(tmp_path / "dataset"), "--jobs", "1", "--keep-ids", "--allow-rejects"]
    result = CliRunner().invoke(main, prepare)
    assert result.exit_code == 0
    stored = {
        case["case_id"]: case
        for case in json.loads((tmp_path / "dataset" / "dataset.json").read_text(encoding="utf-8"))["cases"]
    }
    with (tmp_path / "dataset" / "rejected.csv").open(newline="", encoding="utf-8") as file:
        rejected = {row["case"]: (row["reason"], row["remedy"]) for row in csv.DictReader(file)}
    assert {case["case_id"] for case in found["cases"] if case["status"] == "usable"} == set(stored)
    assert rejected == {case["case_id"]: (case["reason"], case["remedy"]) for case in found["cases"] if case["reason"]}
    for case in found["cases"]:
        if case["status"] == "usable":
            for name in ("volume_mm3", "diameter_mm", "mean_hu", "solid_fraction", "center_mm_lps"):
                assert case[name] == stored[case["case_id"]][name]
    # One nodule in two rows, and two labels with few patients.
    assert len(found["notes"]) == 3 and "SMITH-0000, SMITH-0001" in found["notes"][0] and "AIS" in found["notes"][1]
    assert [f"note: {note}" for note in found["notes"]] == [
        line for line in result.stdout.splitlines() if line.startswith("note: ")
    ]


@pytest.mark.parametrize(
    ("harm", "flag", "notes"),
    [(tilt_case, "--repair", 2), (shift_mask, "--align-masks", 1)],
)
def test_a_case_is_repaired_only_where_asked_and_the_repair_is_recorded(
    copied: Path, harm: Callable[[Path, int], None], flag: str, notes: int
) -> None:
    harm(copied, 3)
    assert document_of(copied, exit_code=1)["cases"][3]["status"] == "rejected"
    refused = check(copied).stdout
    assert flag in refused and "SMITH-0003" in refused
    case = document_of(copied, flag)["cases"][3]
    assert (case["status"], len(case["repaired"])) == ("usable", notes)
    assert case["diameter_mm"] == pytest.approx(8.0, rel=0.03)
    dataset = copied.parent / "dataset"
    prepare = ["prepare", str(copied), "-o", str(dataset), "--jobs", "1", "--keep-ids", flag]
    assert "repaired:    1 cases" in CliRunner().invoke(main, prepare).stdout
    stored = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))["cases"]
    assert [stored[3]["repaired"], stored[4]["repaired"]] == [case["repaired"], []]


def test_nothing_is_written_without_a_folder(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied.parent)
    before = sorted(copied.parent.rglob("*"))
    assert check("cases.csv").exit_code == 0
    assert sorted(copied.parent.rglob("*")) == before


def test_contact_sheets_show_a_shifted_mask(bad_table: Path, tmp_path: Path) -> None:
    result = check(bad_table, "-o", tmp_path / "look")
    assert result.exit_code == 1
    assert sorted(path.name for path in (tmp_path / "look").iterdir()) == ["cases.csv", "previews"]
    (sheet,) = (tmp_path / "look" / "previews").iterdir()
    picture = matplotlib.image.imread(sheet)[..., :3]
    yellow = np.abs(picture - YELLOW).max(axis=2) < 0.01
    # Ten nodules in rows of eight tiles of 128 pixels: the outlines of the first row and of the second.
    assert yellow[:146].any() and yellow[146:292, : 2 * 137].any() and not yellow[146:292, 2 * 137 :].any()


def test_the_findings_are_a_table(bad_table: Path, tmp_path: Path) -> None:
    check(bad_table, "-o", tmp_path / "look")
    with (tmp_path / "look" / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["case_id"] for row in rows] == [f"SMITH-{number:04d}" for number in range(12)]
    assert rows[2]["status"] == "rejected" and rows[2]["remedy"]
    spacing = [float(step) for step in rows[0]["spacing_mm_xyz"].split(";")]
    assert spacing == pytest.approx(SPACING_MM_XYZ)


def test_nothing_is_written_over(table: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("", encoding="utf-8")
    result = check(table, "-o", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "written over something that exists" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_too_few_patients_are_a_problem_and_the_cases_are_still_told(copied: Path) -> None:
    write_table(copied, read_rows(copied)[:4])
    document = document_of(copied, exit_code=1)
    assert document["rejected"] == 0
    assert "too few patients" in document["problems"][0]["what"]
    assert document["problems"][0]["remedy"]
    assert len(document["cases"]) == 4
    assert "problem: There are too few patients" in check(copied).stdout


def test_a_ct_in_place_of_a_mask_is_called_one(copied: Path) -> None:
    rows = read_rows(copied)
    rows[3]["mask"] = rows[3]["image"]
    path = copied.parent / rows[3]["image"]
    image = sitk.ReadImage(str(path))
    values = sitk.GetImageFromArray(np.arange(image.GetNumberOfPixels(), dtype=np.int32).reshape(image.GetSize()[::-1]))
    values.CopyInformation(image)
    sitk.WriteImage(values, str(path))
    write_table(copied, rows)
    case = document_of(copied, exit_code=1)["cases"][3]
    assert case["remedy"] == "Name the file of the mask: this one looks like a CT."


@pytest.mark.parametrize("flags", [("--repair",), ("--align-masks",)])
def test_a_sound_table_has_nothing_to_put_right(table: Path, flags: tuple[str, ...]) -> None:
    assert all(case["repaired"] == [] for case in document_of(table, *flags)["cases"])


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    result = check(tmp_path / "none.csv", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "The case table does not exist." in result.stderr


def test_it_needs_no_tensorflow(table: Path, tmp_path: Path) -> None:
    assert exits_without_tensorflow(["check", table, "--jobs", 1, "-o", tmp_path / "look"]) == [0]


# What is planted, by the number of the case and the column, and what names it in the output.
WORKBOOK = {
    (1, "patient_id"): "mrn_0",
    (2, "image"): "SMITH-0009.nii",
    (2, "mask"): "SMITH-0009-mask.nii",
    (3, "label"): "4.0",
    (4, "label"): "4",
    (5, "mask"): "ftp://host:port/mask.nii",
    (6, "mask"): "nowhere.nii",
    (7, "case_id"): "1.23457E+18",
    (8, "label"): '=CONCAT("A", "IS")',
    (10, "label"): "NA",
}
NAMED_OF_WORKBOOK = (
    "'MRN-0000' and 'mrn_0'",
    "patients 'MRN-0001' and 'MRN-0004' (SMITH-0002, SMITH-0009)",
    "SMITH-0002 'IAC', SMITH-0009 'AAH'",
    "'4.0' in 1 row, '4' in 1 row",
    "SMITH-0005 (ftp://host:port/mask.nii)",
    "SMITH-0006 (nowhere.nii)",
    "case_id is 1.23457E+18",
    "a formula without a stored value in label",
    "label is 'NA' in row 12",
    "merged cells, of which only the first has a value: B12:B13",
    "no patient_id",
    "not 'older list' (hidden)",
    "the column 'centre_x_mm' has no meaning",
)
TEXT = {
    (0, "center_y_mm"): "1.234,5",
    (1, "patient_id"): "\uff2d\uff32\uff2e-0000",
    (2, "image"): "copy.nrrd",
    (2, "mask"): "SMITH-0009-mask.nii",
    (3, "label"): "mia",
    (5, "image"): "http://[bad/ct.nii",
    (6, "mask"): "SMITH-006-mask.nii",
    (7, "label"): "A+B",
    (8, "case_id"): "SMITH-0010",
    (10, "label"): "2-Mar",
}
NAMED_OF_TEXT = (
    "center_y_mm is '1.234,5'",
    "'MRN-0000' and '\uff2d\uff32\uff2e-0000'",
    "patients 'MRN-0001' and 'MRN-0004' (SMITH-0002, SMITH-0009)",
    "SMITH-0002 'IAC', SMITH-0009 'AAH'",
    "'MIA' in 2 rows, 'mia' in 1 row",
    "SMITH-0005 (http://[bad/ct.nii)",
    "SMITH-0006 (SMITH-006-mask.nii)",
    "label 'A+B'",
    "the same case_id 'SMITH-0010'",
    "label looks like a date in row 12",
    "10 cells for 9 columns",
    "column 5 'label' and column 9 'label '",
)


@pytest.mark.parametrize(
    ("suffix", "planted", "named"),
    [(".xlsx", WORKBOOK, NAMED_OF_WORKBOOK), (".csv", TEXT, NAMED_OF_TEXT)],
    ids=["workbook", "text"],
)
def test_one_run_names_every_mistake_of_a_mixture(
    copied: Path, suffix: str, planted: dict[tuple[int, str], str], named: tuple[str, ...]
) -> None:
    rows = read_rows(copied)
    for row in rows:
        sex = row.pop("sex")
        row |= {"centre_x_mm": sex} if suffix == ".xlsx" else dict(zip(CENTER, ("-34,0", "36,0", "-85,0"), strict=True))
    for (number, column), text in planted.items():
        rows[number][column] = text
    if suffix == ".xlsx":
        book = openpyxl.Workbook()
        book.create_sheet("older list").sheet_state = "hidden"
        for cells in ([*rows[0]], *([*row.values()] for row in rows)):
            book.active.append(cells)
        book.active.merge_cells("B12:B13")
        book.save(copied.with_suffix(suffix))
    else:
        image = sitk.ReadImage(str(copied.parent / "SMITH-0009.nii"))
        sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat32), str(copied.parent / "copy.nrrd"), useCompression=True)
        lines = ["sep=;", ";".join([*rows[0], "label "]), *(";".join([*row.values(), "x"]) for row in rows)]
        copied.write_text("\n".join(lines) + ";x", encoding="utf-8")
    result = check(copied.with_suffix(suffix))
    assert result.exit_code == 1
    output = result.output.replace(f"{copied.parent}/", "")
    assert [text for text in named if text not in output] == [], output


def test_a_row_that_cannot_be_used_is_counted_and_the_others_are_checked(copied: Path) -> None:
    rows = read_rows(copied)
    rows[1].update(patient_id="", label="")
    rows[5]["case_id"] = ""
    write_table(copied, rows)
    document = document_of(copied, exit_code=1)
    assert [case["status"] for case in document["cases"]] == [
        "rejected" if number in (1, 5) else "usable" for number in range(12)
    ]
    assert document["rejected"] == 2 and document["cases"][5]["case_id"] == "row 7"
    assert document["cases"][1]["reason"].endswith("found: no patient_id, no label")
    prepare = CliRunner().invoke(main, ["prepare", str(copied), "-o", str(copied.parent / "ds"), "--jobs", "1"])
    assert prepare.exit_code == 1 and "2 unusable rows" in prepare.stderr


@pytest.mark.parametrize("flags", [(), ("--merge-labels",)])
def test_labels_of_one_number_are_noted_or_merged(copied: Path, flags: tuple[str, ...]) -> None:
    rows = read_rows(copied)
    for number, row in enumerate(rows):
        row["label"] = ("4", "4.0", "5")[number % 3]
    write_table(copied, rows)
    document = document_of(copied, *flags)
    assert list(document["labels"]) == (["4", "5"] if flags else ["4", "4.0", "5"])
    assert "'4' in 4 rows, '4.0' in 4 rows" in document["notes"][0]


def test_ids_that_are_insisted_on_are_accepted(copied: Path) -> None:
    rows = read_rows(copied)
    for number, row in enumerate(rows):
        row["patient_id"] = ("7", "0007", "8")[number % 3]
    write_table(copied, rows)
    refused = check(copied)
    assert refused.exit_code == 1 and "(option --distinct-ids)" in refused.stdout
    document = document_of(copied, "--distinct-ids")
    assert document["problems"] == [] and "'7' and '0007'" in document["notes"][0]


def test_a_crop_of_a_ct_under_another_patient_is_refused(copied: Path) -> None:
    rows = read_rows(copied)
    for name in (rows[0]["image"], rows[0]["mask"]):
        image = sitk.ReadImage(str(copied.parent / name))
        # The nodule of 4 mm extends over the slices 9 to 15: two thirds of the patch are left.
        sitk.WriteImage(image[:, :, 8:], str(copied.parent / f"crop-{name}"))
    rows[4] |= {name: f"crop-{rows[0][name]}" for name in ("image", "mask")}
    write_table(copied, rows)
    (problem,) = document_of(copied, exit_code=1)["problems"]
    assert problem["what"] == "One CT is entered under several patients."


def test_a_table_of_crops_is_a_warning(copied: Path) -> None:
    for row in read_rows(copied)[:4]:
        for name in (row["image"], row["mask"]):
            image = sitk.ReadImage(str(copied.parent / name))
            sitk.WriteImage(image[:, :, 6:18], str(copied.parent / name))
    assert "scores on this dataset cannot be trusted" in document_of(copied)["notes"][-1]


def test_cases_at_the_ends_of_their_ct_are_named_with_totals(copied: Path) -> None:
    rows = read_rows(copied)
    for name in (rows[3]["image"], rows[3]["mask"]):
        image = sitk.ReadImage(str(copied.parent / name))
        # The nodule of 4 mm extends over the slices 9 to 15: the first of them becomes the CT's first.
        sitk.WriteImage(image[:, :, 9:], str(copied.parent / name))
    document = document_of(copied)
    case = document["cases"][3]
    assert case["mask_faces"] == ["first slice"] and case["covered_layers"] < 32
    assert document["notes"] == [
        "the mask touches the first or last slice of the CT in 1 of 12 cases: SMITH-0003",
        "more than 5% of the patch is outside the CT in 1 of 12 cases: SMITH-0003",
    ]
