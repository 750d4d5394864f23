"""Runs that are killed for good, by the operating system, and repeated."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ggn_tf.dataset.records import Dataset
from ggn_tf.training.run_folder import RunFolder
from tests.synthetic import write_synthetic_dataset
from tests.tiny_fit import results

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_synthetic_dataset(tmp_path_factory.mktemp("data") / "dataset", cases=32, size=16)


def start(dataset: Dataset, run: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "tests.tiny_fit", str(dataset.folder), str(run)], cwd=ROOT)


def checkpoints(run: Path) -> set[str]:
    return {path.name for path in run.glob("checkpoints/*.npz")}


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_in_the_same_bits(dataset: Dataset, tmp_path: Path):
    whole = start(dataset, tmp_path / "whole")
    assert whole.wait() == 0
    generator = np.random.default_rng(0)
    for _ in range(3):
        before = checkpoints(tmp_path / "killed")
        process = start(dataset, tmp_path / "killed")
        while process.poll() is None and checkpoints(tmp_path / "killed") <= before:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 2))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it was killed: kill earlier"
    assert start(dataset, tmp_path / "killed").wait() == 0
    assert results(RunFolder.open(tmp_path / "killed")) == results(RunFolder.open(tmp_path / "whole"))
