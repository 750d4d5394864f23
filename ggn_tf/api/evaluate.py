"""Evaluate a run: predictions, scores, figures and report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ggn_tf.api.arguments import (
    COVERAGE,
    REPLICATES,
    RUN_GALLERY,
    OnProgress,
    Progress,
    check_coverage,
    check_fraction,
    ignore,
)
from ggn_tf.api.crossval import Crossval
from ggn_tf.api.fit import Run, dataset_folder, run_folder
from ggn_tf.api.prepare import PreparedDataset
from ggn_tf.errors import RunError
from ggn_tf.evaluation.report.run_report import refuse_foreign_evaluation, run_data, write_evaluation
from ggn_tf.evaluation.report.subgroups import main_subgroups
from ggn_tf.evaluation.report_inputs import ReportInputs, collect_report_inputs
from ggn_tf.evaluation.retest import nodules_to_retest, retest_run, summarise_retest
from ggn_tf.evaluation.run_predictions import describe_run, open_external, predict_external, predict_run
from ggn_tf.evaluation.statistics import run_scores
from ggn_tf.evaluation.statistics.field_of_view import score_extent
from ggn_tf.evaluation.statistics.further_scores import score_further
from ggn_tf.evaluation.statistics.prediction_sets import evaluate_sets
from ggn_tf.evaluation.statistics.predictions_table import EXTERNAL
from ggn_tf.evaluation.statistics.scores import differences, score_predictions
from ggn_tf.evaluation.statistics.subgroups import columns_of
from ggn_tf.files import refuse_read_only
from ggn_tf.runs.run_folder import RunFolder, open_run_dataset, read_run_split
from ggn_tf.studies.crossval import cv_runs, is_crossval, read_out_of_fold
from ggn_tf.studies.crossval_scores import collect_crossval_inputs, open_members, retest_crossval, score_crossval
from ggn_tf.tensorflow_import import keras_defaults
from ggn_tf.training.tensorboard import write_scores


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a run.

    Attributes:
        folder: `RUN/evaluation`, or as requested; with predictions.csv, scores.json, model_card.md, report.html and
            figures/, and test_retest.csv where the test-retest analysis was requested.
        report: Scores, run and differences between sites: the content of scores.json.
        predictions: One row per nodule, stage and set; probabilities by class, and the Dice of the mask.
    """

    folder: Path
    report: run_scores.Evaluation
    predictions: pd.DataFrame

    @property
    def scores(self) -> run_scores.Scores:
        """The scores by set, stage and metric, each with its interval."""
        return self.report.scores


