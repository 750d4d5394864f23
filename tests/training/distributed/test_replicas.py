"""Several devices or processes that train one model: what one device would train, to rounding."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ggn_tf.dataset.pipeline import Part
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.runs.run_folder import RunFolder
from tests.support import shared_fit
from tests.support.processes import Process
from tests.support.synthetic import write_synthetic_dataset
from tests.support.tiny_fit import fit, results, tiny_description

LIMIT_S = 600


@pytest.mark.parametrize("workers", [1, 2, 3, 24])
@pytest.mark.parametrize("size", [1, 2, 3, 23, 24])
def test_shares_are_a_batch_and_none_is_empty(size, workers):
    rows = [range(*Part(worker, workers).rows(size)) for worker in range(workers)]
    assert all(rows)
    if size < workers:
        assert rows == [range(size)] * workers
    else:
        assert [row for share in rows for row in share] == list(range(size))
        assert max(map(len, rows)) - min(map(len, rows)) <= 1


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> RunFolder:
    return fit(tmp_path_factory.mktemp("one") / "run", tiny_description(dataset, 1, shared_fit.LEARNING_RATE), dataset)


def start_two(dataset: Dataset, folder: Path) -> list[Process]:
    """Chief and worker; the worker names another run folder, which it must not write."""
    chief, worker = shared_fit.configurations(2)
    return [
        shared_fit.start(dataset, folder / "run", "multiworker", epochs=1, config=chief),
        shared_fit.start(dataset, folder / "nothing", "multiworker", epochs=1, config=worker),
    ]


def ended(processes: list[Process]) -> list[tuple[int, str]]:
    """Exit codes, and what was said; no process is left behind."""
    for process in processes:
        process.wait(LIMIT_S)
        process.kill()
    return [(process.wait(), process.errors_file.read_text(encoding="utf-8")) for process in processes]


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    folder = tmp_path_factory.mktemp("two")
    answers = ended(start_two(dataset, folder))
    assert [code for code, _ in answers] == [0, 0], answers
    return folder


def assert_equal_to_rounding(shared: RunFolder, one: RunFolder) -> None:
    assert shared.finished_stages() == one.finished_stages() == ("segment", "classify", "joint")
    ours, expected = (pd.read_csv(run.folder / "history.csv") for run in (shared, one))
    pd.testing.assert_frame_equal(ours, expected, rtol=1e-3, atol=1e-4)
    # Before rounding has had time to grow: the first epoch's losses.
    np.testing.assert_allclose(ours["loss"][0], expected["loss"][0], rtol=1e-6)
    assert_weights_equal_to_rounding(shared, one)


def assert_weights_equal_to_rounding(shared: RunFolder, one: RunFolder) -> None:
    for weight, other in zip(shared.load_model().weights, one.load_model().weights, strict=True):
        # Adam divides a gradient by its size: where it is next to nothing, rounding decides on a whole step.
        np.testing.assert_allclose(weight.numpy(), other.numpy(), rtol=1e-3, atol=2e-4, err_msg=weight.path)


@pytest.mark.nightly
def test_two_processes_train_what_one_trains(two_workers: Path, one: RunFolder):
    assert_equal_to_rounding(RunFolder.open(two_workers / "run"), one)


@pytest.mark.nightly
def test_only_the_chief_writes(two_workers: Path):
    assert [path.name for path in two_workers.iterdir()] == ["run"]
    entries = RunFolder.open(two_workers / "run").ledger.entries()
    assert [entry["conditions"]["replicas"] for entry in entries] == [2, 2, 2]


@pytest.mark.nightly
def test_two_devices_of_a_process_train_what_one_trains(dataset: Dataset, one: RunFolder, tmp_path: Path):
    answers = ended([shared_fit.start(dataset, tmp_path / "run", "mirrored", devices=2, epochs=1)])
    assert answers[0][0] == 0, answers
    assert_equal_to_rounding(RunFolder.open(tmp_path / "run"), one)


def wait_for(ready: Callable[[], bool], processes: list[Process]) -> None:
    ends = time.monotonic() + LIMIT_S
    while not ready():
        assert time.monotonic() < ends and all(process.poll() is None for process in processes)
        time.sleep(0.01)


def interrupt(dataset: Dataset, folder: Path, whom: int, how: signal.Signals) -> list[tuple[int, str]]:
    """Send a signal to the chief (0) or the worker (1) in the middle of the second stage."""
    processes = start_two(dataset, folder)
    try:
        wait_for(lambda: any((folder / "run" / "checkpoints").glob("classify-*2.npz")), processes)
        os.kill(processes[whom].pid, how)
    except AssertionError:
        for process in processes:
            process.kill()
        raise
    return ended(processes)


@pytest.mark.nightly
def test_a_killed_worker_ends_the_training_and_a_new_start_ends_in_the_same_bits(
    dataset: Dataset, two_workers: Path, tmp_path: Path
):
    (code, said), _ = interrupt(dataset, tmp_path, 1, signal.SIGKILL)
    assert code == 1
    assert "A worker of the training has ended" in said and "last checkpoint" in said and "Traceback" not in said
    assert [code for code, _ in ended(start_two(dataset, tmp_path))] == [0, 0]
    assert results(RunFolder.open(tmp_path / "run")) == results(RunFolder.open(two_workers / "run"))


@pytest.mark.nightly
def test_a_killed_chief_ends_the_worker_and_a_new_start_ends_in_the_same_bits(
    dataset: Dataset, two_workers: Path, tmp_path: Path
):
    _, (code, said) = interrupt(dataset, tmp_path, 0, signal.SIGKILL)
    assert code == 1 and "A worker of the training has ended" in said
    assert [code for code, _ in ended(start_two(dataset, tmp_path))] == [0, 0]
    assert results(RunFolder.open(tmp_path / "run")) == results(RunFolder.open(two_workers / "run"))


@pytest.mark.nightly
@pytest.mark.parametrize("whom", [0, 1])
def test_whoever_is_asked_to_stop_stops_both(dataset: Dataset, two_workers: Path, tmp_path: Path, whom: int):
    assert [code for code, _ in interrupt(dataset, tmp_path, whom, signal.SIGTERM)] == [130, 130]
    assert [code for code, _ in ended(start_two(dataset, tmp_path))] == [0, 0]
    assert results(RunFolder.open(tmp_path / "run")) == results(RunFolder.open(two_workers / "run"))


@pytest.mark.slow
def test_workers_that_were_asked_for_different_runs_refuse(dataset: Dataset, tmp_path: Path):
    chief, worker = shared_fit.configurations(2)
    answers = ended(
        [
            shared_fit.start(dataset, tmp_path / "run", "multiworker", epochs=1, config=chief),
            shared_fit.start(dataset, tmp_path / "run", "multiworker", epochs=2, stage="classify", config=worker),
        ]
    )
    assert [code for code, _ in answers] == [1, 1]
    assert "another worker differs" in answers[0][1]
    assert "other than the chief's: protocol, stages" in answers[1][1]


@pytest.mark.slow
def test_three_devices_of_a_process_train_what_one_trains_whatever_the_size_of_the_batch(tmp_path: Path):
    """The classifier alone. Shares of 1, 1 and 2 cases; of the last batch, of two cases, each device takes all."""
    dataset = write_synthetic_dataset(tmp_path / "dataset", cases=30, size=16)
    assert len(read_split(dataset, 1).train) % 4 == 2
    answers = ended([shared_fit.start(dataset, tmp_path / "run", "mirrored", devices=3, epochs=1, model="raw")])
    assert answers[0][0] == 0, answers
    asked = replace(tiny_description(dataset, 1, shared_fit.LEARNING_RATE), model="raw")
    alone = fit(tmp_path / "one", asked, dataset, None)
    ours, expected = (pd.read_csv(run / "history.csv") for run in (tmp_path / "run", alone.folder))
    pd.testing.assert_frame_equal(ours, expected, rtol=1e-4, atol=1e-5)
    assert_weights_equal_to_rounding(RunFolder.open(tmp_path / "run"), alone)
