"""Commands that are killed on a disk that fills up: what has a final name is whole, and no foreign file is touched.

All 120 kills: `pytest -m nightly tests/integration/test_kill_full_disk.py`, about 40 minutes on two processors.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ggn_tf.dataset.records import open_dataset
from ggn_tf.evaluation.statistics.predictions_table import read_predictions
from ggn_tf.evaluation.statistics.run_scores import read_scores_file
from ggn_tf.protocol import PatchProtocol
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.serving.contract.version_folders import check_checksums, list_versions
from ggn_tf.studies.item import check_recorded
from tests.support.case_files import write_case_files
from tests.support.processes import Process, run_module
from tests.support.small_disk import small_disk
from tests.support.synthetic import write_synthetic_dataset
from tests.support.tiny_protocol import SIZE
from tests.support.untrained_run import write_untrained_run

DISK = 64 * 2**20
LONGEST_S = 300
FOREIGN = (".gitlab-ci.yml", ".pre-commit-config.yaml", ".run-notes.json", "thesis.txt", "stages.json.former")
MANY = 20


class Case(NamedTuple):
    """A command that writes below a disk, and what checks whatever has a final name there."""

    begin: Callable[[Path], Process]
    check: Callable[[Path], object]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case table, a run with its dataset, and a dataset to train on."""
    folder = tmp_path_factory.mktemp("sources")
    write_case_files(folder / "cases", 12)
    write_untrained_run(folder)
    write_synthetic_dataset(folder / "training", cases=32, size=SIZE)
    return folder


def command(*arguments: object) -> Process:
    return Process(run_module, "ggn_tf", *arguments)


def check_dataset(disk: Path) -> None:
    if (disk / "dataset").exists():
        open_dataset(disk / "dataset", PatchProtocol())


def check_versions(disk: Path) -> None:
    for version in list_versions(disk / "models").values() if (disk / "models").exists() else ():
        check_checksums(version)


def check_evaluation(disk: Path) -> None:
    if (disk / "evaluation").exists():
        read_scores_file(disk / "evaluation" / "scores.json")
        read_predictions(disk / "evaluation" / "predictions.csv")
        assert (disk / "evaluation" / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")


def check_runs(disk: Path) -> None:
    for file in disk.rglob("run.json"):
        run = RunFolder.open(file.parent)
        for stage in run.finished_stages():
            run.load_model(stage)
    for file in (*disk.rglob("predictions.csv"), *disk.rglob("predictions/*.csv")):
        check_recorded(file)
        read_predictions(file)


def cases(sources: Path) -> dict[str, Case]:
    table, run, training = sources / "cases" / "cases.csv", sources / "run", sources / "training"
    return {
        "prepare": Case(lambda disk: command("prepare", table, "-o", disk / "dataset", "--jobs", 1), check_dataset),
        "export": Case(lambda disk: command("export", run, "-o", disk / "models"), check_versions),
        "evaluate": Case(
            lambda disk: command("evaluate", run, "-o", disk / "evaluation", "--replicates", 50, "--gallery", 0),
            check_evaluation,
        ),
        "fit": Case(lambda disk: Process(run_module, "tests.support.tiny_fit", training, disk / "run", 2), check_runs),
        "study": Case(
            lambda disk: Process(run_module, "tests.support.tiny_study", training, disk / "study", 2), check_runs
        ),
        "crossval": Case(
            lambda disk: Process(run_module, "tests.support.tiny_crossval", training, disk / "cv", 2), check_runs
        ),
    }


def manifest(disk: Path) -> dict[str, str]:
    files = {path.relative_to(disk): path for name in FOREIGN for path in disk.rglob(name)}
    return {str(name): hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def free_space(disk: Path) -> int:
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize


def remove_remains(disk: Path) -> None:
    """What a killed process could not delete; all of it has our mark."""
    for path in list(disk.rglob(".ggn-tf-temporary.*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def kill_again_and_again(case: Case, disk: Path) -> None:
    for name in FOREIGN:
        (disk / name).write_text(f"mine: {name}", encoding="utf-8")
    before = manifest(disk)
    begun, room = time.monotonic(), free_space(disk)
    assert case.begin(disk).wait(LONGEST_S) == 0
    duration, needed = time.monotonic() - begun, room - free_space(disk)
    for path in disk.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    generator = np.random.default_rng(5)
    for _ in range(MANY):
        left = int(needed * generator.uniform(0.1, 1.5)) + 2**16
        with (disk / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, max(1, free_space(disk) - left))
        process = case.begin(disk)
        ends = time.monotonic() + float(generator.uniform(0.2, 1.0)) * duration
        while process.poll() is None and time.monotonic() < ends:
            time.sleep(0.01)
        if process.poll() is None:
            process.kill()
        assert process.wait(LONGEST_S) in (0, 1, -9), "an error ends a command with 1"
        (disk / "ballast").unlink()
        case.check(disk)
        assert manifest(disk) == before
        names = {path.name for path in disk.iterdir()} - set(FOREIGN)
        assert all(name.startswith(".ggn-tf-") or not name.startswith(".") for name in names)
        remove_remains(disk)
        for name in ("dataset", "models"):
            # These commands make another, or refuse to replace what they have made.
            shutil.rmtree(disk / name, ignore_errors=True)
    assert case.begin(disk).wait(LONGEST_S) == 0
    case.check(disk)
    assert manifest(disk) == before


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["prepare", "export", "evaluate", "fit", "study", "crossval"])
def test_a_command_killed_on_a_disk_that_fills_up(name: str, sources: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("GGN_TF_SALT_FILE", str(tmp_path / "salt"))
    with small_disk(tmp_path / "disk", DISK) as disk:
        kill_again_and_again(cases(sources)[name], disk)
