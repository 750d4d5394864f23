import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import SimpleITK as sitk  # noqa: N813
from click.testing import CliRunner, Result

from ggn_tf.cli import main
from ggn_tf.dataset.records import Dataset, open_dataset, read_patches
from ggn_tf.dataset.splits import read_split
from ggn_tf.protocol import PatchProtocol
from tests.support.bare_command import exits_without_tensorflow
from tests.support.case_files import read_rows, write_table


@pytest.fixture(scope="module")
def prepared(table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A folder with a dataset, its id list and its salt, and the finished command; not to be written to."""
    folder, before = tmp_path_factory.mktemp("prepared"), os.umask(0)
    try:
        files = ("--id-list", folder / "ids.csv", "--salt-file", folder / "salt")
        return folder, prepare(table, "-o", folder / "dataset", *files)
    finally:
        os.umask(before)


@pytest.fixture
def dataset(prepared: tuple[Path, Result]) -> Dataset:
    return open_dataset(prepared[0] / "dataset", PatchProtocol())


@pytest.fixture(autouse=True)
def own_salt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the user's salt."""
    monkeypatch.setenv("GGN_TF_SALT_FILE", str(tmp_path / "salt"))
    return tmp_path / "salt"


def prepare(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["prepare", *map(str, arguments), "--jobs", "1"])


def test_a_dataset_is_written_and_summed_up(prepared: tuple[Path, Result], dataset: Dataset) -> None:
    folder, result = prepared
    assert result.exit_code == 0, result.output
    assert len(dataset.cases) == 12
    assert f"12 cases of 6 patients in {folder / 'dataset'}" in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["label", "train", "validation", "test", "all"] in lines
    counts = {line[0]: [int(number) for number in line[1:]] for line in lines if line and line[0] in ("AAH", "MIA")}
    assert {label: sum(sets) for label, (*sets, _) in counts.items()} == {"AAH": 4, "MIA": 4}
    assert str(folder / "dataset" / "previews") in result.stdout
    assert "rejected" not in result.stdout


def test_jobs_do_not_change_the_fingerprint(
    table: Path, prepared: tuple[Path, Result], dataset: Dataset, tmp_path: Path
) -> None:
    files = ["-o", str(tmp_path / "two"), "--salt-file", str(prepared[0] / "salt")]
    result = CliRunner().invoke(main, ["prepare", str(table), *files, "--jobs", "2"])
    assert result.exit_code == 0, result.output
    other = open_dataset(tmp_path / "two", PatchProtocol())
    assert dataset.fingerprint == other.fingerprint
    assert read_split(dataset, 1) == read_split(other, 1)


def test_no_name_and_no_path_is_in_the_dataset(table: Path, dataset: Dataset) -> None:
    for path in dataset.folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for name in (b"SMITH-", b"MRN-", str(table.parent).encode()):
            assert name not in content, path


def test_the_id_list_tells_which_hash_is_whose(prepared: tuple[Path, Result], dataset: Dataset) -> None:
    rows, cases = read_rows(prepared[0] / "ids.csv"), dataset.cases
    assert [row["case_id"] for row in rows] == [f"SMITH-{number:04d}" for number in range(12)]
    assert [row["dataset_case_id"] for row in rows] == [case.case_id for case in cases]
    assert [row["dataset_patient_id"] for row in rows] == [case.patient_id for case in cases]
    assert stat.S_IMODE((prepared[0] / "ids.csv").stat().st_mode) == 0o600


def test_options_decide_folder_labels_ids_and_splits(
    table: Path, dataset: Dataset, tmp_path: Path, own_salt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert prepare(table, "--keep-ids", "--label-column", "sex", "--splits", 2, "--seed", 3).exit_code == 0
    other = open_dataset(tmp_path / "dataset", PatchProtocol())
    assert other.labels == ("F", "M") and other.cases[0].columns == {"label": "AAH"}
    assert (other.cases[3].case_id, other.cases[3].patient_id) == ("SMITH-0003", "MRN-0001")
    assert [case.digest for case in dataset.cases] == [case.digest for case in other.cases]
    assert dataset.fingerprint != other.fingerprint and not own_salt.exists()
    stored = json.loads((tmp_path / "dataset" / "splits.json").read_text(encoding="utf-8"))
    assert [split["number"] for split in stored["splits"]] == [1, 2] and stored["seed"] == 3


def test_what_is_noted_names_nobody(table: Path, tmp_path: Path) -> None:
    """A column that names cases, a CT that is not in Hounsfield units, a nodule that is entered twice."""
    shutil.copytree(table.parent, tmp_path / "cases")
    path = tmp_path / "cases" / "SMITH-0005.nii"
    sitk.WriteImage(sitk.ReadImage(str(path)) + 1024, str(path))
    rows = [{**row, "report": f"see {row['patient_id']}"} for row in read_rows(table)]
    write_table(tmp_path / "cases" / "cases.csv", [*rows, {**rows[3], "case_id": "SMITH-0099"}])
    result = prepare(tmp_path / "cases" / "cases.csv", "-o", tmp_path / "dataset", "--id-list", tmp_path / "ids.csv")
    hashes = {row["case_id"]: row["dataset_case_id"] for row in read_rows(tmp_path / "ids.csv")}
    assert "note: columns that name cases, patients or files are left out of the dataset: report" in result.stdout
    assert set(open_dataset(tmp_path / "dataset", PatchProtocol()).cases[0].columns) == {"sex"}
    assert f"note: no lung around the nodule of {hashes['SMITH-0005']}: " in result.stdout
    assert f"the same nodule in several rows: {hashes['SMITH-0003']}, {hashes['SMITH-0099']}" in result.stdout
    assert "SMITH" not in result.stdout and "ggn-tf check prints the same notes" in result.stdout


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("table.csv", "id list would overwrite something that exists"),
        ("missing/ids.csv", "no such folder"),
        ("table.csv/ids.csv", "no such folder"),
        ("dataset/ids.csv", "id list would be in the dataset"),
    ],
)
def test_a_place_where_no_id_list_can_be_is_refused_before_any_work(
    table: Path, tmp_path: Path, place: str, message: str
) -> None:
    (tmp_path / "table.csv").write_text("mine", encoding="utf-8")
    result = prepare(table, "-o", tmp_path / "dataset", "--id-list", tmp_path / place)
    assert result.exit_code == 1
    assert message in result.stderr and str(tmp_path / place) in result.stderr and "--id-list" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert (tmp_path / "table.csv").read_text(encoding="utf-8") == "mine"


