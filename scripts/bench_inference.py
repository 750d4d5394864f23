"""Inference of the cascade: our export, stock Keras, PyTorch and OpenVINO on the stock SavedModel, side by side.

python scripts/bench_inference.py [--precision float32] [--batch 1 --batch 24] [--json]
"""

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from side_by_side import measure, report

from ggn_tf.protocol import Protocol
from ggn_tf.tasks import INDOLENT_INVASIVE

CLASSES = len(INDOLENT_INVASIVE.classes)


def patches(batch: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1024, 400, (batch, 32, 32, 32, 1)).astype(np.float32)


def cascade(precision: str, stock: bool):
    from untrained import with_statistics

    from ggn_tf.models.systems import build_cascade

    return with_statistics(build_cascade(CLASSES, Protocol(), precision=precision, stock=stock))


def exported(precision: str, folder: Path, batch: int) -> Callable[[], object]:
    """The version directory that `ggn-tf export` writes, through the session that the server runs."""
    from ggn_tf.serving.export.version_writer import export_model
    from ggn_tf.serving.runtime.servable import open_servable

    version = export_model(cascade(precision, stock=False), INDOLENT_INVASIVE, Protocol(), folder / f"ggn-{precision}")
    servable = open_servable(version, "ggn", int(version.name))
    signature = servable.signatures["serving_default"]
    feeds = {signature.inputs["hu"].name: patches(batch)}
    fetches = {name: signature.outputs[name].name for name in ("mask", "probabilities")}
    return lambda: servable.run(feeds, fetches)


def stock_keras(precision: str, batch: int) -> Callable[[], object]:
    import tensorflow as tf

    model = cascade(precision, stock=True)
    run = tf.function(lambda patch: model(patch, training=False))
    patch = tf.constant(patches(batch) / 712)
    return lambda: {name: value.numpy() for name, value in run(patch).items()}


def openvino(precision: str, folder: Path, batch: int) -> Callable[[], object]:
    """OpenVINO reads the stock float32 SavedModel and chooses its own kernels; the hint sets their precision."""
    import openvino

    path = folder / f"stock-{precision}"
    cascade("float32", stock=True).export(path, verbose=False)
    hint = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}[precision]
    config = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 2}
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([batch, 32, 32, 32, 1])  # a fixed shape is to its advantage
    compiled = core.compile_model(model, "CPU", config)
    request, patch = compiled.create_infer_request(), patches(batch) / 712
    return lambda: request.infer({0: patch})


def torch_eager(precision: str, batch: int) -> Callable[[], object]:
    import torch
    from peers.torch_cascade import Cascade

    model = Cascade(CLASSES, Protocol()).eval().to(memory_format=torch.channels_last_3d)
    patch = torch.from_numpy(patches(batch).transpose(0, 4, 1, 2, 3).copy() / 712)
    patch = patch.to(memory_format=torch.channels_last_3d)

    def run() -> object:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return model(patch)

    return run


@click.command()
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), multiple=True, default=["float32", "bfloat16"])
@click.option("--batch", "batches", multiple=True, default=[1, 24], show_default=True)
@click.option("--repeats", default=25, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(precision: tuple[str, ...], batches: tuple[int, ...], repeats: int, as_json: bool) -> None:
    for chosen in precision:
        for batch in batches:
            with tempfile.TemporaryDirectory() as name:
                folder, skipped = Path(name), {}
                contestants = {"ggn_tf": exported(chosen, folder, batch), "stock Keras": stock_keras(chosen, batch)}
                if importlib.util.find_spec("torch"):
                    contestants["PyTorch eager"] = torch_eager(chosen, batch)
                else:
                    skipped["PyTorch"] = "not installed (extra [bench])"
                if importlib.util.find_spec("openvino"):
                    contestants["OpenVINO"] = openvino(chosen, folder, batch)
                else:
                    skipped["OpenVINO"] = "not installed (extra [bench])"
                seconds = measure(contestants, repeats, warm_up=3)
                report(f"inference, batch {batch}, {chosen}", seconds, "ggn_tf", as_json, skipped)


if __name__ == "__main__":
    main()
