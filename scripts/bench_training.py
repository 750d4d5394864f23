"""A joint training step of the cascade: ours, stock Keras layers, and PyTorch, in turn, each in a process of its own.

python scripts/bench_training.py [--precision float32] [--batch 24] [--json] [--python PyTorch /tmp/torch/bin/python]
"""

import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from side_by_side import measure, measure_processes, python_option, report, serve_runs

from ggn_tf.protocol import Protocol

CLASSES = 2


def inputs(batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    patch = generator.uniform(-1, 1, (batch, 32, 32, 32, 1)).astype(np.float32)
    mask = np.zeros_like(patch)
    mask[:, 10:22, 10:22, 10:22] = 1
    return patch, mask, generator.integers(0, CLASSES, batch).astype(np.int32)


def keras_step(precision: str, batch: int, stock: bool) -> Callable[[], object]:
    import tensorflow as tf

    from ggn_tf.dataset.pipeline import Batch
    from ggn_tf.models.systems import build_cascade
    from ggn_tf.runs.stages import JOINT
    from ggn_tf.training.step import TrainStep

    model = build_cascade(CLASSES, Protocol(), precision=precision, stock=stock)
    step = TrainStep(model, JOINT, Protocol().training)
    data = Batch(*(tf.constant(array) for array in inputs(batch)))
    return lambda: [float(value) for value in step(data)]


def torch_step(precision: str, batch: int, compiled: bool) -> Callable[[], object]:
    import torch
    from peers.torch_cascade import Cascade, joint_loss

    protocol = Protocol()
    model = Cascade(CLASSES, protocol).to(memory_format=torch.channels_last_3d)
    # L2 of weight w in the loss is weight decay of 2 w in the gradient.
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, weight_decay=2 * protocol.training.l2)
    patch, mask, label = inputs(batch)
    patch, mask = (
        torch.from_numpy(array.transpose(0, 4, 1, 2, 3).copy()).to(memory_format=torch.channels_last_3d)
        for array in (patch, mask)
    )
    label = torch.from_numpy(label).long()
    forward = torch.compile(model) if compiled else model

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            predicted, logits = forward(patch)
        loss = joint_loss(predicted, logits, mask, label, protocol.training.joint_weight)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def growth(precision: tuple[str, ...], repeats: int, as_json: bool) -> None:
    """Each batch size in a process of its own, so that its peak memory is its own."""
    rows = []
    for chosen in precision:
        for batch in (1, 3, 6, 12, 24, 48):
            code = f"import bench_training; bench_training.print_growth({chosen!r}, {batch}, {repeats})"
            output = subprocess.run(
                [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, check=True
            )
            rows.append(json.loads(output.stdout.splitlines()[-1]))
    if as_json:
        click.echo(json.dumps(rows))
        return
    table = Table("precision", "batch", "step ms", "ms a patch", "peak memory MiB", title="joint training step, ggn_tf")
    for row in rows:
        step = row["step_ms"]
        table.add_row(
            row["precision"], str(row["batch"]), f"{step:.0f}", f"{step / row['batch']:.1f}", f"{row['peak_mib']:.0f}"
        )
    Console().print(table)


def print_growth(precision: str, batch: int, repeats: int) -> None:
    seconds = measure({"ggn_tf": keras_step(precision, batch, False)}, repeats)["ggn_tf"]
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row = {"precision": precision, "batch": batch, "step_ms": 1e3 * statistics.median(seconds), "peak_mib": peak_mib}
    click.echo(json.dumps(row))


PEERS = {
    "ggn_tf": partial(keras_step, stock=False),
    "stock Keras": partial(keras_step, stock=True),
    "PyTorch eager": partial(torch_step, compiled=False),
    "PyTorch compiled": partial(torch_step, compiled=True),
}


@click.command()
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), multiple=True, default=["float32", "bfloat16"])
@click.option("--batch", default=24, show_default=True)
@click.option("--repeats", default=9, show_default=True)
@click.option("--growth", "only_growth", is_flag=True, help="Ours alone, batch 1 to 48, with peak memory.")
@click.option("--json", "as_json", is_flag=True)
@python_option
def main(
    precision: tuple[str, ...],
    batch: int,
    repeats: int,
    only_growth: bool,
    as_json: bool,
    pythons: tuple[tuple[str, str], ...],
    peer: str | None,
) -> None:
    if peer is not None:
        serve_runs(PEERS[peer](precision[0], batch))
        return
    if only_growth:
        growth(precision, repeats, as_json)
        return
    for chosen in precision:
        arguments = (f"--precision={chosen}", f"--batch={batch}")
        seconds, skipped = measure_processes(__file__, PEERS, arguments, repeats, pythons)
        report(f"joint training step, batch {batch}, {chosen}", seconds, "ggn_tf", as_json, skipped)


if __name__ == "__main__":
    main()
