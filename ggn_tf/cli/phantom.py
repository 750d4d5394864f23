"""`ggn-tf phantom`: synthetic CT with nodules, to try everything without a patient's data."""

from pathlib import Path
from typing import Literal

import click


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--nodules", type=click.IntRange(min=4), default=120, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--format", "container", type=click.Choice(["dicom", "nifti"]), default="dicom", show_default=True)
def command(out: Path, nodules: int, seed: int, container: Literal["dicom", "nifti"]) -> None:
    """Write synthetic chest CT with AAH, AIS, MIA and IAC nodules to the folder OUT.

    The nodules come in the paper's proportions, one to three a patient, from five scanners. OUT/cases.csv is what
    `ggn-tf prepare` reads.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ggn_tf.cases.phantom.files import write_phantom

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Patients", total=None)
        table = write_phantom(
            out,
            nodules,
            seed,
            container,
            on_patient=lambda done, of: progress.update(task, completed=done, total=of),
        )
    click.echo(f"{nodules} nodules: {table}")
