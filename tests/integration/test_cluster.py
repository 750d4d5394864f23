"""Studies on a Dask cluster of real processes whose workers and scheduler are killed by the operating system."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

import ggn_tf
from ggn_tf.dataset.records import Dataset
from ggn_tf.runs.run_folder import RunFolder
from tests.integration.test_kill_study import outputs, progress_of
from tests.support.loopback_server import free_port
from tests.support.processes import Process, run_module
from tests.support.tiny_fit import results
from tests.support.tiny_protocol import tiny_protocol

EPOCHS = 4


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, "-m", *command], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        # The group: a worker is the child of its nanny.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def cluster_at(port: int) -> Iterator[subprocess.Popen]:
    """A scheduler, which is returned, and two workers with one thread each."""
    address = f"tcp://127.0.0.1:{port}"
    options = ("--nthreads=1", "--nworkers=1", "--no-dashboard", "--memory-limit=0")
    with ExitStack() as stack:
        scheduler = ("distributed.cli.dask_scheduler", "--host=127.0.0.1", f"--port={port}", "--no-dashboard")
        process = stack.enter_context(started(*scheduler))
        for _ in range(2):
            stack.enter_context(started("distributed.cli.dask_worker", address, *options))
        yield process


@pytest.fixture
def port() -> int:
    return free_port()


def begin(dataset: Dataset, study: Path, workers: str, errors: Path | None = None) -> Process:
    return Process(run_module, "tests.support.tiny_study", dataset.folder, study, EPOCHS, workers, errors=errors)


def wait_for(process: Process, study: Path, moment: float) -> None:
    while process.poll() is None and progress_of(study) < moment:
        time.sleep(0.02)
    assert process.poll() is None, "it ended before the moment came"


@pytest.mark.nightly
def test_killed_workers_and_schedulers_change_no_bit_of_a_study(dataset: Dataset, tmp_path: Path, port: int):
    whole, killed, address = tmp_path / "whole", tmp_path / "killed", f"tcp://127.0.0.1:{port}"
    assert begin(dataset, whole, "--jobs=2").wait() == 0
    generator = np.random.default_rng(5)
    moments = np.sort(generator.uniform(0, progress_of(whole) - 1, 10)).reshape(2, 5)
    # In each of the first two parts five workers are killed and then the scheduler.
    for part in (*moments, ()):
        with cluster_at(port) as scheduler:
            process = begin(dataset, killed, f"--cluster={address}", tmp_path / "errors")
            with Client(address, timeout=60, set_as_default=False) as client:
                for moment in part:
                    wait_for(process, killed, moment)
                    while not (pids := list(client.run(os.getpid, on_error="ignore").values())):
                        time.sleep(0.1)
                    os.kill(int(generator.choice(pids)), signal.SIGKILL)
            if len(part):
                scheduler.kill()
                assert process.wait() == 1
                assert "it resumes" in (tmp_path / "errors").read_text()
            else:
                assert process.wait() == 0
    assert outputs(killed) == outputs(whole)


@pytest.mark.nightly
def test_a_cross_validation_on_a_cluster_is_equal_to_one_in_processes(dataset: Dataset, tmp_path: Path):
    options = {"task": "AAH+AIS,MIA+IAC", "folds": 2, "protocol": tiny_protocol(2), "precision": "float32"}
    here = ggn_tf.crossval(dataset.folder, tmp_path / "here", jobs=2, **options)
    there = ggn_tf.crossval(dataset.folder, tmp_path / "there", cluster="local:2", **options)
    assert [path.name for path in there.runs] == [path.name for path in here.runs]
    for one, other in zip(here.runs, there.runs, strict=True):
        assert str(results(RunFolder.open(other))) == str(results(RunFolder.open(one)))
    assert (there.folder / "predictions.csv").read_bytes() == (here.folder / "predictions.csv").read_bytes()
