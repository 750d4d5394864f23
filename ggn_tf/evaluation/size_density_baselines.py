"""Baselines that a network must beat: logistic regression on one number of the nodule's size or density.

The number is measured on the reference mask.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.splits import Split
from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.predictions_table import check_predictions, columns, probability_columns
from ggn_tf.evaluation.task_nodules import identify, nodules_of
from ggn_tf.protocol import SETS
from ggn_tf.runs.stages import CLASSIFY
from ggn_tf.tasks import Task

# By the name of the model; sizes as logarithms, since nodules grow by factors.
MEASURES: Mapping[str, Callable[[CaseRecord], float]] = MappingProxyType(
    {
        "diameter": lambda case: float(np.log(case.longest_diameter_mm)),
        "volume": lambda case: float(np.log(case.volume_mm3)),
        "mean_hu": lambda case: case.mean_hu,
        "solid_fraction": lambda case: case.solid_fraction,
    }
)


def predict_by_measure(cases: Mapping[str, CaseRecord], split: Split, task: Task, model: str) -> pd.DataFrame:
    """Fit on the training set, predict all sets.

    Args:
        cases: The dataset's cases by id: `Dataset.case_by_id`.
        split: Cases of each set.
        task: The classes; nodules whose label is in none of them are left out.
        model: A key of `MEASURES`, which names the model of the predictions.

    Returns:
        A checked predictions table: stage `classify`, repeat 1 (another training would give the same), no Dice.

    Raises:
        PredictionsError: The training set lacks a class.
    """
    sets = {name: nodules_of([cases[case_id] for case_id in getattr(split, name)], task) for name in SETS}
    regression = make_pipeline(StandardScaler(), LogisticRegression())
    regression.fit(_numbers(sets["train"], model), _classes(sets["train"], task))
    row: dict[str, Any] = {"split": split.number, "model": model, "stage": CLASSIFY.name, "repeat": 1, "dice": np.nan}
    parts = []
    for name, records in sets.items():
        if records:
            probability = regression.predict_proba(_numbers(records, model))
            columns_of_set = probability_columns(probability, task.class_names)
            parts.append(identify(records, task).assign(set=name, **row, **columns_of_set))
    return check_predictions(pd.concat(parts, ignore_index=True)[columns(task.class_names)])


def _numbers(records: list[CaseRecord], model: str) -> np.ndarray:
    return np.array([[MEASURES[model](case)] for case in records], np.float64)


def _classes(records: list[CaseRecord], task: Task) -> np.ndarray:
    label = np.array([task.class_of(case.label) for case in records], np.int64)
    lacking = [name for index, name in enumerate(task.class_names) if index not in label]
    if lacking:
        raise PredictionsError(
            "The training set lacks a class, so the baseline cannot be fitted.",
            found=f"no nodule of {', '.join(lacking)} among {len(records)}",
            expected="nodules of every class of the task",
            remedy="Use another split or task, or a dataset with more nodules.",
            arguments=("split", "task"),
        )
    return label
