"""The results of a study: its predictions, scored and compared by task."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from ggn_tf.evaluation.baselines import MEASURES, predict_by_measure
from ggn_tf.evaluation.statistics.comparison import Comparison, compare_systems
from ggn_tf.evaluation.statistics.further_scores import score_further
from ggn_tf.evaluation.statistics.out_of_fold import out_of_fold
from ggn_tf.evaluation.statistics.predictions_table import read_predictions
from ggn_tf.evaluation.statistics.repeated_score import RepeatedScore
from ggn_tf.evaluation.statistics.repeats import score_repeats
from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.studies.analysis import DEFAULT_PLAN, AnalysisPlan
from ggn_tf.studies.design import StudyDesign
from ggn_tf.studies.item import Item, WorkFolder
from ggn_tf.studies.training import Training
from ggn_tf.tasks import Task


@dataclass(frozen=True)
class TaskResults:
    """All predictions for a task, their scores, the planned comparisons on the test set, and its further scores.

    `unchecked` has the systems that start from a run of which it is not known whether it has learned of test patients.
    """

    task: Task
    predictions: pd.DataFrame
    scores: tuple[RepeatedScore, ...]
    comparisons: tuple[Comparison, ...]
    further: tuple[RepeatedScore, ...] = ()
    unchecked: tuple[str, ...] = ()


def collect_results(
    design: StudyDesign, items: Sequence[Item], folder: WorkFolder, plan: AnalysisPlan = DEFAULT_PLAN
) -> list[TaskResults]:
    """Read the predictions of a finished study, add the single measures, and score and compare all, by task."""
    return [_task_results(design, items, folder, task, plan) for task in design.tasks]


def _task_results(
    design: StudyDesign, items: Sequence[Item], folder: WorkFolder, task: Task, plan: AnalysisPlan
) -> TaskResults:
    frame = pd.concat([*_read(items, folder, task), *_measured(design, folder, task)], ignore_index=True)
    if design.folds is not None:
        trainings = frame.groupby(["model", "repeat"], sort=False)
        parts = [out_of_fold([rows]).assign(repeat=rows["repeat"].iloc[0]) for _, rows in trainings]
        frame = pd.concat(parts, ignore_index=True)
    present = {System(*key) for key in frame[["model", "stage"]].drop_duplicates().itertuples(index=False)}
    pairs = plan.pairs_among(present)
    compared = compare_systems(frame, pairs, primary=plan.primary, margin=plan.margin) if pairs else []
    further = score_further(frame, plan.sensitivity, ["test"])
    unchecked = tuple(dict.fromkeys(_unchecked(items, folder, task)))
    return TaskResults(task, frame, tuple(score_repeats(frame)), tuple(compared), tuple(further), unchecked)


def _unchecked(items: Sequence[Item], folder: WorkFolder, task: Task) -> Iterator[str]:
    for item in items:
        if isinstance(item, Training) and item.source is not None and item.task == task:
            start = RunFolder.open(folder.run(item.name)).description.start_from
            if start is not None and not start.patients_checked:
                yield item.system


def _read(items: Sequence[Item], folder: WorkFolder, task: Task) -> Iterator[pd.DataFrame]:
    for item in items:
        path = folder.predictions(item.name)
        if item.task == task and folder.has_predictions(item.name):
            yield read_predictions(path)


def _measured(design: StudyDesign, folder: WorkFolder, task: Task) -> Iterator[pd.DataFrame]:
    cases = folder.dataset.case_by_id
    for number in design.splits:
        split = folder.split(number)
        for measure in MEASURES:
            yield predict_by_measure(cases, split, task, measure)
