import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

import ggn_tf
from ggn_tf.api.table_check import check_table
from ggn_tf.dataset.records import open_dataset
from ggn_tf.errors import DatasetError, MaskError, RejectedCasesError, TableError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_files import read_rows, write_case_files, write_table
from tests.support.chest import write_dicom


def test_a_dataset_is_what_was_written(tmp_path: Path) -> None:
    seen: list[ggn_tf.Progress] = []
    salt = tmp_path / "salt"
    table = write_case_files(tmp_path / "cases", 12)
    dataset = ggn_tf.prepare(
        table, tmp_path / "dataset", jobs=1, salt_file=salt, solid_hu=-600.0, on_progress=seen.append
    )
    written = open_dataset(dataset.folder, PatchProtocol())
    assert (dataset.fingerprint, dataset.cases) == (written.fingerprint, written.cases)
    assert dataset.rejected == () and salt.is_file()
    # The nodules have -550 to -450 HU.
    assert {(case.solid_hu, case.solid_fraction) for case in written.cases} == {(-600.0, 1.0)}
    assert {label: sum(counts.values()) for label, counts in dataset.split_counts.items()} == dict(written.label_counts)
    assert [progress.done for progress in seen] == list(range(13)) and {progress.total for progress in seen} == {12}


def test_cases_that_cannot_be_used_are_in_the_error_or_left_out(tmp_path: Path) -> None:
    table = write_case_files(tmp_path / "cases", 12, bad=(2, 5))
    with pytest.raises(RejectedCasesError) as caught:
        ggn_tf.prepare(table, tmp_path / "dataset", jobs=1, keep_ids=True)
    assert [str(error.case)[:10] for error in caught.value.rejected] == ["SMITH-0002", "SMITH-0005"]
    assert all(isinstance(error, MaskError) for error in caught.value.rejected)
    assert caught.value.arguments == ("allow_rejects",) and not (tmp_path / "dataset").exists()
    dataset = ggn_tf.prepare(table, tmp_path / "dataset", jobs=1, keep_ids=True, allow_rejects=True)
    assert (len(dataset.cases), len(dataset.rejected)) == (10, 2)
    with pytest.raises(DatasetError):
        ggn_tf.prepare(table, tmp_path / "dataset", jobs=1)


def test_an_output_that_exists_is_refused_before_any_ct_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggn_tf.api.prepare.cut_cases", lambda *_: pytest.fail("a CT would be read"))
    with pytest.raises(DatasetError, match="overwrite something that exists"):
        ggn_tf.prepare(write_case_files(tmp_path / "cases", 2), tmp_path / "cases")


@pytest.mark.parametrize(
    "wrong", [{"runner": "threads"}, {"solid_hu": -1025.0}, {"solid_hu": 401.0}, {"solid_hu": math.nan}]
)
def test_an_argument_without_meaning_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ggn_tf.GgnError) as caught:
        ggn_tf.prepare(write_case_files(tmp_path / "cases", 2), tmp_path / "dataset", **wrong)
    assert caught.value.arguments == tuple(wrong)


def test_a_check_reads_the_margin_that_prepare_stores(tmp_path: Path) -> None:
    table = write_case_files(tmp_path / "cases", 12)
    path = table.parent / read_rows(table)[0]["image"]
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32)
    # The patch begins at column 6.
    image[1, 20, 12] = math.nan
    sitk.WriteImage(image, str(path))
    assert check_table(table, jobs=1).rejected == 1
    with pytest.raises(RejectedCasesError):
        ggn_tf.prepare(table, tmp_path / "dataset", jobs=1, keep_ids=True)


def test_one_series_under_two_patients_is_refused_once_it_is_read(tmp_path: Path) -> None:
    table = write_case_files(tmp_path / "cases", 12)
    rows = read_rows(table)
    image = sitk.ReadImage(str(table.parent / rows[0]["image"]))
    shutil.copytree(write_dicom(image, table.parent / "one"), table.parent / "two")
    rows[0]["image"], rows[4]["image"] = "one", "two"
    write_table(table, rows)
    with pytest.raises(TableError, match="One CT is entered under several patients") as caught:
        ggn_tf.prepare(table, tmp_path / "dataset", jobs=1, keep_ids=True)
    assert "'MRN-0000' and 'MRN-0002' (SMITH-0000, SMITH-0004)" in str(caught.value.found)
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize("form", ["nii.gz", "nrrd", "dicom"])
def test_one_ct_in_two_formats_under_two_patients_is_refused(tmp_path: Path, form: str) -> None:
    table = write_case_files(tmp_path / "cases", 12)
    rows = read_rows(table)
    image = sitk.ReadImage(str(table.parent / rows[0]["image"]))
    if form == "dicom":
        write_dicom(image, table.parent / "one")
    else:
        sitk.WriteImage(image, str(table.parent / f"one.{form}"))
    # Another nodule of the same CT.
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(table.parent / rows[0]["mask"])))
    other = sitk.GetImageFromArray(np.roll(mask, 2, axis=2))
    other.CopyInformation(image)
    sitk.WriteImage(other, str(table.parent / "other.nii.gz"))
    rows[4].update(image="one" if form == "dicom" else f"one.{form}", mask="other.nii.gz")
    write_table(table, rows)
    with pytest.raises(TableError, match="One CT is entered under several patients"):
        ggn_tf.prepare(table, tmp_path / "dataset", jobs=1, keep_ids=True)


def test_accepted_ids_and_merged_labels_are_in_the_dataset(tmp_path: Path) -> None:
    table = write_case_files(tmp_path / "cases", 12)
    rows = read_rows(table)
    for number, row in enumerate(rows):
        row.update(patient_id=("7", "0007", "8", "9")[number % 4], label=("mia", "MIA", "MIA", "AIS")[number % 4])
    write_table(table, rows)
    with pytest.raises(TableError, match="Patient ids differ only"):
        ggn_tf.prepare(table, tmp_path / "dataset", jobs=1)
    dataset = ggn_tf.prepare(table, tmp_path / "dataset", jobs=1, keep_ids=True, distinct_ids=True, merge_labels=True)
    assert {case.label for case in dataset.cases} == {"MIA", "AIS"}
    assert {case.patient_id for case in dataset.cases} == {"7", "0007", "8", "9"}
    assert any("labels merged" in note for note in dataset.notes)
    assert all((case.covered_layers, case.covered_share, case.mask_faces) == (32, 1.0, ()) for case in dataset.cases)
