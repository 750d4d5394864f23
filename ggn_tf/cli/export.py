"""`ggn-tf export`: a run's model as a version directory that TensorFlow Serving loads."""

from pathlib import Path

import click

import ggn_tf
from ggn_tf.cli.options import FILE, PATH
from ggn_tf.tensorflow_import import load_tensorflow


@click.command()
@click.argument("run", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Model folder, for example MODELS/NAME.")
@click.option(
    "--sign",
    type=FILE,
    metavar="KEY",
    help="PEM file with an Ed25519 private key to sign the version with, for a recipient who uses serve --verify.",
)
def command(run: Path, output: Path, sign: Path | None) -> None:
    """Export the last finished stage of RUN as the next version of a model folder, and print its directory."""
    load_tensorflow()
    click.echo(ggn_tf.export(run, output, sign=sign))
