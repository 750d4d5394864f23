"""Export the model of a run, or the mean of several."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from ggn_tf.api.arguments import OnProgress, Progress, check_coverage, ignore
from ggn_tf.api.crossval import Crossval
from ggn_tf.api.fit import Run, dataset_folder, run_folder
from ggn_tf.api.prepare import PreparedDataset
from ggn_tf.errors import GgnWarning
from ggn_tf.evaluation.statistics.set_thresholds import patients_needed
from ggn_tf.evaluation.statistics.typicality import nodules_needed
from ggn_tf.evaluation.uncertainty import Uncertainty, measure_uncertainty
from ggn_tf.serving.contract.trust import read_private_key
from ggn_tf.serving.contract.warning_texts import ATYPICAL_BELOW
from ggn_tf.serving.export.run_members import open_runs
from ggn_tf.serving.export.version_writer import ExportCost, export_model
from ggn_tf.tensorflow_import import keras_defaults


@keras_defaults()
def export(
    run: Run | Crossval | str | Path | Sequence[Run | Crossval | str | Path],
    output: str | Path,
    *,
    sign: str | Path | None = None,
    tta: bool = False,
    coverage: float | None = None,
    own_dataset: PreparedDataset | str | Path | None = None,
    on_progress: OnProgress = ignore,
    on_measured: Callable[[ExportCost], None] = ignore,
) -> Path:
    """Export the last finished stage of a run, or the mean of several runs, as the next version of a model folder.

    Example:
        >>> ggn_tf.export("runs/a", "models/ggn")  # doctest: +SKIP
        PosixPath('models/ggn/1')

    Args:
        run: The run from `fit`, or its folder; a cross-validation from `crossval`, or its folder, for all of its runs;
            or several of these, which differ in seed or split. Several runs become one export: the mean of their
            probabilities and masks, and as `spread` the standard deviation of the probabilities over the runs (ddof 0).
        output: The model folder, created where it does not exist.
        sign: PEM file with the Ed25519 private key to sign the version with; None for no signature.
        tta: Whether to predict the mean over the eight mirrors of each patch (test-time augmentation), which takes
            eight times as long.
        coverage: Share of prediction sets that must contain the true class, for example 0.9: adds the outputs `in_set`
            and `typicality` and the warnings `undecided` and `atypical`, which held-out nodules of the runs calibrate.
            Several runs must have one dataset and one split, so a cross-validation cannot have it. None for an export
            without them.
        own_dataset: Where the runs' dataset is now, which a coverage needs; None where it was not moved.
        on_progress: Called at every step.
        on_measured: Is called with the export's size and latency before its directory gets its name.

    Returns:
        The version directory, which TensorFlow Serving, `serve` and `load` read.

    Raises:
        RunError: There is no run, its model cannot be served, or several runs cannot be averaged: they differ in task,
            patch, precision or dataset's schema, one is not finished, or one occurs twice. Or a coverage is requested
            and they differ in dataset or split.
        ExportError: The folder cannot be written, or the key cannot be used.
        GgnError: The coverage is not in (0, 1).
    """
    if coverage is not None:
        check_coverage(coverage)
    key = None if sign is None else read_private_key(Path(sign))
    given = [run] if isinstance(run, Run | Crossval | str | Path) else run
    runs = open_runs([each.folder if isinstance(each, Crossval) else run_folder(each) for each in given])
    uncertainty = None
    if coverage is not None:
        uncertainty = measure_uncertainty(
            runs.runs,
            runs.models,
            coverage,
            mirrored=tta,
            own_dataset=None if own_dataset is None else dataset_folder(own_dataset),
            announce=lambda line: on_progress(Progress(line)),
        )
        _warn_of_few(uncertainty)
    return export_model(
        runs.models,
        runs.task,
        runs.protocol,
        Path(output),
        runs.provenance,
        key,
        members=runs.members,
        mirrored=tta,
        uncertainty=uncertainty,
        on_measured=on_measured,
    )


def _warn_of_few(uncertainty: Uncertainty) -> None:
    thresholds, needed = uncertainty.thresholds, nodules_needed(ATYPICAL_BELOW)
    for threshold in thresholds.without_threshold:
        warnings.warn(
            f"Every prediction set will contain {threshold.class_name}: the validation set has {threshold.patients} "
            f"patients with it, and a coverage of {thresholds.coverage:.0%} needs "
            f"{patients_needed(thresholds.coverage)}.",
            GgnWarning,
            stacklevel=3,
        )
    fewest = min(len(distribution.held_out) for distribution in uncertainty.distributions)
    if fewest < needed:
        warnings.warn(
            f"No nodule will be atypical: the validation and test sets have {fewest} nodules, and a typicality below "
            f"{ATYPICAL_BELOW:g} needs {needed}.",
            GgnWarning,
            stacklevel=3,
        )
