"""What a Dask cluster adds to a study: time per item, memory of the scheduler, and throughput beside our own processes.

python scripts/bench_cluster.py [--counts 125,250,500] [--workers 4]
python scripts/bench_cluster.py --dataset FOLDER [--rounds 3] [--epochs 3]

The first: items that write a file, done by threads of four worker processes, so that the time is Dask's and ours.
The second: a cross-validation of four folds by `--jobs 2` and `--cluster local:2` in turn, in wall and processor time.
"""

import multiprocessing
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from distributed import Client
from rich.console import Console
from rich.table import Table

import ggn_tf
from ggn_tf.dataset.records import Dataset
from ggn_tf.errors import GgnError
from ggn_tf.protocol import PatchProtocol
from ggn_tf.studies.cluster import run_on_cluster
from ggn_tf.studies.item import WorkerChannel, WorkFolder
from ggn_tf.studies.item_process import ItemTask
from ggn_tf.studies.workers import Cluster
from ggn_tf.tasks import INDOLENT_INVASIVE, Task


@dataclass(frozen=True)
class FileItem:
    """Is done by `do_in_thread`."""

    name: str
    task: Task = INDOLENT_INVASIVE
    needs: tuple[str, ...] = ()
    split: int = 1
    cost: float = 1.0

    def is_done(self, folder: WorkFolder) -> bool:
        return False

    def run(self, folder: WorkFolder, channel: WorkerChannel) -> None:
        raise NotImplementedError


def do_in_thread(task: ItemTask) -> GgnError | OSError | None:
    (task.folder / task.name).touch()
    return None


def work_folder() -> WorkFolder:
    folder = Path(tempfile.mkdtemp(prefix="bench_cluster"))
    return WorkFolder(folder, Dataset(folder, PatchProtocol(), "0" * 64, ()), "")


def memory_mb(process: int) -> float:
    """The resident memory of a process."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def measure_overhead(counts: list[int], workers: int) -> None:
    """Print the time per item and the memory of the scheduler for several numbers of items."""
    table = Table("items", "seconds", "ms per item", "scheduler MB")
    address = "tcp://127.0.0.1:28786"
    module = [sys.executable, "-m"]
    scheduler = subprocess.Popen([*module, "distributed.cli.dask_scheduler", "--port=28786", "--no-dashboard"])
    options = [f"--nworkers={workers}", "--nthreads=1", "--memory-limit=0", "--no-dashboard"]
    started = subprocess.Popen([*module, "distributed.cli.dask_worker", address, *options])
    try:
        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(workers)
        # The first count twice: each worker imports our modules once.
        for count in [counts[0], *counts]:
            begun = time.monotonic()
            items = [FileItem(f"item{number}") for number in range(count)]
            run_on_cluster(items, work_folder(), Cluster(address), lambda message: None, lambda: False, do_in_thread)
            seconds = time.monotonic() - begun
            memory = memory_mb(scheduler.pid)
            table.add_row(str(count), f"{seconds:.2f}", f"{1000 * seconds / count:.1f}", f"{memory:.0f}")
    finally:
        started.terminate()
        scheduler.terminate()
    Console().print(table)


def measure_throughput(dataset: Path, rounds: int, epochs: int) -> None:
    """Print the ratios of the times of a local cluster and of our own processes, two trainings at a time."""
    ratios = []
    options = {"task": "AAH+AIS,MIA+IAC", "folds": 4, "model": "raw", "epochs": (epochs,) * 3, "precision": "float32"}
    for number in range(rounds):
        times = {}
        contestants: list[dict[str, Any]] = [{"jobs": 2}, {"cluster": "local:2"}]
        for workers in contestants[:: 1 if number % 2 else -1]:
            with tempfile.TemporaryDirectory() as folder:
                begun, used = time.monotonic(), children_s()
                ggn_tf.crossval(dataset, Path(folder) / "cv", **options, **workers)
                times["jobs" in workers] = (time.monotonic() - begun, children_s() - used)
        ratios.append([ours / jobs for ours, jobs in zip(times[False], times[True], strict=True)])
        print("cluster / jobs: wall {:.3f}, processor {:.3f}".format(*ratios[-1]), times, flush=True)
    print("medians: wall {:.3f}, processor {:.3f}".format(*map(statistics.median, zip(*ratios, strict=True))))


def children_s() -> float:
    """Processor seconds of the processes that were started, after their end."""
    # Those of the last items have sent their results, but are counted only when they have ended.
    for process in multiprocessing.active_children():
        process.join()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@click.command()
@click.option("--counts", default="125,250,500", help="Numbers of items.")
@click.option("--workers", default=4, help="Number of workers.")
@click.option("--dataset", type=click.Path(path_type=Path), help="Dataset of a cross-validation, to measure instead.")
@click.option("--rounds", default=3, help="Number of rounds.")
@click.option("--epochs", default=3, help="Number of epochs of each training.")
def main(counts: str, workers: int, dataset: Path | None, rounds: int, epochs: int) -> None:
    """Measure."""
    if dataset is not None:
        measure_throughput(dataset, rounds, epochs)
    else:
        measure_overhead([int(count) for count in counts.split(",")], workers)


if __name__ == "__main__":
    main()