def test_no_id_list_is_left_without_its_dataset(bad_table: Path, tmp_path: Path) -> None:
    result = prepare(bad_table, "-o", tmp_path / "out" / "dataset", "--id-list", tmp_path / "ids.csv")
    assert "nothing was written" in result.stderr
    assert not (tmp_path / "ids.csv").exists()


def test_rejects_are_all_told_and_nothing_is_written(bad_table: Path, tmp_path: Path) -> None:
    result = prepare(bad_table, "-o", tmp_path / "out" / "dataset")
    assert result.exit_code == 1
    for case_id in ("SMITH-0002", "SMITH-0005"):
        block = next(part for part in result.stderr.split("rejected: ") if case_id in part)
        assert "remedy:" in block
    assert "2 of 12 cases cannot be used; nothing was written." in result.stderr
    assert "--allow-rejects" in result.stderr
    assert not (tmp_path / "out").exists()


def test_rejects_can_be_left_out_and_are_listed_without_their_names(bad_table: Path, tmp_path: Path) -> None:
    result = prepare(bad_table, "-o", tmp_path / "dataset", "--allow-rejects")
    assert result.exit_code == 0, result.output
    assert f"rejected:    2, listed in {tmp_path / 'dataset' / 'rejected.csv'}" in result.stdout
    rows = read_rows(tmp_path / "dataset" / "rejected.csv")
    assert len(rows) == 2
    assert all(row["reason"] and row["remedy"] and "SMITH" not in str(row) for row in rows)


def test_too_few_patients_are_refused_before_any_work(table: Path, tmp_path: Path) -> None:
    shutil.copytree(table.parent, tmp_path / "cases")
    write_table(tmp_path / "cases" / "cases.csv", read_rows(table)[:4])
    result = prepare(tmp_path / "cases" / "cases.csv", "-o", tmp_path / "dataset")
    assert result.exit_code == 1
    assert "too few patients" in result.stderr
    assert "2 patients" in result.stderr


@pytest.mark.parametrize("option", [["--jobs", "0"], ["--splits", "0"], ["--seed", "-1"]])
def test_numbers_out_of_range_are_a_usage_error(table: Path, option: list[str]) -> None:
    result = CliRunner().invoke(main, ["prepare", str(table), *option])
    assert result.exit_code == 2
    assert option[0] in result.stderr


def test_a_wrong_table_is_reported_before_tensorflow_is_loaded(tmp_path: Path) -> None:
    assert exits_without_tensorflow(["prepare", tmp_path / "none.csv", "-o", tmp_path / "dataset"]) == [1]


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(table: Path, tmp_path: Path) -> None:
    shutil.copytree(table.parent, tmp_path / "cases")
    many = [{**row, "case_id": f"{row['case_id']}-{n}"} for n in range(40) for row in read_rows(table)]
    write_table(tmp_path / "cases" / "cases.csv", many)
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-m", "ggn_tf", "prepare", "../cases/cases.csv", "--jobs", "2"]
    environment = {**os.environ, "GGN_TF_SALT_FILE": str(tmp_path / "salt")}
    process = subprocess.Popen(
        command,
        cwd=work,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
        # A shell that runs the tests in the background has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(work.glob(".ggn-tf-temporary.dataset.*/*.tfrecord")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert list(work.iterdir()) == []


@pytest.mark.real
@pytest.mark.nightly
def test_every_lidc_crop_is_accepted(real_data: Path, tmp_path: Path) -> None:
    table = real_data / "lidc_voi" / "cases.csv"
    arguments = [str(table), "--label-column", "malignancy", "-o", str(tmp_path / "dataset"), "--jobs", "2"]
    result = CliRunner().invoke(main, ["prepare", *arguments])
    assert result.exit_code == 0, result.output
    dataset = open_dataset(tmp_path / "dataset", PatchProtocol())
    assert dataset.label_counts == {"1": 105, "2": 145, "3": 257, "4": 72, "5": 90}
    assert set(dataset.cases[0].columns) == {"texture", "diameter_mm"}
    hu, mask = read_patches(dataset, [case.case_id for case in dataset.cases])
    assert hu.min() >= -2048
    assert (mask.sum(axis=(1, 2, 3, 4)) > 0).all()
