"""`ggn-tf crossval`: one or more trainings per fold, and out-of-fold predictions."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

import ggn_tf
from ggn_tf.cli.fit import training_options
from ggn_tf.cli.options import (
    AT_LEAST_0,
    AT_LEAST_1,
    PATH,
    folds_from_option,
    precision_option,
    protocol_option,
    segment_on_option,
    shared_option,
    workers_options,
)
from ggn_tf.cli.stop_signal import StopSignal
from ggn_tf.models.names import CASCADE
from ggn_tf.runs.stages import STAGES
from ggn_tf.tasks import INDOLENT_INVASIVE
from ggn_tf.tensorflow_import import load_tensorflow


@click.command()
@click.argument("dataset", type=PATH)
@click.option("-o", "--out", "folder", type=PATH, required=True, help="Folder of the cross-validation.")
@click.option("--task", default=str(INDOLENT_INVASIVE), help="Classes of the task; a plus merges labels.")
@click.option("--model", type=click.Choice(tuple(STAGES)), default=CASCADE, help="System, as in fit.")
@click.option(
    "--folds",
    type=click.IntRange(2),
    help="Number of folds, by patient, stratified by label.  [default: 5, or those of the file]",
)
@click.option("--members", type=AT_LEAST_1, default=1, help="Number of trainings per fold, each with its own seed.")
@folds_from_option
@click.option("--seed", type=AT_LEAST_0, default=0, help="Seed of the folds and of the first member.")
@protocol_option
@training_options
@segment_on_option
@precision_option
@workers_options
@shared_option
def command(dataset: Path, folder: Path, protocol: Any, **arguments: Any) -> None:
    """Train on DATASET once or more per fold, and predict every nodule with trainings that did not see its patient.

    Writes folds.json, one run folder per fold and member, and predictions.csv with one out-of-fold row per nodule and
    stage. What is finished is not repeated: the same command resumes after Ctrl-C or a crash, and more --members or
    --epochs add to it. `ggn-tf evaluate` takes the folder.
    """
    from ggn_tf.dataset.dataset_json import refuse_missing_dataset

    # Before TensorFlow is loaded, which takes seconds.
    refuse_missing_dataset(dataset)
    load_tensorflow()
    from ggn_tf.cli.terminal import StudyBars, crossval_text

    with StudyBars() as bars, StopSignal("stopping; the same command resumes the cross-validation") as stop:
        done = ggn_tf.crossval(
            dataset,
            folder,
            protocol=protocol,
            command=shlex.join(["ggn-tf", *sys.argv[1:]]),
            on_start=lambda plan: click.echo(crossval_text(plan, protocol)),
            on_progress=bars.show,
            stop=stop.requested,
            **arguments,
        )
    click.echo(f"predictions: {done.folder / 'predictions.csv'}\nnext         ggn-tf evaluate {done.folder}")
