"""Beam's DirectRunner writes the same dataset as the process pool, to the bit."""

import hashlib
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ggn_tf.cli import main
from tests.support.case_files import read_rows, write_case_files, write_table

REASON = 'Apache Beam needs its own environment: pip install ".[beam,test]" without constraints.txt'


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case_files(tmp_path_factory.mktemp("cases"), 12, bad=(2, 5))


@pytest.fixture(autouse=True)
def own_salt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGN_TF_SALT_FILE", str(tmp_path / "salt"))


def prepare(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["prepare", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_file_is_the_one_of_the_process_pool(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("apache_beam", reason=REASON)
    one = prepare(table, "-o", tmp_path / "one", "--jobs", 1, "--allow-rejects")
    two = prepare(table, "-o", tmp_path / "two", "--allow-rejects", "--runner", "beam", "--", "--direct_num_workers=1")
    assert (one.exit_code, two.exit_code) == (0, 0), two.output
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert {"dataset.json", "rejected.csv", "patches-00000-of-00001.tfrecord"} <= hashes(tmp_path / "two").keys()


def test_nothing_is_left_in_the_staging_folder(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("apache_beam", reason=REASON)
    staging = tmp_path / "staging"
    result = prepare(table, "-o", tmp_path / "out", "--runner", "beam", "--staging", staging)
    assert result.exit_code == 1
    assert "2 of 12 cases cannot be used; nothing was written." in result.stderr
    assert not staging.exists()
    assert not (tmp_path / "out").exists()


def test_a_staging_folder_that_exists_is_refused_and_kept(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("apache_beam", reason=REASON)
    result = prepare(table, "-o", tmp_path / "out", "--runner", "beam", "--staging", table.parent)
    assert result.exit_code == 1
    assert "The staging folder exists." in result.stderr
    assert table.exists()


def test_workers_elsewhere_need_a_staging_folder(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("apache_beam", reason=REASON)
    result = prepare(table, "-o", tmp_path / "out", "--runner", "beam", "--", "--runner=FlinkRunner")
    assert result.exit_code == 1
    assert "(option --staging)" in result.stderr


def test_a_pipeline_that_fails_is_one_error(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("apache_beam", reason=REASON)
    staging, options = tmp_path / "staging", ["--", "--runner=NoSuchRunner"]
    result = prepare(table, "-o", tmp_path / "out", "--runner", "beam", "--staging", staging, *options)
    assert result.exit_code == 1
    assert "Beam's pipeline failed." in result.stderr
    assert "NoSuchRunner" in result.stderr
    assert not staging.exists()


def test_without_beam_it_says_how_to_install_it(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "apache_beam", None)
    monkeypatch.delitem(__import__("sys").modules, "ggn_tf.dataset.beam", raising=False)
    result = prepare(table, "-o", tmp_path / "out", "--runner", "beam")
    assert result.exit_code == 1
    assert 'pip install "ggn-tf[beam]"' in result.stderr


@pytest.mark.parametrize("extra", [["--", "--runner=FlinkRunner"], ["--staging", "there"]])
def test_beams_options_need_beam(extra: list[str], table: Path, tmp_path: Path) -> None:
    result = prepare(table, "-o", tmp_path / "out", *extra)
    assert result.exit_code == 2
    assert "needs --runner beam" in result.stderr


def with_urls(table: Path, folder: Path, base: str) -> Path:
    """The table with its CTs and masks at URLs below `base`."""
    rows = [{**row, "image": base + row["image"], "mask": base + row["mask"]} for row in read_rows(table)]
    folder.mkdir()
    write_table(folder / "cases.csv", rows)
    return folder / "cases.csv"


@pytest.mark.parametrize("runner", ["processes", "beam"])
def test_object_storage_gives_the_same_patches(runner: str, table: Path, tmp_path: Path) -> None:
    """Table, CTs and masks are read from fsspec's memory, the dataset is written there."""
    fsspec = pytest.importorskip("fsspec")
    if runner == "beam":
        pytest.importorskip("apache_beam", reason=REASON)
    memory = fsspec.filesystem("memory")
    shutil.rmtree(tmp_path / "urls", ignore_errors=True)
    memory.put(f"{table.parent}/", "/bucket/cases/", recursive=True)
    try:
        memory.put_file(str(with_urls(table, tmp_path / "urls", "memory://bucket/cases/")), "/bucket/cases.csv")
        local = prepare(table, "-o", tmp_path / "local", "--jobs", 1, "--allow-rejects")
        how = ["--jobs", 1] if runner == "processes" else ["--runner", "beam", "--", "--direct_num_workers=1"]
        remote = prepare("memory://bucket/cases.csv", "-o", "memory://bucket/out", "--allow-rejects", *how)
        assert (local.exit_code, remote.exit_code) == (0, 0), remote.output
        assert "10 cases of 6 patients in memory://bucket/out" in remote.stdout
        memory.get("/bucket/out/", f"{tmp_path}/remote/", recursive=True)
    finally:
        memory.rm("/bucket", recursive=True)
    assert hashes(tmp_path / "local") == hashes(tmp_path / "remote")


def test_a_case_that_is_not_at_its_url_is_rejected_alone(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    shutil.copytree(table.parent, tmp_path / "cases")
    (tmp_path / "cases" / "SMITH-0003.nii").unlink()
    urls = with_urls(table, tmp_path / "urls", f"file://{tmp_path}/cases/")
    result = prepare(urls, "-o", tmp_path / "out", "--jobs", 1, "--allow-rejects")
    assert result.exit_code == 0, result.output
    assert "9 cases of" in result.stdout
    assert "SMITH-0003" in result.stderr
    assert "at the URL" in result.stderr
    rejected = (tmp_path / "out" / "rejected.csv").read_text(encoding="utf-8")
    assert "SMITH" not in rejected
    assert str(tmp_path) not in rejected


def test_a_dataset_at_a_url_is_not_written_over(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    result = prepare(table, "-o", f"file://{tmp_path}/there", "--jobs", 1, "--allow-rejects")
    assert result.exit_code == 1
    assert "The dataset's URL exists." in result.stderr


def test_a_table_that_is_not_at_its_url(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    result = prepare(f"file://{tmp_path}/none.csv", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"file://{tmp_path}/none.csv" in result.stderr
