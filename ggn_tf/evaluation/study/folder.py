"""A study's results on disk, which exist together or not at all."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ggn_tf.dataset.records import Dataset
from ggn_tf.evaluation.repeats import table_of
from ggn_tf.evaluation.study.grid import Question, task_name
from ggn_tf.evaluation.study.results import TaskResults
from ggn_tf.evaluation.study.tables import ScoreTable, markdown
from ggn_tf.evaluation.table import write_predictions
from ggn_tf.files import replaced_folder
from ggn_tf.training.versions import package_versions

RESULTS, TABLES, STUDY = "results", "tables.md", "study.json"


def describe_study(question: Question, dataset: Dataset) -> dict[str, Any]:
    """What was asked, as JSON types; of the dataset only the folder's name, so that no home directory is told."""
    return {
        "tasks": [str(task) for task in question.tasks],
        "models": list(question.models),
        "splits": list(question.splits),
        "repeats": question.repeats,
        "joint_weights": list(question.joint_weights),
        "seed": question.seed,
        "precision": question.precision,
        "select_on": question.select_on,
        "protocol": question.protocol.to_dict(),
        "dataset": dataset.folder.resolve().name,
        "dataset_fingerprint": dataset.fingerprint,
        "versions": package_versions(),
    }


def write_study(
    question: Question, dataset: Dataset, results: Sequence[TaskResults], tables: Sequence[ScoreTable], folder: Path
) -> Path:
    """Write `results/` in a study's folder, in place of a former one.

    It holds `study.json`, `tables.md`, each table as CSV, and a folder a task with `predictions.csv`, `scores.csv` and
    `comparisons.csv`, from which other programs go on.

    Returns:
        The folder `results`.
    """
    with replaced_folder(folder / RESULTS) as new:
        description = json.dumps(describe_study(question, dataset), indent=2, allow_nan=False)
        (new / STUDY).write_text(description + "\n", encoding="utf-8")
        (new / TABLES).write_text(markdown(tables), encoding="utf-8")
        for table in tables:
            pd.DataFrame(table.rows, columns=list(table.heading)).to_csv(new / f"{table.name}.csv", index=False)
        for result in results:
            part = new / task_name(result.task)
            part.mkdir()
            write_predictions(result.predictions, part / "predictions.csv")
            table_of(result.scores).to_csv(part / "scores.csv", index=False)
            table_of(result.comparisons).to_csv(part / "comparisons.csv", index=False)
    return folder / RESULTS
