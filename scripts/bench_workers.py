"""A joint training step of one process and of two that share the batch over gRPC, and the volume of their messages.

python scripts/bench_workers.py [--precision float32] [--batch 24] [--repeats 5]

Side by side, interleaved: one process on one core, one process on two, two processes on one core each. Linux only.
Nothing else may use the loopback interface meanwhile: its counter gives the volume.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

STEPS = 2
CONTESTANTS = {
    "one process, one core": [[0]],
    "one process, two cores": [[0, 1]],
    "two workers, a core each": [[0], [1]],
}


def configuration(ports: list[int], index: int) -> str:
    addresses = [f"127.0.0.1:{port}" for port in ports]
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def loopback_bytes() -> int:
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()
    return next(int(line.split(":")[1].split()[0]) for line in lines if line.strip().startswith("lo:"))


class Team:
    """The processes of a contestant; each waits for a signal to make a step."""

    def __init__(self, cores: list[list[int]], precision: str, batch: int) -> None:
        ports = free_ports(len(cores))
        options = ["--precision", precision, "--batch", str(batch)]
        self._processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--member", ",".join(map(str, mine)), *options],
                env={
                    **os.environ,
                    "TF_CPP_MIN_LOG_LEVEL": "3",
                    **({"TF_CONFIG": configuration(ports, index)} if len(cores) > 1 else {}),
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for index, mine in enumerate(cores)
        ]
        self._hear()

    def step(self) -> tuple[float, float]:
        """Seconds and loopback bytes of a step."""
        said, started = loopback_bytes(), time.perf_counter()
        for process in self._processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        self._hear()
        return (time.perf_counter() - started) / STEPS, (loopback_bytes() - said) / STEPS

    def end(self) -> None:
        for process in self._processes:
            process.kill()

    def _hear(self) -> None:
        for process in self._processes:
            if not process.stdout.readline():
                raise SystemExit("a worker ended")


def member(cores: list[int], precision: str, batch: int) -> None:
    os.sched_setaffinity(0, cores)
    import tensorflow as tf
    from bench_training import CLASSES, inputs

    from ggn_tf.dataset.pipeline import Batch, Part
    from ggn_tf.models.fast.batch_layers import BatchShare
    from ggn_tf.models.systems import build_cascade
    from ggn_tf.protocol import Protocol
    from ggn_tf.runs.stages import JOINT
    from ggn_tf.training.distributed.cluster import connect_replicas, rank_of
    from ggn_tf.training.step import TrainStep

    place = rank_of("multiworker" if "TF_CONFIG" in os.environ else "one", os.environ)
    replicas = connect_replicas(place, batch)
    with replicas.scope():
        model = build_cascade(CLASSES, Protocol(), precision=precision)
    step = TrainStep(model, JOINT, Protocol().training, replicas)
    start, stop = Part(place.worker, place.workers).rows(batch)
    mine = Batch(*(tf.constant(array[start:stop]) for array in inputs(batch)))
    data = mine if place.strategy == "one" else [(mine, BatchShare(tf.constant(start), tf.constant(batch)))]
    while True:
        for _ in range(STEPS):
            [float(value) for value in step(data)]
        print("done", flush=True)
        if not sys.stdin.readline():
            return


@click.command()
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--batch", default=24, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--member", "cores", hidden=True, help="Be one of a team, on these cores.")
def main(precision: str, batch: int, repeats: int, cores: str | None) -> None:
    if cores:
        member([int(core) for core in cores.split(",")], precision, batch)
        return
    teams = {name: Team(each, precision, batch) for name, each in CONTESTANTS.items()}
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in teams}
    for _ in range(repeats):
        for name, team in teams.items():
            measured[name].append(team.step())
    for team in teams.values():
        team.end()
    title = f"joint step, batch {batch}, {precision}"
    table = Table("", "median ms", "time / two workers", "MB over loopback", title=title)
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in measured.items()
    }
    shared = medians["two workers, a core each"][0]
    for name, (seconds, volume) in medians.items():
        table.add_row(name, f"{1e3 * seconds:.0f}", f"{seconds / shared:.2f}", f"{volume / 1e6:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
