"""The evaluation of a cross-validation, from its out-of-fold predictions and the trainings of its folds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ggn_tf.dataset.folds import FOLDS_FILE, Folds, check_folds, read_folds
from ggn_tf.dataset.records import Dataset
from ggn_tf.evaluation.baselines import MEASURES, predict_by_measure
from ggn_tf.evaluation.report_inputs import ReportInputs, Slides, choose_cases, collect_slides, predict_with_reference
from ggn_tf.evaluation.retest import nodules_to_retest, retest_run
from ggn_tf.evaluation.run_predictions import describe_run
from ggn_tf.evaluation.statistics.field_of_view import score_extent
from ggn_tf.evaluation.statistics.folds import (
    average_members,
    compare_baselines,
    out_of_fold,
    score_folds,
    score_pooled,
    scores_by_fold,
)
from ggn_tf.evaluation.statistics.further_scores import score_further
from ggn_tf.evaluation.statistics.prediction_sets import evaluate_sets
from ggn_tf.evaluation.statistics.predictions_table import FOLD
from ggn_tf.evaluation.statistics.retest import PERTURBATION_COLUMNS
from ggn_tf.evaluation.statistics.run_scores import Evaluation, TrainedStage
from ggn_tf.evaluation.statistics.score_records import FoldScores, FoldStage
from ggn_tf.runs.run_folder import RunFolder, open_run_dataset
from ggn_tf.studies.crossval import cv_runs, read_design
from ggn_tf.tasks import Task

Announce = Callable[[str], None]


class Member(NamedTuple):
    """A training of a cross-validation."""

    fold: int
    member: int
    run: RunFolder


def open_members(folder: Path, moved: Path | None) -> tuple[list[Member], Folds, Dataset]:
    """The trainings of a finished cross-validation, its folds, and its dataset, which may have moved.

    Raises:
        RunError: A training is not finished, which the error names; or the dataset is not there.
        SplitError: The folds were changed, or are of another dataset.
    """
    runs, folds, design = cv_runs(folder), read_folds(folder / FOLDS_FILE), read_design(folder)
    count = len(folds.splits)
    members = [Member(i % count + 1, i // count + 1, RunFolder.open(run)) for i, run in enumerate(runs)]
    dataset = open_run_dataset(members[0].run, moved)
    check_folds(folds, folder / FOLDS_FILE, dataset, [design.run.task])
    return members, folds, dataset


def retest_crossval(members: Sequence[Member], folds: Folds, dataset: Dataset, announce: Announce) -> pd.DataFrame:
    """The test-retest analysis of every nodule by the trainings that did not see its patient.

    Returns:
        The table of `retest_run` with the column `fold`; probabilities and Dice are means over the members of a fold,
        empty where one of them has no number, because a mean over fewer members is another quantity.

    Raises:
        RunError: A fold has no nodule of the task.
    """
    parts = []
    for each in members:
        announce(f"test-retest: fold {each.fold}, member {each.member}")
        nodules = nodules_to_retest(each.run, dataset, folds.by_number[each.fold])
        parts.append(retest_run(each.run, dataset, nodules, announce).assign(**{FOLD: each.fold}))
    rows = pd.concat(parts, ignore_index=True)
    return average_members(rows, [*PERTURBATION_COLUMNS, "case"], _number_of_members(members))


def score_crossval(
    members: Sequence[Member],
    folds: Folds,
    dataset: Dataset,
    frame: pd.DataFrame,
    coverage: float,
    seed: int,
    replicates: int,
) -> Evaluation:
    """Score out-of-fold predictions."""
    first, task = members[0].run, members[0].run.description.task
    described = describe_run(first, dataset)
    stages = tuple(TrainedStage(stage.stage, None, None, None) for stage in described.stages)
    crossval = FoldScores(
        folds=len(folds.splits),
        members=_number_of_members(members),
        by_fold=tuple(scores_by_fold(frame)),
        pooled=tuple(score_pooled(frame, seed, replicates)),
        baselines=tuple(compare_baselines(frame, _baselines(folds, dataset, task), seed, replicates)),
        trainings=tuple(stage for each in members for stage in _stages(each, dataset)),
    )
    return Evaluation(
        score_folds(frame, task.class_names, seed, replicates),
        replace(described, split=None, stages=stages),
        extent=tuple(score_extent(frame, dataset.case_by_id, "test", seed, replicates)),
        further=tuple(score_further(frame, None, ["test"], seed, replicates)),
        sets=evaluate_sets(frame, {"test": dataset.case_by_id}, coverage, seed, replicates),
        crossval=crossval,
    )


def collect_crossval_inputs(
    members: Sequence[Member], dataset: Dataset, frame: pd.DataFrame, gallery: int, announce: Announce
) -> ReportInputs:
    """Compute the inputs of the report: with the models of each fold for its nodules.

    Probabilities on reference masks are averaged over the members of a fold; masks and heat maps of the gallery are
    those of the first.
    """
    chosen = choose_cases(frame, gallery)
    slides: dict[str, Slides] = {}
    references = []
    for each in members:
        rows = frame[frame[FOLD] == each.fold].drop(columns=FOLD)
        announce(
            f"predicting: reference masks, fold {each.fold}, member {each.member}, {rows['case'].nunique()} nodules"
        )
        reference = predict_with_reference(each.run, dataset, rows)
        if reference is not None:
            references.append(reference.assign(split=each.fold, repeat=each.member))
        if each.member == 1:
            shown = {case: reason for case, reason in chosen.items() if bool((rows["case"] == case).any())}
            announce(f"gallery: fold {each.fold}, {len(shown)} nodules")
            slides |= {slide.case_id: slide for slide in collect_slides(each.run, dataset, rows, shown)}
    return ReportInputs(
        nodules=dataset.case_by_id,
        reference=out_of_fold(references) if references else None,
        slides=[slides[case] for case in chosen],
    )


def _number_of_members(members: Sequence[Member]) -> int:
    return max(each.member for each in members)


def _baselines(folds: Folds, dataset: Dataset, task: Task) -> Mapping[str, pd.DataFrame]:
    """The out-of-fold predictions of single measures, each fitted on the training sets."""
    cases = dataset.case_by_id
    return {
        measure: out_of_fold([predict_by_measure(cases, split, task, measure) for split in folds.splits])
        for measure in MEASURES
    }


def _stages(each: Member, dataset: Dataset) -> list[FoldStage]:
    described = describe_run(each.run, dataset)
    return [
        FoldStage(each.fold, each.member, described.seed, stage.stage, stage.epochs, stage.best_epoch, stage.ended)
        for stage in described.stages
    ]
