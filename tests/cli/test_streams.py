"""Terminals of eight bits, closed pipes and closed descriptors, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ggn_tf.cli import main
from tests.support.case_files import read_rows, write_case_files, write_table
from tests.support.processes import ROOT

LABELS = {"AAH": "原位", "AIS": "原位", "MIA": "größer\u200b", "IAC": "größer\u200b"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case table whose labels are in two scripts."""
    path = write_case_files(tmp_path_factory.mktemp("cases"), 12)
    write_table(path, [{**row, "label": LABELS[row["label"]]} for row in read_rows(path)])
    return path


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a line of bash in which `ggn` is the command line."""
    script = f'ggn() {{ {sys.executable} -m ggn_tf "$@"; }}; {line}'
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "GGN_TF_SALT_FILE": str(folder / "salt"), **environment}
    return subprocess.run(["bash", "-c", script], cwd=folder, env=variables, capture_output=True, timeout=120)


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_terminal_of_eight_bits_shows_escapes(table: Path, tmp_path: Path, environment: dict[str, str]):
    done = shell(f"ggn check '{table}' --jobs 1", tmp_path, **environment)
    assert (done.returncode, done.stderr.strip()) == (0, b"")
    assert rb"\u539f\u4f4d" in done.stdout and rb"\u200b" in done.stdout
    assert b"12 of 12 cases can be used" in done.stdout


@pytest.mark.slow
def test_a_dataset_is_written_whatever_becomes_of_the_output(table: Path, tmp_path: Path):
    done = shell(f"ggn prepare '{table}' --jobs 1 -o new <&- >&- 2>&-", tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    document = json.loads((tmp_path / "new" / "dataset.json").read_text(encoding="utf-8"))
    assert document["labels"] == {"größer\u200b": 8, "原位": 4}


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "2>&-", "| true; exit ${PIPESTATUS[0]}"])
def test_cts_are_written_whatever_becomes_of_the_output(tmp_path: Path, redirection: str):
    """A full disk behind stdout, closed descriptors, and a reader that leaves."""
    done = shell(f"ggn phantom new --nodules 4 --format nifti {redirection}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr and b"error" not in done.stderr and b"ignored" not in done.stderr
    assert (b"note: Standard output could not be written" in done.stderr) == (redirection in (">/dev/full", ">&-"))
    assert len(read_rows(tmp_path / "new" / "cases.csv")) == 4


def test_what_is_only_printed_is_reported_as_lost(table: Path, tmp_path: Path):
    (tmp_path / "runs").mkdir()
    for line, reason in (
        ("ggn runs >/dev/full", b"No space left on device"),
        ("ggn runs >&-", b"Bad file descriptor"),
        ("ggn --version >&-", b"Bad file descriptor"),
    ):
        done = shell(line, tmp_path)
        assert (done.returncode, done.stderr) == (1, b"note: Standard output could not be written: %s.\n" % reason)


def test_a_reader_that_leaves_changes_no_exit_code(table: Path, tmp_path: Path):
    rows = read_rows(table)
    write_table(tmp_path / "bad.csv", [{**row, "image": "none.nii"} for row in rows])
    done = shell(f"ggn check '{tmp_path / 'bad.csv'}' --jobs 1 | head -1; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert (done.returncode, done.stderr.strip()) == (1, b"")
    (tmp_path / "runs").mkdir()
    done = shell("ggn runs | head -0; exit ${PIPESTATUS[0]}", tmp_path)
    assert (done.returncode, done.stderr.strip()) == (0, b"")


def test_a_name_that_is_no_text_is_refused_in_one_block(table: Path, tmp_path: Path, monkeypatch):
    """TensorFlow writes no file of such a name."""
    monkeypatch.setenv("GGN_TF_SALT_FILE", str(tmp_path / "salt"))
    out = tmp_path / os.fsdecode(b"\xe4")
    done = CliRunner().invoke(main, ["prepare", str(table), "--jobs", "1", "-o", str(out)])
    assert done.exit_code == 1 and "not text in UTF-8" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["salt"]


def test_a_name_that_is_no_text_is_printed(tmp_path: Path):
    done = shell("ggn runs $'gr\\xf6\\xdfer'", tmp_path)
    assert done.returncode == 1 and b"Traceback" not in done.stderr
    assert rb"gr\udcf6\udcdfer" in done.stderr
