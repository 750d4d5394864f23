"""Export the model of a run, or the mean of several."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ggn_tf.api.arguments import ignore
from ggn_tf.api.crossval import Crossval
from ggn_tf.api.fit import Run, run_folder
from ggn_tf.serving.contract.signing import read_private_key
from ggn_tf.serving.export.run_members import open_runs
from ggn_tf.serving.export.version_writer import ExportCost, export_model
from ggn_tf.tensorflow_import import keras_defaults


@keras_defaults()
def export(
    run: Run | Crossval | str | Path | Sequence[Run | str | Path],
    output: str | Path,
    *,
    sign: str | Path | None = None,
    tta: bool = False,
    on_measured: Callable[[ExportCost], None] = ignore,
) -> Path:
    """Export the last finished stage of a run, or the mean of several runs, as the next version of a model folder.

    Example:
        >>> ggn_tf.export("runs/a", "models/ggn")  # doctest: +SKIP
        PosixPath('models/ggn/1')
        >>> ggn_tf.export(["runs/a", "runs/b", "runs/c"], "models/ggn")  # doctest: +SKIP
        PosixPath('models/ggn/2')

    Args:
        run: The run from `fit`, or its folder; several, which differ in seed or split; or the folder of a
            cross-validation. Several runs become one
            export: the mean of their probabilities and masks, and as `spread` the standard deviation of the
            probabilities over the runs (ddof 0).
        output: The model folder, created where it does not exist.
        sign: PEM file with the Ed25519 private key to sign the version with; None for no signature.
        tta: Whether to predict the mean over the eight mirrors of each patch (test-time augmentation), which takes
            eight times as long.
        on_measured: Is called with the export's size and latency before its directory gets its name.

    Returns:
        The version directory, which TensorFlow Serving, `serve` and `load` read.

    Raises:
        RunError: There is no run, its model cannot be served, or several runs cannot be averaged: they differ in task,
            patch, precision or dataset's schema, one is not finished, or one occurs twice.
        ExportError: The folder cannot be written, or the key cannot be used.
    """
    key = None if sign is None else read_private_key(Path(sign))
    if isinstance(run, Crossval):
        run = run.folder
    runs = open_runs([run_folder(each) for each in ([run] if isinstance(run, Run | str | Path) else run)])
    return export_model(
        runs.models,
        runs.task,
        runs.protocol,
        Path(output),
        runs.provenance,
        key,
        members=runs.members,
        mirrored=tta,
        on_measured=on_measured,
    )
