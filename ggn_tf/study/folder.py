"""A study's results on disk, which exist together or not at all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ggn_tf.dataset.records import Dataset
from ggn_tf.evaluation.report.evaluation_folder import FIGURES, MODEL_CARD, REPORT
from ggn_tf.evaluation.report.model_card import study_card
from ggn_tf.evaluation.report.page import write_page
from ggn_tf.evaluation.report_inputs import ReportInputs
from ggn_tf.evaluation.statistics.predictions_table import write_predictions
from ggn_tf.evaluation.statistics.repeats import table_of
from ggn_tf.files import replaced_folder
from ggn_tf.json_records import to_json
from ggn_tf.runs.package_versions import package_versions
from ggn_tf.study.grid import StudyDesign
from ggn_tf.study.page import Example, StudyData, study_page
from ggn_tf.study.results import TaskResults
from ggn_tf.study.tables import ScoreTable, markdown

RESULTS, TABLES, STUDY = "results", "tables.md", "study.json"


def describe_study(question: StudyDesign, dataset: Dataset) -> dict[str, Any]:
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
        "protocol": to_json(question.protocol),
        "dataset": dataset.folder.resolve().name,
        "dataset_fingerprint": dataset.fingerprint,
        "versions": package_versions(),
    }


def write_study(
    question: StudyDesign,
    dataset: Dataset,
    results: Sequence[TaskResults],
    tables: Sequence[ScoreTable],
    folder: Path,
    examples: Mapping[tuple[str, int], Example] | None = None,
) -> Path:
    """Write `results/` in a study's folder, in place of a former one.

    It holds `report.html` with its `figures/`, `model_card.md`, `study.json`, `tables.md`, each table as CSV, and a
    folder a task with `predictions.csv`, `scores.csv` and `comparisons.csv`, from which other programs go on.

    Args:
        question: What was asked.
        dataset: What the study was trained on.
        results: From `gather`.
        tables: From `tables_of`.
        folder: The study's.
        examples: Runs that the report looks into, from `collect_examples`.

    Returns:
        The folder `results`.
    """
    with replaced_folder(folder / RESULTS) as new:
        description = describe_study(question, dataset)
        (new / STUDY).write_text(json.dumps(description, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (new / TABLES).write_text(markdown(tables), encoding="utf-8")
        (new / MODEL_CARD).write_text(study_card(description, markdown(tables)), encoding="utf-8")
        predictions = {str(result.task): result.predictions for result in results}
        data = StudyData(description, tables, predictions, ReportInputs(dataset.case_by_id), examples or {})
        write_page(study_page(data), new / REPORT, new / FIGURES)
        for table in tables:
            pd.DataFrame(table.rows, columns=list(table.heading)).to_csv(new / f"{table.name}.csv", index=False)
        for result in results:
            part = new / result.task.file_name
            part.mkdir()
            write_predictions(result.predictions, part / "predictions.csv")
            table_of(result.scores).to_csv(part / "scores.csv", index=False)
            table_of(result.comparisons).to_csv(part / "comparisons.csv", index=False)
    return folder / RESULTS
