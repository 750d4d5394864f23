"""`ggn-tf evaluate`: predict, score, draw and report a run."""

import json
from pathlib import Path
from typing import Any

import click

import ggn_tf
from ggn_tf.api.arguments import REPLICATES, RUN_GALLERY
from ggn_tf.cli.options import (
    AT_LEAST_0,
    AT_LEAST_1,
    PATH,
    FiniteRange,
    by_option,
    coverage_option,
    json_option,
    own_dataset_option,
    sensitivity_option,
    shared_option,
)
from ggn_tf.tensorflow_import import load_tensorflow


@click.command()
@click.argument("run", type=PATH)
@click.option("--dataset", type=PATH, help="Dataset of another site, for external validation.")
@own_dataset_option
@click.option("--replicates", type=AT_LEAST_1, default=REPLICATES, help="Number of bootstrap replicates.")
@click.option("--seed", type=AT_LEAST_0, default=0, help="Seed of the bootstrap.")
@click.option(
    "--gallery",
    type=AT_LEAST_0,
    default=RUN_GALLERY,
    help="Number of nodules in the report's gallery, with slices of their CT; 0 for none.",
)
@sensitivity_option
@by_option
@click.option(
    "--interval-width",
    type=FiniteRange(0, 1, min_open=True),
    default=0.1,
    help="Width of an interval for which the number of patients that it needs is reported.",
)
@coverage_option
@click.option(
    "--retest",
    is_flag=True,
    help="Predict the test set again with perturbed inputs by the last stage: centres 2 to 8 mm off, with and without "
    "recentring, noise, mirrors, thicker slices. Takes as long as 11 to 30 predictions of the test set.",
)
@click.option(
    "-o", "--output", type=PATH, help="Folder to write, for a run that cannot be written to.  [default: RUN/evaluation]"
)
@shared_option
@json_option
def command(run: Path, as_json: bool, **arguments: Any) -> None:
    """Score every finished stage of RUN on its validation and test set, and with --dataset on another site's nodules.

    Writes RUN/evaluation, or the folder of --output, with predictions.csv, scores.json, model_card.md, report.html and
    figures/, with --retest also test_retest.csv, and replaces an earlier evaluation.
    """
    load_tensorflow()
    from ggn_tf.evaluation.report.run_report import FIGURES, MODEL_CARD, PREDICTIONS, REPORT, RETEST, SCORES
    from ggn_tf.evaluation.report.run_tables import summarise
    from ggn_tf.evaluation.statistics.run_scores import evaluation_document

    done = ggn_tf.evaluate(run, on_progress=lambda progress: click.echo(progress.step, err=True), **arguments)
    folder = done.folder
    if as_json:
        click.echo(json.dumps({**evaluation_document(done.report), "evaluation": str(folder)}, indent=2))
        return
    click.echo(summarise(done.report))
    click.echo(f"\npredictions: {folder / PREDICTIONS}\nscores:      {folder / SCORES}")
    if done.report.retest is not None:
        click.echo(f"test-retest: {folder / RETEST}")
    click.echo(f"model card:  {folder / MODEL_CARD}\nfigures:     {folder / FIGURES}\nreport:      {folder / REPORT}")
