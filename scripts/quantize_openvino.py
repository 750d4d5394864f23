"""A trained cascade in OpenVINO with 8-bit integers, and how that changes AUC and Dice on its test set.

python scripts/quantize_openvino.py write RUN FOLDER [--dataset MOVED]    # in the environment of ggn_tf
python scripts/quantize_openvino.py quantize FOLDER                       # in one with nncf and openvino

NNCF chooses the operations that keep their precision, so that the mean of AUC and Dice on the validation set falls by
at most `--max-drop`. FOLDER/int8.xml is what `bench_inference.py --int8` measures.
"""

from pathlib import Path

import click
import numpy as np

_SETS = ("train", "validation", "test")


@click.group()
def main() -> None:
    """Quantize a cascade."""


@main.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--dataset", type=click.Path(exists=True, path_type=Path), help="Where the run's dataset is now.")
def write(run: Path, folder: Path, dataset: Path | None) -> None:
    """Write the network, of stock Keras layers in float32, and the nodules of the run's split."""
    from ggn_tf.dataset.pipeline import normalise_hu
    from ggn_tf.dataset.records import read_patches_uint8
    from ggn_tf.evaluation.statistics.predictions_table import nodules_of
    from ggn_tf.models.systems import build_cascade
    from ggn_tf.runs.run_folder import RunFolder, open_run_dataset, read_run_split

    opened = RunFolder.open(run)
    task, protocol = opened.description.task, opened.description.protocol
    stock = build_cascade(len(task.classes), protocol, stock=True)
    stock.set_weights(opened.load_model().get_weights())
    stock.export(folder / "stock", verbose=False)
    cases = open_run_dataset(opened, dataset)
    split, arrays = read_run_split(opened, cases), {}
    for name in _SETS:
        nodules = nodules_of(cases.select(getattr(split, name)), task)
        hu, mask = read_patches_uint8(cases, [nodule.case_id for nodule in nodules])
        patch = np.asarray(normalise_hu(hu, protocol.patch.window_hu))
        label = np.array([task.class_of(nodule.label) for nodule in nodules])
        arrays |= {f"{name}_patch": patch, f"{name}_mask": mask > 0, f"{name}_label": label}
    np.savez(folder / "nodules.npz", **arrays)


@main.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--max-drop", default=0.005, show_default=True, help="Largest fall of the mean of AUC and Dice.")
def quantize(folder: Path, max_drop: float) -> None:
    """Quantize the network, and print AUC and Dice of both on the test set."""
    import nncf
    import openvino

    nodules = np.load(folder / "nodules.npz")
    model = openvino.Core().read_model(folder / "stock")
    patches = {name: list(nodules[f"{name}_patch"][:, np.newaxis]) for name in _SETS}

    def validate(compiled: "openvino.CompiledModel", _: object) -> tuple[float, list[list[np.ndarray]]]:
        # NNCF ranks operations by how far they change the outputs of each nodule.
        outputs = _predict(compiled, nodules["validation_patch"])
        return float(np.mean(_scores(outputs, nodules, "validation"))), outputs

    quantized = nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=nncf.Dataset(patches["train"]),
        validation_dataset=nncf.Dataset(patches["validation"]),
        validation_fn=validate,
        max_drop=max_drop,
        preset=nncf.QuantizationPreset.MIXED,
        # NNCF computes their number from how many nodules it passed to `validate`, which takes them from `nodules`.
        advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(num_ranking_workers=1),
    )
    openvino.save_model(quantized, folder / "int8.xml", compress_to_fp16=False)
    quantizers = sum(operation.get_type_name() == "FakeQuantize" for operation in quantized.get_ops())
    click.echo(f"{quantizers} FakeQuantize operations")
    for name, each in (("float32", model), ("INT8", quantized)):
        compiled = openvino.Core().compile_model(each, "CPU", {"INFERENCE_PRECISION_HINT": openvino.Type.f32})
        auc, dice = _scores(_predict(compiled, nodules["test_patch"]), nodules, "test")
        click.echo(f"{name}: AUC {auc:.4f}, Dice {dice:.4f}, n = {len(nodules['test_label'])}")


def _predict(compiled: "openvino.CompiledModel", patches: np.ndarray) -> list[list[np.ndarray]]:  # noqa: F821
    """Probabilities and mask of each nodule."""
    outputs = (compiled(patch[np.newaxis]) for patch in patches)
    return [[output["probabilities"], output["mask"]] for output in outputs]


def _scores(outputs: list[list[np.ndarray]], nodules: "np.lib.npyio.NpzFile", name: str) -> tuple[float, float]:
    """AUC and mean Dice of a set."""
    from sklearn.metrics import roc_auc_score

    probabilities, masks = map(np.concatenate, zip(*outputs, strict=True))
    found, truth, axes = masks >= 0.5, nodules[f"{name}_mask"], (1, 2, 3, 4)
    dice = 2 * (found & truth).sum(axes) / np.maximum(found.sum(axes) + truth.sum(axes), 1)
    return float(roc_auc_score(nodules[f"{name}_label"], probabilities[:, 1])), float(dice.mean())


if __name__ == "__main__":
    main()
