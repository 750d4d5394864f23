"""What a study found: every system's predictions of a task in one table, scored and compared."""

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
from ggn_tf.study.grid import StudyDesign
from ggn_tf.study.item import Item, WorkFolder
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
"""What the paper claims, and whether it beats a ruler. Chosen before any score: fewer pairs lose less to correction."""


@dataclass(frozen=True)
class TaskResults:
    """Everything that was found of one task.

    Attributes:
        task: What was told apart.
        predictions: Of every system, split and repeat.
        scores: Mean over repeats, its deviation and its interval, of validation and test set.
        comparisons: The planned pairs of which both are there, on the test set.
    """

    task: Task
    predictions: pd.DataFrame
    scores: tuple[RepeatedScore, ...]
    comparisons: tuple[Comparison, ...]


def collect_results(question: StudyDesign, items: Sequence[Item], place: WorkFolder) -> list[TaskResults]:
    """Read what a finished study left on disk, and put the single measures beside it.

    Args:
        question: What was asked.
        items: All of them done.
        place: The study's.

    Returns:
        In the order of the question's tasks.
    """
    return [_results(question, items, place, task) for task in question.tasks]


def _results(question: StudyDesign, items: Sequence[Item], place: WorkFolder, task: Task) -> TaskResults:
    frame = pd.concat([*_read(items, place, task), *_measured(question, place, task)], ignore_index=True)
    present = {System(*key) for key in frame[["model", "stage"]].drop_duplicates().itertuples(index=False)}
    pairs = [pair for pair in PLANNED_PAIRS if set(pair) <= present]
    compared = tuple(compare_systems(frame, pairs)) if pairs else ()
    return TaskResults(task, frame, tuple(score_repeats(frame)), compared)


def _read(items: Sequence[Item], place: WorkFolder, task: Task) -> Iterator[pd.DataFrame]:
    """The tables of a task; a repeat of `cells_of` needs them in one order."""
    for item in items:
        path = place.predictions(item.name)
        if item.task == task and path.exists():
            yield read_predictions(path)


def _measured(question: StudyDesign, place: WorkFolder, task: Task) -> Iterator[pd.DataFrame]:
    cases = place.dataset.case_by_id
    for number in question.splits:
        split = read_split(place.dataset, number)
        for measure in MEASURES:
            yield predict_by_measure(cases, split, task, measure)
