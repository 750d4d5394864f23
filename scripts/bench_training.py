"""A joint training step of the cascade: ours, stock Keras layers, and PyTorch, side by side in one run.

python scripts/bench_training.py [--precision float32] [--batch 24] [--json]
"""

import importlib.util
from collections.abc import Callable

import click
import numpy as np
from side_by_side import measure, report

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
    from ggn_tf.models.cascade import build_cascade
    from ggn_tf.training.stages import JOINT
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


@click.command()
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), multiple=True, default=["float32", "bfloat16"])
@click.option("--batch", default=24, show_default=True)
@click.option("--repeats", default=9, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(precision: tuple[str, ...], batch: int, repeats: int, as_json: bool) -> None:
    for chosen in precision:
        contestants = {"ggn_tf": keras_step(chosen, batch, False), "stock Keras": keras_step(chosen, batch, True)}
        skipped = {}
        if importlib.util.find_spec("torch"):
            contestants["PyTorch eager"] = torch_step(chosen, batch, False)
            contestants["PyTorch compiled"] = torch_step(chosen, batch, True)
        else:
            skipped["PyTorch"] = "not installed (extra [bench])"
        seconds = measure(contestants, repeats)
        report(f"joint training step, batch {batch}, {chosen}", seconds, "ggn_tf", as_json, skipped)


if __name__ == "__main__":
    main()
