"""The nodules of a task, and the columns that identify them in a predictions table."""

from collections.abc import Iterable, Sequence

import pandas as pd

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.tasks import Task


def nodules_of(records: Iterable[CaseRecord], task: Task) -> list[CaseRecord]:
    """The cases whose label is in a class of the task, in their order."""
    return [case for case in records if task.class_of(case.label) is not None]


def identify(nodules: Sequence[CaseRecord], task: Task) -> pd.DataFrame:
    """One row per nodule: `case`, `patient`, and as `label` the class that contains its label.

    Args:
        nodules: From `nodules_of`.
        task: Names the classes.
    """
    class_name = {label: name for name, group in zip(task.class_names, task.classes, strict=True) for label in group}
    rows = [(case.case_id, case.patient_id, class_name[case.label]) for case in nodules]
    return pd.DataFrame(rows, columns=["case", "patient", "label"])
