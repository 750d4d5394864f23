"""Runs whose process the operating system kills, and that are started again."""

import resource
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.evaluation.run_predictions import predict_run
from ggn_tf.runs.run_folder import RunFolder
from tests.support.processes import Process, kill_when, run_module
from tests.support.tiny_fit import results

STAGES = ("segment", "classify", "joint")


def fit(dataset: Dataset, run: Path, epochs: int) -> Process:
    return Process(run_module, "tests.support.tiny_fit", dataset.folder, run, epochs)


def has_reached(run: Path, moment: float) -> bool:
    """Whether so many checkpoints were written, in stages of thousands."""
    names = [path.stem.rsplit("-", 1) for path in run.glob("checkpoints/[a-z]*.npz")]
    return max((1000 * STAGES.index(stage) + int(number) for stage, number in names), default=0) >= moment


def answers(run: Path, dataset: Dataset) -> str:
    """Every prediction to the last bit, and the hashes of weights and history."""
    opened = RunFolder.open(run)
    return f"{results(opened)}\n{predict_run(opened, dataset, read_split(dataset, 1)).to_csv(index=False)}"


def moments(kills: int, epochs: int, checkpoints_an_epoch: int) -> list[float]:
    """Random moments over the three stages, as `has_reached` counts; the last ones leave time to be killed in."""
    whole = epochs * checkpoints_an_epoch
    drawn = np.sort(np.random.default_rng(0).uniform(0, 3 * whole - 3, kills))
    return [1000 * (moment // whole) + moment % whole for moment in drawn]


def kill_again_and_again(dataset: Dataset, killed: Path, kills: int, epochs: int) -> None:
    steps = -(-len(read_split(dataset, 1).train) // 4)
    delays = np.random.default_rng(1).uniform(0, 0.02, kills)
    for moment, delay in zip(moments(kills, epochs, steps + 1), delays, strict=True):
        kill_when(fit(dataset, killed, epochs), partial(has_reached, killed, moment), float(delay))
    assert fit(dataset, killed, epochs).wait() == 0


@pytest.fixture(scope="module")
def whole(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs per stage that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert fit(dataset, folder / "run", 3).wait() == 0
    return folder / "run"


@pytest.mark.nightly
def test_a_run_on_a_disk_that_fills_up_resumes_when_there_is_room(dataset: Dataset, whole: Path, tmp_path: Path):
    run = tmp_path / "run"
    for moment in (3, 1004, 2008):
        process = fit(dataset, run, 3)
        while process.poll() is None and not has_reached(run, moment):
            time.sleep(0.002)
        # From now on no file of the process can grow beyond a kilobyte.
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        assert process.wait() == 1
        assert not list(run.rglob(".ggn-tf-*")), "something half-written stays"
    assert fit(dataset, run, 3).wait() == 0
    assert answers(run, dataset) == answers(whole, dataset)


@pytest.mark.nightly
def test_a_run_killed_at_20_random_moments_ends_in_the_same_bits(dataset: Dataset, tmp_path: Path):
    undisturbed = fit(dataset, tmp_path / "whole", 5)
    kill_again_and_again(dataset, tmp_path / "killed", kills=20, epochs=5)
    assert undisturbed.wait() == 0
    assert answers(tmp_path / "killed", dataset) == answers(tmp_path / "whole", dataset)