@keras_defaults()
def evaluate(
    run: Run | Crossval | str | Path,
    dataset: PreparedDataset | str | Path | None = None,
    *,
    own_dataset: PreparedDataset | str | Path | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    gallery: int = RUN_GALLERY,
    sensitivity: float | None = None,
    by: Sequence[str] = (),
    interval_width: float = run_scores.INTERVAL_WIDTH,
    coverage: float | None = None,
    retest: bool = False,
    output: str | Path | None = None,
    shared: bool = False,
    on_progress: OnProgress = ignore,
) -> Evaluation:
    """Score every finished stage of a run on its validation and test set, and on another site's nodules.

    Of a cross-validation the out-of-fold predictions are scored: each score's mean over the folds, the pooled AUC
    beside it, and the differences to baselines. An earlier evaluation is replaced.

    Example:
        >>> evaluation = ggn_tf.evaluate("runs/a")  # doctest: +SKIP
        >>> sorted(set(evaluation.predictions["set"]))  # doctest: +SKIP
        ['test', 'train', 'validation']
        >>> accuracy = evaluation.scores.test["joint"].accuracy  # doctest: +SKIP
        >>> 0 <= accuracy.value <= 1  # doctest: +SKIP
        True

    Args:
        run: The run from `fit`, or its folder; or the cross-validation from `crossval`, or its folder.
        dataset: Dataset of another site, for external validation.
        own_dataset: Where the run's own dataset is now; None where it was not moved.
        replicates: Number of bootstrap replicates.
        seed: Seed of the bootstrap.
        gallery: Largest number of nodules in the report's gallery; 0 for none.
        sensitivity: The least sensitivity, on the validation set, of an operating point at which sensitivity,
            specificity, PPV and NPV are reported too, for two classes; None for none.
        by: Columns of the case table by which nodules are grouped, for example `("sex", "scanner")`.
        interval_width: Width of an interval for which the number of patients that it needs is reported.
        coverage: Share of prediction sets that must contain the true class, None for 0.9; their thresholds come from
            the validation set, and their coverage and size are reported for the other sets. In a cross-validation the
            thresholds for the nodules of a fold come from the out-of-fold predictions of the others.
        retest: Whether to predict the test set again with perturbed inputs by the last stage (test-retest): centres 2
            to 8 mm off, with and without recentring, noise, mirrors, thicker slices. Costs 11 to 30 further predictions
            of the test set. In a cross-validation each nodule is predicted by the runs of its fold.
        output: The folder to write, for example where the run's cannot be written to; None for `evaluation` in the run.
        shared: Whether the umask decides who may enter a new folder, and not its owner alone.
        on_progress: Called at every step.

    Raises:
        GgnError: The folder cannot be written to, or contains something else; the dataset has no such column; or the
            sensitivity is not in (0, 1], or the coverage not in (0, 1).
        RunError: No stage is finished, or a fold of a cross-validation is not; it cannot have a sensitivity or external
            validation; the run's dataset is not there, the other dataset shares patients with it or with the source of
            its first weights, or there is no test nodule for the test-retest analysis.
        DatasetError: A dataset cannot be read.
    """

    def announce(line: str) -> None:
        on_progress(Progress(line))

    check_fraction("sensitivity", sensitivity)
    check_fraction("interval_width", interval_width)
    set_coverage = COVERAGE if coverage is None else coverage
    check_coverage(set_coverage)
    given = run.folder if isinstance(run, Crossval) else run_folder(run)
    opened = RunFolder.open(cv_runs(given)[0] if is_crossval(given) else given)
    folder = given / "evaluation" if output is None else Path(output)
    refuse_foreign_evaluation(folder)
    # It takes its name beside the former one.
    refuse_read_only(folder.absolute().parent)
    if is_crossval(given):
        _refuse_for_crossval(given, dataset=dataset, sensitivity=sensitivity)
        moved = None if own_dataset is None else dataset_folder(own_dataset)
        bootstrap = seed, replicates
        frame, report, inputs = _of_crossval(given, moved, by, set_coverage, retest, bootstrap, gallery, announce)
        report = replace(report, interval_width=interval_width)
        write_evaluation(frame, report, folder, inputs, tuple(by), shared=shared)
        return Evaluation(folder, report, frame)
    opened.keep_models()
    trained_on = open_run_dataset(opened, None if own_dataset is None else dataset_folder(own_dataset))
    columns = columns_of(trained_on.cases, by)
    external = None if dataset is None else open_external(opened, trained_on, dataset_folder(dataset))
    split = read_run_split(opened, trained_on)
    nodules = nodules_to_retest(opened, trained_on, split) if retest else ()
    frame = predict_run(opened, trained_on, split, announce=announce)
    inputs = collect_report_inputs(opened, trained_on, frame, gallery, announce=announce)
    if nodules:
        inputs = replace(inputs, retested=retest_run(opened, trained_on, nodules, announce))
    known, sites = {"test": trained_on.case_by_id}, dict[str, Any]()
    if external is not None:
        inputs = replace(inputs, external=external.case_by_id)
        known[EXTERNAL] = external.case_by_id
        frame = pd.concat([frame, predict_external(opened, external, announce)], ignore_index=True)
        sites = {
            "sites": tuple(differences(frame, seed, replicates)),
            "external_dataset": external.folder.resolve().name,
        }
    scores = score_predictions(frame, opened.description.task.class_names, seed, replicates)
    extent = [score for name, cases in known.items() for score in score_extent(frame, cases, name, seed, replicates)]
    report = run_scores.Evaluation(
        scores,
        describe_run(opened, trained_on),
        **sites,
        extent=tuple(extent),
        further=tuple(score_further(frame, sensitivity, seed=seed, replicates=replicates)),
        sensitivity=sensitivity,
        interval_width=interval_width,
        sets=evaluate_sets(frame, known, set_coverage, seed, replicates),
        retest=None if inputs.retested is None else summarise_retest(inputs.retested, trained_on, seed, replicates),
    )
    groups = main_subgroups(run_data(frame, report), trained_on.case_by_id, columns) if columns else []
    report = replace(report, subgroups=tuple(groups))
    write_evaluation(frame, report, folder, inputs, tuple(by), shared=shared)
    if scores.test is not None and output is None and (opened.folder / "tensorboard").is_dir():
        write_scores(opened.folder / "tensorboard", _by_tag(scores.test))
    return Evaluation(folder, report, frame)


def _of_crossval(
    folder: Path,
    moved: Path | None,
    by: Sequence[str],
    coverage: float,
    retest: bool,
    bootstrap: tuple[int, int],
    gallery: int,
    announce: Callable[[str], None],
) -> tuple[pd.DataFrame, run_scores.Evaluation, ReportInputs]:
    """Score a cross-validation with the seed and the replicates of a bootstrap, and compute its report's inputs."""
    members, folds, dataset = open_members(folder, moved)
    columns = columns_of(dataset.cases, by)
    frame = read_out_of_fold(folder)
    inputs = collect_crossval_inputs(members, dataset, frame, gallery, announce)
    report = score_crossval(members, folds, dataset, frame, coverage, *bootstrap)
    if retest:
        retested = retest_crossval(members, folds, dataset, announce)
        inputs = replace(inputs, retested=retested)
        report = replace(report, retest=summarise_retest(retested, dataset, *bootstrap))
    groups = main_subgroups(run_data(frame, report), dataset.case_by_id, columns) if columns else []
    return frame, replace(report, subgroups=tuple(groups)), inputs


def _refuse_for_crossval(folder: Path, **given: object) -> None:
    """Refuse what needs a validation set or one model."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise RunError(
            "A cross-validation cannot be evaluated in this way.",
            case=folder,
            found=", ".join(name.replace("_", " ") for name in names),
            expected="out-of-fold predictions alone: each nodule has one, and no set is left for validation",
            remedy="Leave this out, or evaluate the runs of the folds.",
            arguments=names,
        )


def _by_tag(scores: run_scores.SetScores) -> dict[str, float]:
    """For TensorBoard's HParams page."""
    return {
        f"test {stage}/{name}": score.value
        for stage, part in scores.stages.items()
        for name, score in part.by_metric().items()
        if score.value is not None
    }
