"""The report of a study: its tables, then for every task and split what the sections of a run show of one system."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ggn_tf.evaluation.report.blocks import Cell, Estimate, Page, Prose, Section, Table, cell_of
from ggn_tf.evaluation.report.budget import budget_section
from ggn_tf.evaluation.report.gallery import gallery_section
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.report.sections import analysis_sections
from ggn_tf.evaluation.report.summary import OPTIMISTIC
from ggn_tf.evaluation.report_inputs import ReportInputs
from ggn_tf.evaluation.statistics.paper_systems import PAPER_SYSTEMS
from ggn_tf.evaluation.statistics.scores import REPLICATES
from ggn_tf.study.tables import ScoreTable

_FACTS = {
    "tasks": "Tasks",
    "models": "Models",
    "splits": "Splits",
    "repeats": "Repeats",
    "joint_weights": "Lambdas of the joint loss",
    "seed": "Seed of the first repeat",
    "precision": "Precision",
    "select_on": "Weights selected on",
    "dataset": "Dataset",
    "dataset_fingerprint": "Dataset fingerprint",
    "versions": "Versions",
}


@dataclass(frozen=True)
class Example:
    """One run of a study, whose error budget and gallery stand for the others.

    Attributes:
        frame: Its predictions.
        inputs: From `collect_extras`.
    """

    frame: pd.DataFrame
    inputs: ReportInputs


@dataclass(frozen=True)
class StudyData:
    """What a study's report is drawn from.

    Attributes:
        description: As `study.json` holds it.
        tables: In the order of reading; what stands in brackets at a cell's end is shown small below it.
        predictions: For each task its table: every system, split and repeat.
        inputs: What the dataset knows of the nodules; nothing else of it is used.
        examples: For some tasks and splits one run of the cascade.
        replicates, seed: Of the bootstrap of what is drawn.
    """

    description: Mapping[str, Any]
    tables: Sequence[ScoreTable]
    predictions: Mapping[str, pd.DataFrame]
    inputs: ReportInputs = field(default_factory=ReportInputs)
    examples: Mapping[tuple[str, int], Example] = field(default_factory=dict)
    replicates: int = REPLICATES
    seed: int = 0


def study_page(study: StudyData) -> Page:
    """Put a study's report together.

    Figures show the paper's systems and the radiomic one; other lambdas and single measures stand in the tables.
    """
    description = study.description
    warning = [Prose(OPTIMISTIC, warning=True)] if description["select_on"] == "test" else []
    tables = [Section(table.name, table.title, [_table(table)]) for table in study.tables]
    tasks = [_task(study, task, number) for number, task in enumerate(study.predictions, start=1)]
    return Page(
        title=f"Study: {len(study.predictions)} task{'s' * (len(study.predictions) > 1)}",
        subtitle=f"Dataset {description['dataset']}; "
        f"split{'s' * (len(description['splits']) > 1)} {', '.join(map(str, description['splits']))}; "
        f"{description['repeats']} repeat{'s' * (description['repeats'] > 1)}",
        blocks=warning,
        sections=[Section("tables", "Tables", inner=tables), *tasks, _asked(description)],
    )


def _table(table: ScoreTable) -> Table:
    """What tells a row from the others stands in one cell, which stays in view where the table scrolls."""

    def joined(cells: Sequence[str]) -> Cell:
        return Estimate(cells[0], "; ".join(cells[1 : table.keys]))

    rows = [[joined(row), *map(cell_of, row[table.keys :])] for row in table.rows]
    return Table([joined(table.heading), *table.heading[table.keys :]], rows, table.caption)


def _task(study: StudyData, task: str, number: int) -> Section:
    frame = study.predictions[task]
    splits = sorted(int(split) for split in frame["split"].unique())
    return Section(f"task-{number}", f"Task {task}", inner=[_split(study, task, split, number) for split in splits])


def _split(study: StudyData, task: str, split: int, number: int) -> Section:
    frame = study.predictions[task]
    systems = pd.MultiIndex.from_frame(frame[["model", "stage"]])
    shown = frame[(frame["split"] == split) & systems.isin([one.system for one in PAPER_SYSTEMS])]
    prefix = f"task{number}-split{split}-"
    sections = analysis_sections(_evidence(study, shown, prefix), study.inputs)
    example = study.examples.get((task, split))
    if example is not None:
        sections += _example(study, example, prefix)
    return Section(f"task{number}-split{split}", f"Split {split}", inner=sections)


def _example(study: StudyData, example: Example, prefix: str) -> list[Section]:
    data = _evidence(study, example.frame, f"{prefix}example-")
    parts = [budget_section(data, example.inputs.reference), gallery_section(example.inputs.slides, data)]
    repeat = int(example.frame["repeat"].iloc[0])
    said = Prose(f"Of one run, the {example.frame['model'].iloc[0]} of repeat {repeat}.")
    return [Section(part.anchor, part.title, [said, *part.blocks]) for part in parts if part is not None]


def _evidence(study: StudyData, frame: pd.DataFrame, prefix: str) -> ReportData:
    return ReportData(
        frame,
        study.description["select_on"],
        replicates=study.replicates,
        seed=study.seed,
        nodules=study.inputs.nodules,
        prefix=prefix,
    )


def _asked(description: Mapping[str, Any]) -> Section:
    rows = [[name, _text(description[key])] for key, name in _FACTS.items() if key in description]
    return Section("asked", "What was asked", [Table([], rows)])


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    return str(value)
