"""The results of a study on disk, written completely or not at all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ggn_tf.dataset.records import Dataset
from ggn_tf.evaluation.report.cells import cell_line
from ggn_tf.evaluation.report.evaluation_folder import FIGURES, MODEL_CARD, REPORT
from ggn_tf.evaluation.report.page import write_page
from ggn_tf.evaluation.report_inputs import ReportInputs
from ggn_tf.evaluation.statistics.predictions_table import write_predictions
from ggn_tf.evaluation.statistics.repeats import table_of
from ggn_tf.files import replaced_folder
from ggn_tf.studies.card import study_card
from ggn_tf.studies.description import describe_study
from ggn_tf.studies.grid import StudyDesign
from ggn_tf.studies.page import Example, StudyData, study_page
from ggn_tf.studies.results import TaskResults
from ggn_tf.studies.tables import ScoreTable, markdown

RESULTS, TABLES, STUDY = "results", "tables.md", "study.json"


def write_study(
    design: StudyDesign,
    dataset: Dataset,
    results: Sequence[TaskResults],
    tables: Sequence[ScoreTable],
    folder: Path,
    examples: Mapping[tuple[str, int], Example] | None = None,
) -> Path:
    """Write `results/` in a study's folder, in place of a former one.

    It contains `report.html` with its `figures/`, `model_card.md`, `study.json`, `tables.md`, each table as CSV, and
    for each task a folder with `predictions.csv`, `scores.csv` and `comparisons.csv` for other programs.

    Args:
        design: What was compared.
        dataset: What the study was trained on.
        results: From `collect_results`.
        tables: From `tables_of`.
        folder: The study's folder.
        examples: Runs that the report shows in detail, from `collect_examples`.

    Returns:
        The folder `results`.
    """
    with replaced_folder(folder / RESULTS) as new:
        description = describe_study(design, dataset)
        study_json = json.dumps(description.to_dict(), indent=2, allow_nan=False)
        (new / STUDY).write_text(study_json + "\n", encoding="utf-8")
        (new / TABLES).write_text(markdown(tables), encoding="utf-8")
        (new / MODEL_CARD).write_text(study_card(description, tables), encoding="utf-8")
        predictions = {str(result.task): result.predictions for result in results}
        data = StudyData(description, tables, predictions, ReportInputs(dataset.case_by_id), examples or {})
        write_page(study_page(data), new / REPORT, new / FIGURES)
        for table in tables:
            table_frame(table).to_csv(new / f"{table.name}.csv", index=False)
        for result in results:
            part = new / result.task.file_name
            part.mkdir()
            write_predictions(result.predictions, part / "predictions.csv")
            table_of(result.scores).to_csv(part / "scores.csv", index=False)
            table_of(result.comparisons).to_csv(part / "comparisons.csv", index=False)
    return folder / RESULTS


def table_frame(table: ScoreTable) -> pd.DataFrame:
    """A table's cells as text."""
    return pd.DataFrame([map(cell_line, row) for row in table.rows], columns=list(map(cell_line, table.heading)))
