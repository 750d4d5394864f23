"""Times several ways of doing the same thing in one process, interleaved, and prints medians and ratios."""

import json
import platform
import statistics
import time
from collections.abc import Callable

import click
from rich.console import Console
from rich.table import Table


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


def report(title: str, seconds: dict[str, list[float]], ours: str, as_json: bool, skipped: dict[str, str]) -> None:
    """Print medians, and how many times ours is faster."""
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
