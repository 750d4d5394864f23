"""Times several ways of doing the same thing, interleaved, and prints medians and ratios."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import click
from rich.console import Console
from rich.table import Table

_MARK = "side by side: "


def python_option(command: Callable[..., None]) -> Callable[..., None]:
    """Give a benchmark the options for peers in processes of their own."""
    help_text = (
        "Python that runs the peers whose names begin with NAME, for example --python PyTorch /tmp/torch/bin/python; "
        "can be repeated. It needs click, NumPy, rich and the peer's package."
    )
    option = click.option("--python", "pythons", nargs=2, multiple=True, metavar="NAME PATH", help=help_text)
    return click.option("--peer", hidden=True)(option(command))


def serve_runs(run: Callable[[], object], warm_up: int = 2) -> None:
    """Time a run at each line on stdin; in the process of a peer."""
    for _ in range(warm_up):
        run()
    print(_MARK + "ready", flush=True)
    for _ in sys.stdin:
        # Not counted: the threads and caches are the other peers'.
        run()
        start = time.perf_counter()
        run()
        print(_MARK + str(time.perf_counter() - start), flush=True)


def measure_processes(
    script: str, peers: Iterable[str], arguments: Iterable[object], repeats: int, pythons: Iterable[tuple[str, str]]
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """As `measure`, of peers that conflict in one process: `script --peer NAME ARGUMENTS` for each.

    Returns the seconds, and the last line of the errors of each peer that did not become ready.
    """
    seconds: dict[str, list[float]] = {}
    skipped = {}
    environment = {**os.environ, "PYTHONPATH": str(Path(script).resolve().parents[1])}
    with ExitStack() as stack:
        started = {}
        for name in peers:
            python = next((path for prefix, path in pythons if name.startswith(prefix)), sys.executable)
            errors = stack.enter_context(tempfile.TemporaryFile("w+"))
            command = [python, script, f"--peer={name}", *map(str, arguments)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
            process = stack.enter_context(subprocess.Popen(command, text=True, env=environment, **pipes))
            stack.callback(process.kill)
            if _answer(process.stdout) is None:
                errors.seek(0)
                skipped[name] = (errors.read().strip().splitlines() or ["no message"])[-1]
            else:
                started[name], seconds[name] = process, []
        for _ in range(repeats):
            for name, process in started.items():
                process.stdin.write("\n")
                process.stdin.flush()
                answer = _answer(process.stdout)
                if answer is None:
                    raise click.ClickException(f"The process of {name} ended while it was measured.")
                seconds[name].append(float(answer))
    return seconds, skipped


def _answer(stdout: IO[str]) -> str | None:
    """The next answer of a peer; None where it has ended."""
    return next((line.removeprefix(_MARK).strip() for line in stdout if line.startswith(_MARK)), None)


def measure(contestants: dict[str, Callable[[], object]], repeats: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Seconds of every run: one of each contestant in turn, so that a busy moment of the machine meets them all."""
    for run in contestants.values():
        for _ in range(warm_up):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def report(
    title: str, seconds: Mapping[str, list[float]], ours: str, as_json: bool, skipped: Mapping[str, str]
) -> None:
    """Print medians, and how many times ours is faster."""
    if ours not in seconds:
        raise click.ClickException(f"{ours} did not start: {skipped.get(ours)}")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = {
        name: {
            "median_ms": 1e3 * median,
            "fastest_ms": 1e3 * min(seconds[name]),
            "ours_is_faster_by": median / medians[ours],
        }
        for name, median in medians.items()
    }
    if as_json:
        click.echo(json.dumps({"title": title, "machine": platform.processor(), "rows": rows, "skipped": skipped}))
        return
    table = Table("", "median ms", "fastest ms", f"time / {ours}", title=title)
    for name, row in rows.items():
        table.add_row(name, f"{row['median_ms']:.1f}", f"{row['fastest_ms']:.1f}", f"{row['ours_is_faster_by']:.2f}")
    console = Console()
    console.print(table)
    for name, reason in skipped.items():
        console.print(f"skipped: {name}: {reason}", markup=False)
