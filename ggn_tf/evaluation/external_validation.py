"""External validation: a finished run on the nodules of another site."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.errors import RunError
from ggn_tf.evaluation.network_predictions import CasePredictor
from ggn_tf.evaluation.statistics.predictions_table import EXTERNAL, check_predictions, columns
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import STAGES

_REMEDY = "Take these patients out of the other case table, and prepare it anew."


def open_external(run: RunFolder, own: Dataset, folder: Path) -> Dataset:
    """Open another site's dataset for a run.

    Args:
        run: The run.
        own: Its own dataset.
        folder: The other dataset's.

    Raises:
        DatasetError: The dataset cannot be read, or its patches were cut in another way.
        RunError: It holds a patient of the run's dataset, or a patch of it. Ids are salted hashes: patients are known
            again in datasets of one salt; where two sites hashed apart, only the same nodule of the same CT is.
    """
    other = open_dataset(folder, run.description.protocol.patch)
    known = {case.patient_id for case in own.cases}
    shared = sorted({case.patient_id for case in other.cases} & known)
    if shared:
        raise RunError(
            "The other dataset holds patients of the run's own.",
            case=folder,
            found=f"{len(shared)} patients of both, such as {shared[0]}",
            expected="patients that the run has never seen",
            remedy=_REMEDY,
        )
    patches = {case.digest for case in own.cases}
    copies = [case.case_id for case in other.cases if case.digest in patches]
    if copies:
        raise RunError(
            "The other dataset holds nodules of the run's own, under other ids.",
            case=folder,
            found=f"{len(copies)} patches of both, such as {copies[0]}",
            expected="patients that the run has never seen",
            remedy=f"{_REMEDY} Ids are the same where both tables are prepared with one --salt-file.",
        )
    return other


def predict_external(
    run: RunFolder, other: Dataset, announce: Callable[[str], None] = lambda line: None
) -> pd.DataFrame:
    """Ask every finished stage's model about every nodule of another dataset.

    Args:
        run: The run.
        other: From `open_external`.
        announce: Told of every stage before it is predicted.

    Returns:
        A checked predictions table of the set `external`.

    Raises:
        TaskError: The other dataset does not hold the task's labels.
        RunError: A model cannot be read.
    """
    asked = run.description
    asked.task.check_labels(case.label for case in other.cases)
    cases = CasePredictor(other, [case.case_id for case in other.cases], asked.task)
    parts = []
    for stage in (stage for stage in STAGES[asked.model] if stage.name in run.finished_stages()):
        announce(f"predicting: stage {stage.name}, {EXTERNAL} set, {len(cases)} nodules")
        network = stage.network(run.load_model(stage.name))
        told = {"split": asked.split, "set": EXTERNAL, "model": asked.model, "stage": stage.name, "repeat": 1}
        parts.append(cases.answers(network, asked.protocol.training.batch_size, **told))
    return check_predictions(pd.concat(parts, ignore_index=True)[columns(asked.task.class_names)])
