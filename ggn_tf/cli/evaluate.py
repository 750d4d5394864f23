"""`ggn-tf evaluate`: predict, score, draw and report a run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ggn_tf.tensorflow_import import load_tensorflow

if TYPE_CHECKING:
    from ggn_tf.evaluation.statistics.run_scores import SetScores


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--dataset", "other", type=click.Path(path_type=Path), help="Another site's: external validation.")
@click.option("--own-dataset", type=click.Path(path_type=Path), help="Where the run's dataset lies, if it was moved.")
@click.option("--replicates", type=click.IntRange(min=1), default=2000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the bootstrap.")
@click.option("--gallery", type=click.IntRange(min=0), default=24, show_default=True, help="Nodules in it; 0: none.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else there.")
def command(
    run: Path,
    other: Path | None,
    own_dataset: Path | None,
    replicates: int,
    seed: int,
    gallery: int,
    as_json: bool,
) -> None:
    """Score every finished stage of RUN on its validation and test set, and with --dataset on another site's nodules.

    Writes RUN/evaluation: predictions.csv, scores.json, model_card.md, report.html and figures/, in place of a former
    evaluation.
    """
    load_tensorflow()
    import pandas as pd

    from ggn_tf.dataset.splits import read_split
    from ggn_tf.evaluation.external_validation import open_external, predict_external
    from ggn_tf.evaluation.report.evaluation_folder import (
        FIGURES,
        MODEL_CARD,
        PREDICTIONS,
        REPORT,
        SCORES,
        write_evaluation,
    )
    from ggn_tf.evaluation.report.summary import summarise
    from ggn_tf.evaluation.report_inputs import collect_report_inputs
    from ggn_tf.evaluation.run_predictions import describe_run, predict_run
    from ggn_tf.evaluation.statistics.run_scores import Evaluation
    from ggn_tf.evaluation.statistics.scores import score_predictions
    from ggn_tf.evaluation.statistics.scores_file import evaluation_document
    from ggn_tf.evaluation.statistics.site_differences import differences
    from ggn_tf.runs.run_dataset import open_run_dataset
    from ggn_tf.runs.run_folder import RunFolder
    from ggn_tf.training.tensorboard import write_scores

    opened = RunFolder.open(run)
    own = open_run_dataset(opened, own_dataset)
    others = open_external(opened, own, other) if other else None
    frame = predict_run(opened, own, read_split(own, opened.description.split), announce=_announce)
    inputs = collect_report_inputs(opened, own, frame, gallery, announce=_announce)
    sites: dict[str, Any] = {}
    if others:
        inputs = replace(inputs, external=others.case_by_id)
        frame = pd.concat([frame, predict_external(opened, others, _announce)], ignore_index=True)
        sites = {"sites": tuple(differences(frame, seed, replicates)), "external_dataset": others.folder.resolve().name}
    scores = score_predictions(frame, opened.description.task.class_names, seed, replicates)
    evaluation = Evaluation(scores, describe_run(opened, own), **sites)
    folder = run / "evaluation"
    write_evaluation(frame, evaluation, folder, inputs)
    if scores.test is not None and (run / "tensorboard").is_dir():
        write_scores(run / "tensorboard", _test_scores(scores.test))
    if as_json:
        click.echo(json.dumps({**evaluation_document(evaluation), "evaluation": str(folder)}, indent=2))
        return
    click.echo(summarise(evaluation))
    click.echo(f"\npredictions: {folder / PREDICTIONS}\nscores:      {folder / SCORES}")
    click.echo(f"model card:  {folder / MODEL_CARD}\nfigures:     {folder / FIGURES}\nreport:      {folder / REPORT}")


def _test_scores(scores: "SetScores") -> dict[str, float]:
    """For TensorBoard's HParams page."""
    return {
        f"test {stage}/{name}": score.value
        for stage, part in scores.stages.items()
        for name, score in part.by_metric().items()
        if score.value is not None
    }


def _announce(line: str) -> None:
    click.echo(line, err=True)
