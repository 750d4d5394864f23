"""How long commands take, of two checkouts in turn: wall and processor seconds, medians, and the ratio pair by pair.

python scripts/bench_waits.py BEFORE AFTER --work FOLDER --data FOLDER [--rounds 5] [--only evaluate ...]

BEFORE and AFTER are folders with the source of `ggn_tf`, which run in this script's environment. Each makes its own
dataset, run and export in FOLDER once, since their formats may differ; what is there is used. The nodules are those of
`lidc_context`: `evaluate` predicts 412 by the models of three stages and scores a test set of some 123. The CT is the
thorax of `lidc_0063`, 133 DICOM slices. `serve-check` repeats no request, which would measure the server.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click
import grpc
from bench_workers import free_ports
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.table import Table

PROGRAM = "import sys; from ggn_tf.cli import main; main(prog_name='ggn-tf')"
# As in docs/results/lidc.md.
TASK = "1+2,4+5"


@dataclass(frozen=True)
class Cost:
    """What a command took, seconds."""

    wall_s: float
    processor_s: float


@dataclass(frozen=True)
class Checkout:
    """A source folder, and the folder with what it made."""

    source: Path
    work: Path
    data: Path

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        """Start a command; what it prints is appended to a log."""
        environment = {**os.environ, "PYTHONPATH": str(self.source), "TF_CPP_MIN_LOG_LEVEL": "3"}
        with (self.work / "log.txt").open("ab") as log:
            command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.work)

    def run(self, *arguments: object) -> Cost:
        """Run a command to its end, with the processes that it starts."""
        began = time.perf_counter()
        return self._ended(self.start(*arguments), began, 0)

    def prepare(self) -> None:
        """Make dataset, run and export, those that are not there."""
        self.work.mkdir(parents=True, exist_ok=True)
        steps = {
            "dataset": ["prepare", self.data / "lidc_context/cases.csv", "--label-column=malignancy", "-o", "dataset"],
            "run": ["fit", "dataset", f"--task={TASK}", "--epochs=1,1,1", "--precision=float32", "-o", "run"],
            "models/ggn": ["export", "run", "-o", "models/ggn"],
        }
        for name, arguments in steps.items():
            if not (self.work / name).exists():
                self.run(*arguments)

    def until_available(self) -> Cost:
        """Start a server, and end it as soon as it can predict."""
        began = time.perf_counter()
        with self._serving() as (process, _):
            process.kill()
            return self._ended(process, began, -9)

    @contextmanager
    def server(self) -> Iterator[str]:
        """A server that can predict, at the address that is returned."""
        with self._serving() as (process, address):
            yield address
            process.terminate()

    @contextmanager
    def _serving(self) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
        address = f"127.0.0.1:{free_ports(1)[0]}"
        process = self.start("serve", "models/ggn", f"--port={address.rpartition(':')[2]}")
        try:
            with grpc.insecure_channel(address) as channel:
                _wait_until_available(channel, process)
            yield process, address
        finally:
            process.kill()
            process.wait()

    def _ended(self, process: subprocess.Popen[bytes], began: float, expected: int) -> Cost:
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != expected:
            raise click.ClickException(f"{process.args} ended with {process.returncode}; see {self.work / 'log.txt'}")
        return Cost(wall_s, used.ru_utime + used.ru_stime)


def _wait_until_available(channel: grpc.Channel, process: subprocess.Popen[bytes]) -> None:
    check = health_pb2_grpc.HealthStub(channel).Check
    while process.poll() is None:
        with suppress(grpc.RpcError):
            if check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.SERVING:
                return
        time.sleep(0.02)
    raise click.ClickException("A server ended before it could predict.")


def commands(checkout: Checkout, address: str) -> dict[str, Callable[[], Cost]]:
    """What is measured, by name."""
    thorax = checkout.data / "lidc_0063"
    nodule = ("predict", f"--ct={thorax / 'dicom'}", f"--mask={thorax / 'LIDC-IDRI-0063_R_4_mask.nii.gz'}")
    table = checkout.data / "lidc_context/cases.csv"

    def into_new(name: str, *arguments: object) -> Cost:
        shutil.rmtree(checkout.work / name, ignore_errors=True)
        return checkout.run(*arguments, "-o", name)

    return {
        "predict --server": lambda: checkout.run(*nodule, f"--server={address}"),
        "serve-check": lambda: checkout.run("serve-check", f"--server={address}", "--export=models/ggn", "--repeats=1"),
        "predict --export": lambda: checkout.run(*nodule, "--export=models/ggn"),
        "predict --export -o": lambda: into_new("answer", *nodule, "--export=models/ggn"),
        "serve until AVAILABLE": checkout.until_available,
        "export": lambda: into_new("exported", "export", "run"),
        "check": lambda: checkout.run("check", table, "--label-column=malignancy"),
        "evaluate": lambda: checkout.run("evaluate", "run"),
    }


def measure(checkouts: list[Checkout], rounds: int, only: tuple[str, ...]) -> dict[str, list[tuple[Cost, Cost]]]:
    """The costs of every command, in pairs; the first run of each does not count."""
    with ExitStack() as stack:
        both = [commands(checkout, stack.enter_context(checkout.server())) for checkout in checkouts]
        pairs: dict[str, list[tuple[Cost, Cost]]] = {}
        for name in only or both[0]:
            before, after = (one_side[name] for one_side in both)
            before(), after()
            for number in range(rounds):
                # Each comes first in every second pair.
                first, second = (before, after) if number % 2 else (after, before)
                one, other = first(), second()
                pairs.setdefault(name, []).append((one, other) if number % 2 else (other, one))
            print(name, *pairs[name], flush=True)
    return pairs


def show(pairs: dict[str, list[tuple[Cost, Cost]]]) -> None:
    """Print medians, and the medians of the ratios of each pair."""
    table = Table("command", "wall s", "", "ratio", "processor s", "", "ratio")
    for name, costs in pairs.items():
        row = []
        for kind in ("wall_s", "processor_s"):
            values = [(getattr(before, kind), getattr(after, kind)) for before, after in costs]
            row += [f"{statistics.median(side):.2f}" for side in zip(*values, strict=True)]
            row.append(f"{statistics.median(after / before for before, after in values):.2f}")
        table.add_row(name, *row)
    Console().print(table)


@click.command()
@click.argument("before", type=click.Path(exists=True, path_type=Path))
@click.argument("after", type=click.Path(exists=True, path_type=Path))
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder for datasets, runs and exports.")
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    envvar="GGN_TF_REAL_DATA",
    required=True,
    help="Folder with lidc_context and lidc_0063.",
)
@click.option("--rounds", default=5, show_default=True, help="Number of pairs.")
@click.option("--only", multiple=True, help="A command to measure; can be repeated.  [default: all]")
def main(before: Path, after: Path, work: Path, data: Path, rounds: int, only: tuple[str, ...]) -> None:
    """Measure."""
    sides = {"before": before, "after": after}
    checkouts = [Checkout(path.resolve(), (work / name).resolve(), data.resolve()) for name, path in sides.items()]
    for checkout in checkouts:
        checkout.prepare()
    show(measure(checkouts, rounds, only))


if __name__ == "__main__":
    main()
