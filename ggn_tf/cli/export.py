"""`ggn-tf export`: a run's model as a version directory that TensorFlow Serving loads."""

from pathlib import Path

import click

from ggn_tf.tensorflow_import import load_tensorflow


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Model folder, MODELS/NAME.")
def command(run: Path, output: Path) -> None:
    """Export the last finished stage of RUN as the next version of a model folder, and print its directory."""
    load_tensorflow()
    from ggn_tf.runs.run_folder import RunFolder
    from ggn_tf.serving.export.run_export import load_served_model, provenance_of
    from ggn_tf.serving.export.writer import export_model

    opened = RunFolder.open(run)
    model = load_served_model(opened)
    description = opened.description
    click.echo(export_model(model, description.task, description.protocol, output, provenance_of(opened)))
