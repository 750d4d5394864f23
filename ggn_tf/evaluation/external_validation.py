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


def open_external(run: RunFolder, own_dataset: Dataset, folder: Path) -> Dataset:
    """Open another site's dataset for a run.

    Ids are salted hashes. A patient of both datasets is recognised where both were prepared with one salt; otherwise
    only an identical patch is.

    Args:
        run: The run.
        own_dataset: The dataset that the run was trained on.
        folder: Folder of the other dataset.

    Raises:
        DatasetError: The dataset cannot be read, or its patches were cut with other settings.
        RunError: A patient or a patch is in both datasets.
    """
    other = open_dataset(folder, run.description.protocol.patch)
    patients = {case.patient_id for case in own_dataset.cases}
    shared = sorted({case.patient_id for case in other.cases} & patients)
    if shared:
        raise _overlap("patients", folder, f"{len(shared)} patients in both, for example {shared[0]}")
    patches = {case.digest for case in own_dataset.cases}
    copies = [case.case_id for case in other.cases if case.digest in patches]
    if copies:
        found = f"{len(copies)} identical patches under other ids, for example {copies[0]}"
        raise _overlap("nodules", folder, found, "With one salt file for both tables, equal ids show which they are.")
    return other


def _overlap(what: str, folder: Path, found: str, hint: str = "") -> RunError:
    return RunError(
        f"The other dataset contains {what} of the run's own dataset.",
        case=folder,
        found=found,
        expected="patients that the run has never seen",
        remedy=f"Remove these patients from the other case table, and prepare it again. {hint}".rstrip(),
        arguments=("salt_file",) if hint else (),
    )


def predict_external(
    run: RunFolder, other: Dataset, announce: Callable[[str], None] = lambda line: None
) -> pd.DataFrame:
    """Predict every nodule of another dataset with every finished stage's model.

    Args:
        run: The run.
        other: From `open_external`.
        announce: Called with a line of text before every stage.

    Returns:
        A checked predictions table of the set `external`.

    Raises:
        TaskError: The other dataset lacks a label of the task.
        RunError: A model cannot be read.
    """
    description = run.description
    description.task.check_labels(case.label for case in other.cases)
    cases = CasePredictor(other, [case.case_id for case in other.cases], description.task)
    parts = []
    for stage in (stage for stage in STAGES[description.model] if stage.name in run.finished_stages()):
        announce(f"predicting: stage {stage.name}, {EXTERNAL} set, {len(cases)} nodules")
        network = stage.network(run.load_model(stage.name))
        row = {"split": description.split, "set": EXTERNAL, "model": description.model, "stage": stage.name}
        parts.append(cases.predict(network, description.protocol.training.batch_size, **row, repeat=1))
    return check_predictions(pd.concat(parts, ignore_index=True)[columns(description.task.class_names)])
