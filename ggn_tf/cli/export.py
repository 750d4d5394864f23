"""`ggn-tf export`: one or several runs as a version directory that TensorFlow Serving loads."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

import ggn_tf
from ggn_tf.cli.options import FILE, PATH, FiniteRange, own_dataset_option
from ggn_tf.tensorflow_import import load_tensorflow

if TYPE_CHECKING:
    from ggn_tf.serving.export.version_writer import ExportCost


@click.command()
@click.argument("runs", type=PATH, metavar="RUN...|CV", nargs=-1, required=True)
@click.option("-o", "--output", type=PATH, required=True, help="Model folder, for example MODELS/NAME.")
@click.option(
    "--sign",
    type=FILE,
    metavar="KEY",
    help="PEM file with an Ed25519 private key to sign the version with, for a recipient who uses serve --verify.",
)
@click.option(
    "--tta",
    is_flag=True,
    help="Predict the mean over the eight mirrors of each patch (test-time augmentation): a patch takes eight times as "
    "long.",
)
@click.option(
    "--coverage",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="Share of prediction sets that must contain the true class, for example 0.9. The export then also returns the "
    "set, calibrated on the validation set, and how typical the nodule is, on the validation and test set. Several "
    "runs must have one split.  [default: no prediction sets]",
)
@own_dataset_option
def command(
    runs: tuple[Path, ...],
    output: Path,
    sign: Path | None,
    tta: bool,
    coverage: float | None,
    own_dataset: Path | None,
) -> None:
    """Export the last finished stage of RUN as the next version of a model folder, and print its directory.

    Several RUNs, for example of several seeds, or the runs of a cross-validation (CV), become one model: it predicts
    the mean of their probabilities and masks, and the standard deviation of the probabilities over the runs (spread).
    """
    load_tensorflow()
    version = ggn_tf.export(
        runs,
        output,
        sign=sign,
        tta=tta,
        coverage=coverage,
        own_dataset=own_dataset,
        on_progress=lambda progress: click.echo(progress.step, err=True),
        on_measured=_show_cost,
    )
    click.echo(version)


def _show_cost(cost: "ExportCost") -> None:
    click.echo(f"size {cost.size_bytes / 1e6:.1f} MB, one patch {cost.patch_ms:.1f} ms on this machine", err=True)
