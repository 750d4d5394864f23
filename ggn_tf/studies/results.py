"""The results of a study: every system's predictions of a task in one table, scored and compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from ggn_tf.dataset.splits import read_split
from ggn_tf.evaluation.size_density_baselines import MEASURES, predict_by_measure
from ggn_tf.evaluation.statistics.comparison import Comparison, compare_systems
from ggn_tf.evaluation.statistics.paper_systems import FROZEN, JOINT, MULTITASK, RADIOMICS, RAW, REFERENCE, TRANSFER
from ggn_tf.evaluation.statistics.predictions_table import read_predictions
from ggn_tf.evaluation.statistics.repeats import RepeatedScore, score_repeats
from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.runs.stages import CLASSIFY
from ggn_tf.studies.grid import StudyDesign
from ggn_tf.studies.item import Item, WorkFolder
from ggn_tf.tasks import Task

PLANNED_PAIRS = (
    (REFERENCE, RAW),
    (FROZEN, RAW),
    (JOINT, RAW),
    (JOINT, FROZEN),
    (JOINT, REFERENCE),
    (JOINT, MULTITASK),
    (JOINT, TRANSFER),
    (JOINT, RADIOMICS),
    (JOINT, System("diameter", CLASSIFY.name)),
)
"""The paper's claims, and whether its system beats the diameter. Few pairs, so that Holm's correction costs little."""


@dataclass(frozen=True)
class TaskResults:
    """The results of one task.

    Attributes:
        task: The task.
        predictions: Predictions of every system, split and repeat.
        scores: Mean over repeats, its deviation and its interval, on validation and test set.
        comparisons: The planned pairs whose systems both have predictions, on the test set.
    """

    task: Task
    predictions: pd.DataFrame
    scores: tuple[RepeatedScore, ...]
    comparisons: tuple[Comparison, ...]


def collect_results(design: StudyDesign, items: Sequence[Item], folder: WorkFolder) -> list[TaskResults]:
    """Read the predictions of a finished study, add the single measures, and score and compare all of them.

    Args:
        design: What was compared.
        items: The study's items, all of them done.
        folder: The study's folder.

    Returns:
        One per task, in the order of the design.
    """
    return [_task_results(design, items, folder, task) for task in design.tasks]


def _task_results(design: StudyDesign, items: Sequence[Item], folder: WorkFolder, task: Task) -> TaskResults:
    frame = pd.concat([*_read(items, folder, task), *_measured(design, folder, task)], ignore_index=True)
    present = {System(*key) for key in frame[["model", "stage"]].drop_duplicates().itertuples(index=False)}
    pairs = [pair for pair in PLANNED_PAIRS if set(pair) <= present]
    compared = tuple(compare_systems(frame, pairs)) if pairs else ()
    return TaskResults(task, frame, tuple(score_repeats(frame)), compared)


def _read(items: Sequence[Item], folder: WorkFolder, task: Task) -> Iterator[pd.DataFrame]:
    for item in items:
        path = folder.predictions(item.name)
        if item.task == task and path.exists():
            yield read_predictions(path)


def _measured(design: StudyDesign, folder: WorkFolder, task: Task) -> Iterator[pd.DataFrame]:
    cases = folder.dataset.case_by_id
    for number in design.splits:
        split = read_split(folder.dataset, number)
        for measure in MEASURES:
            yield predict_by_measure(cases, split, task, measure)
