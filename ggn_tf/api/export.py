"""Export a run's model."""

from pathlib import Path

from ggn_tf.api.fit import Run, run_folder
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.serving.contract.signing import read_private_key
from ggn_tf.serving.export.version_writer import export_model, load_served_model, provenance_of
from ggn_tf.tensorflow_import import keras_defaults


@keras_defaults()
def export(run: Run | str | Path, output: str | Path, *, sign: str | Path | None = None) -> Path:
    """Export the last finished stage of a run as the next version of a model folder.

    Example:
        >>> ggn_tf.export("runs/a", "models/ggn")  # doctest: +SKIP
        PosixPath('models/ggn/1')

    Args:
        run: The run from `fit`, or its folder.
        output: The model folder, created where it does not exist.
        sign: PEM file with the Ed25519 private key to sign the version with; None for no signature.

    Returns:
        The version directory, which TensorFlow Serving, `serve` and `load` read.

    Raises:
        RunError: There is no run, or its model cannot be served.
        ExportError: The folder cannot be written, or the key cannot be used.
    """
    key = None if sign is None else read_private_key(Path(sign))
    opened = RunFolder.open(run_folder(run))
    model, description = load_served_model(opened), opened.description
    return export_model(model, description.task, description.protocol, Path(output), provenance_of(opened), key)
