"""Inference of the cascade: our exports, stock Keras, PyTorch and OpenVINO, in turn, each in a process of its own.

python scripts/bench_inference.py [--precision float32] [--batch 1 --batch 24] [--run RUN] [--int8 int8.xml] [--json]

Without a run the weights are not trained, which changes no time but that of recentring, whose centres then stay.
`quantize_openvino.py` writes the network with 8-bit integers.
"""

import multiprocessing
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
from side_by_side import measure_processes, python_option, report, serve_runs

from ggn_tf.protocol import Protocol
from ggn_tf.tasks import INDOLENT_INVASIVE

CLASSES = len(INDOLENT_INVASIVE.classes)
Run = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """What is measured: precision, patches, a folder for models, and the trained run."""

    precision: str
    batch: int
    folder: Path
    run: Path | None
    int8: Path | None

    @property
    def patches(self) -> np.ndarray:
        return np.random.default_rng(0).uniform(-1024, 400, (self.batch, 32, 32, 32, 1)).astype(np.float32)

    def cascade(self, precision: str, stock: bool, seed: int = 0):
        from untrained import with_statistics

        from ggn_tf.models.systems import build_cascade
        from ggn_tf.runs.run_folder import RunFolder

        model = build_cascade(CLASSES, Protocol(), precision=precision, stock=stock, seed=seed)
        # Equal members would be computed once.
        if self.run is None or seed:
            return with_statistics(model, seed)
        model.set_weights(RunFolder.open(self.run).load_model().get_weights())
        return model


def exported(case: Case, members: int = 1) -> Run:
    """The version directory that `ggn-tf export` writes, through the session that the server runs."""
    from ggn_tf.serving.runtime.servable import open_servable

    version = _export(case, members)
    servable = open_servable(version, "ggn", int(version.name))
    signature = servable.signatures["serving_default"]
    feeds = {signature.inputs["hu"].name: case.patches}
    fetches = {name: signature.outputs[name].name for name in ("mask", "probabilities")}
    return lambda: servable.run(feeds, fetches)


def recentred(case: Case) -> Run:
    """A region of a CT around a simulated nodule, 4 mm beside it, to which the graph moves the centre."""
    from ggn_tf.serving.export.golden_requests import sample_patches
    from ggn_tf.serving.runtime.predict_request import LocalModel

    patch = Protocol().patch
    hu = sample_patches(patch, case.batch, seed=1)[..., 0]
    centers = np.tile((patch.size - 1) / 2 + np.array([2, 3, -3]), (case.batch, 1))
    spacing_mm, model = np.tile(patch.spacing_mm_zyx, (case.batch, 1)), LocalModel(_export(case, 1))
    return lambda: model.predict_roi(hu, spacing_mm, centers, recenter=True)


def _export(case: Case, members: int) -> Path:
    from ggn_tf.serving.contract.export_contract import Member
    from ggn_tf.serving.export.version_writer import export_model

    version = case.folder / case.precision / str(members) / "1"
    if version.exists():
        return version
    models = [case.cascade(case.precision, stock=False, seed=seed) for seed in range(members)]
    named = tuple(Member(f"seed{seed}", "joint", 1, seed, "", "") for seed in range(members))
    further = {"members": named} if members > 1 else {}
    return export_model(models, INDOLENT_INVASIVE, Protocol(), version.parent, **further)


def stock_keras(case: Case) -> Run:
    import tensorflow as tf

    model = case.cascade(case.precision, stock=True)
    run = tf.function(lambda patch: model(patch, training=False))
    patch = tf.constant(case.patches / 712)
    return lambda: {name: value.numpy() for name, value in run(patch).items()}


def openvino(case: Case, int8: bool = False) -> Run:
    """OpenVINO reads the stock float32 SavedModel and chooses its own kernels; the hint sets their precision."""
    import openvino

    if int8 and case.int8 is None:
        raise click.UsageError("OpenVINO INT8 needs --int8.")
    path = case.int8 if int8 else case.folder / "stock"
    if not path.exists():
        # In a process without OpenVINO.
        writer = multiprocessing.get_context("spawn").Process(target=_write_stock, args=(case, path))
        writer.start()
        writer.join()
    hint = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}[case.precision]
    config = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 2}
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([case.batch, 32, 32, 32, 1])  # a fixed shape is to its advantage
    compiled = core.compile_model(model, "CPU", config)
    request, patch = compiled.create_infer_request(), case.patches / 712
    return lambda: request.infer({0: patch})


def _write_stock(case: Case, path: Path) -> None:
    case.cascade("float32", stock=True).export(path, verbose=False)


def torch_eager(case: Case) -> Run:
    import torch
    from peers.torch_cascade import Cascade

    model = Cascade(CLASSES, Protocol()).eval().to(memory_format=torch.channels_last_3d)
    patch = torch.from_numpy(case.patches.transpose(0, 4, 1, 2, 3).copy() / 712)
    patch = patch.to(memory_format=torch.channels_last_3d)

    def run() -> object:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bfloat16"):
            return model(patch)

    return run


PEERS = {
    "ggn_tf": exported,
    "ggn_tf, five runs": partial(exported, members=5),
    "ggn_tf, recentring": recentred,
    "stock Keras": stock_keras,
    "PyTorch eager": torch_eager,
    "OpenVINO": openvino,
    "OpenVINO INT8": partial(openvino, int8=True),
}


@click.command()
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), multiple=True, default=["float32", "bfloat16"])
@click.option("--batch", "batches", multiple=True, default=[1, 24], show_default=True)
@click.option("--repeats", default=25, show_default=True)
@click.option("--run", type=click.Path(exists=True, path_type=Path), help="Run of two classes whose weights are used.")
@click.option("--int8", type=click.Path(exists=True, path_type=Path), help="Network with 8-bit integers, OpenVINO's.")
@click.option("--models", type=click.Path(path_type=Path), help="Folder for the exports, which are used if they exist.")
@click.option("--json", "as_json", is_flag=True)
@python_option
def main(
    precision: tuple[str, ...],
    batches: tuple[int, ...],
    repeats: int,
    run: Path | None,
    int8: Path | None,
    models: Path | None,
    as_json: bool,
    pythons: tuple[tuple[str, str], ...],
    peer: str | None,
) -> None:
    if peer is not None and models is not None:
        serve_runs(PEERS[peer](Case(precision[0], batches[0], models, run, int8)), warm_up=3)
        return
    given = [f"--{name}={path.resolve()}" for name, path in (("run", run), ("int8", int8)) if path is not None]
    for chosen in precision:
        for batch in batches:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name) if models is None else models.resolve()
                arguments = (f"--precision={chosen}", f"--batch={batch}", f"--models={folder}", *given)
                seconds, skipped = measure_processes(__file__, PEERS, arguments, repeats, pythons)
                report(f"inference, batch {batch}, {chosen}", seconds, "ggn_tf", as_json, skipped)


if __name__ == "__main__":
    main()
