"""`ggn-tf phantom`: synthetic CT with nodules, to try everything without a patient's data."""

from pathlib import Path
from typing import Literal

import click

import ggn_tf
from ggn_tf.cli.options import AT_LEAST_0, PATH


@click.command()
@click.argument("out", type=PATH)
@click.option("--nodules", type=click.IntRange(min=4), default=120, help="Number of nodules to write.")
@click.option("--seed", type=AT_LEAST_0, default=0, help="Seed of the nodules and scanners.")
@click.option(
    "--format",
    "container",
    type=click.Choice(["dicom", "nifti"]),
    default="dicom",
    help="File format of the CTs and masks.",
)
def command(out: Path, nodules: int, seed: int, container: Literal["dicom", "nifti"]) -> None:
    """Write synthetic chest CT with AAH, AIS, MIA and IAC nodules to the folder OUT.

    The nodules have the paper's proportions, one to three per patient, and come from five scanners. OUT/cases.csv is
    the table that `ggn-tf prepare` reads.
    """
    from ggn_tf.cases.phantom.files import write_phantom
    from ggn_tf.cli.terminal import CountBar

    with CountBar() as bar:
        table = write_phantom(
            out,
            nodules,
            seed,
            container,
            on_patient=lambda done, total: bar.show(ggn_tf.Progress("patients", done, total)),
        )
    click.echo(f"{nodules} nodules: {table}")
