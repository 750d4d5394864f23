import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from click.testing import CliRunner

from ggn_tf.cli import main
from ggn_tf.doctor import examine, missing_requirements
from ggn_tf.machine import resolve_precision


def test_the_facts_are_this_machines():
    result = CliRunner().invoke(main, ["doctor", "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["works"] is True
    assert found["packages"]["tensorflow"] == version("tensorflow")
    assert found["python"] == sys.version.split()[0] and found["cores"] == len(os.sched_getaffinity(0))
    assert (found["precision"]["auto"], found["precision"]["why"]) == resolve_precision("auto")
    assert found["tensorboard"]["works"] is True and found["serving"]["same_as_tensorflow"] is True
    assert all(problem["remedy"] for problem in found["problems"])


def test_as_text_it_tells_the_precision_and_why():
    result = CliRunner().invoke(main, ["doctor"])
    precision, why = resolve_precision("auto")
    assert f"precision    auto takes {precision}: {why}" in result.stdout


def test_a_copy_that_was_not_installed_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_package(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("ggn_tf.doctor.requires", no_package)
    found = examine(tmp_path)
    assert not found.works and any("itself is not installed" in problem.what for problem in found.problems)


def test_a_missing_and_an_old_package_are_problems_with_a_remedy():
    problems = missing_requirements(["no-such-package >=1", "numpy >=99", "click >=1", 'torch >=1; extra == "bench"'])
    assert [problem.what for problem in problems] == [
        "no-such-package is not installed (>=1 is required)",
        f"numpy is {version('numpy')}, >=99 is required",
    ]
    assert all(problem.remedy.startswith("pip install") and problem.fatal for problem in problems)


def test_a_tensorflow_that_does_not_start_is_told_and_exits_with_1(tmp_path: Path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise ImportError('no AVX')", encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", "from ggn_tf.cli import main; main(['doctor'])"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 1, done.stderr
    assert "PROBLEM      TensorFlow does not start: ImportError: no AVX" in done.stdout
    assert "remedy     pip install" in done.stdout and "Traceback" not in done.stderr
