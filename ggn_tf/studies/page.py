"""The report of a study: its tables, then for every task and split the sections that a run has for one system."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from ggn_tf.evaluation.report.blocks import Page, Prose, Section
from ggn_tf.evaluation.report.budget import budget_section
from ggn_tf.evaluation.report.cells import Cell, Label, Table, cell_text
from ggn_tf.evaluation.report.gallery import gallery_section
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.report.run_tables import OPTIMISTIC
from ggn_tf.evaluation.report.sections import analysis_sections
from ggn_tf.evaluation.report_inputs import ReportInputs
from ggn_tf.evaluation.statistics.paper_systems import PAPER_SYSTEMS
from ggn_tf.evaluation.statistics.scores import REPLICATES
from ggn_tf.studies.description import StudyDescription
from ggn_tf.studies.tables import ScoreTable


@dataclass(frozen=True)
class Example:
    """One run of a study, whose error budget and gallery are shown as an example.

    Attributes:
        frame: Its predictions.
        inputs: From `collect_report_inputs`.
    """

    frame: pd.DataFrame
    inputs: ReportInputs


@dataclass(frozen=True)
class StudyData:
    """The content of a study's report.

    Attributes:
        description: What was compared, and on which data.
        tables: In the order of reading.
        predictions: The predictions table of each task: every system, split and repeat.
        inputs: What the dataset records about the nodules; nothing else of it is used.
        examples: One run of the cascade for some tasks and splits.
        replicates: Number of bootstrap replicates in the figures.
        seed: Seed of the bootstrap in the figures.
    """

    description: StudyDescription
    tables: Sequence[ScoreTable]
    predictions: Mapping[str, pd.DataFrame]
    inputs: ReportInputs = field(default_factory=ReportInputs)
    examples: Mapping[tuple[str, int], Example] = field(default_factory=dict)
    replicates: int = REPLICATES
    seed: int = 0


def study_page(study: StudyData) -> Page:
    """Compose the report of a study.

    Figures show the paper's systems and the radiomics baseline; other weights of the joint loss and single measures
    are only in the tables.
    """
    description, design = study.description, study.description.design
    tables = [Section(table.name, table.title, [_table(table)]) for table in study.tables]
    tasks = [_task(study, task, number) for number, task in enumerate(study.predictions, start=1)]
    facts = Table([], [*description.design_facts(), *description.data_facts()])
    splits = ", ".join(map(str, design.splits))
    return Page(
        title=f"Study: {_counted(len(study.predictions), 'task')}",
        subtitle=f"Dataset {description.dataset}; split{'s' * (len(design.splits) > 1)} {splits}; "
        + _counted(design.repeats, "repeat"),
        blocks=[Prose(OPTIMISTIC, warning=True)] if design.select_on == "test" else [],
        sections=[
            Section("tables", "Tables", inner=tables),
            *tasks,
            Section("compared", "What was compared", [facts]),
        ],
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count > 1)}"


def _table(table: ScoreTable) -> Table:
    """The columns that identify a row become one, which stays visible when the table scrolls."""
    heading, *rows = ([_key(row[: table.keys]), *row[table.keys :]] for row in (table.heading, *table.rows))
    return Table(heading, rows, table.caption)


def _key(cells: Sequence[Cell]) -> Label:
    first, *others = map(cell_text, cells)
    return Label(first, "; ".join(others))


def _task(study: StudyData, task: str, number: int) -> Section:
    splits = sorted(int(split) for split in study.predictions[task]["split"].unique())
    return Section(f"task-{number}", f"Task {task}", inner=[_split(study, task, split, number) for split in splits])


def _split(study: StudyData, task: str, split: int, number: int) -> Section:
    frame = study.predictions[task]
    systems = pd.MultiIndex.from_frame(frame[["model", "stage"]])
    shown = frame[(frame["split"] == split) & systems.isin([system.system for system in PAPER_SYSTEMS])]
    name = f"task{number}-split{split}"
    sections = analysis_sections(_report_data(study, shown, f"{name}-"), study.inputs)
    example = study.examples.get((task, split))
    if example is not None:
        sections += _example_sections(study, example, f"{name}-example-")
    return Section(name, f"Split {split}", inner=sections)


def _example_sections(study: StudyData, example: Example, prefix: str) -> list[Section]:
    data = _report_data(study, example.frame, prefix)
    sections = [budget_section(data, example.inputs.reference), gallery_section(example.inputs.slides, data)]
    model, repeat = example.frame[["model", "repeat"]].iloc[0]
    note = Prose(f"Of one run: model {model}, repeat {repeat}.")
    return [Section(each.anchor, each.title, [note, *each.blocks]) for each in sections if each is not None]


def _report_data(study: StudyData, frame: pd.DataFrame, prefix: str) -> ReportData:
    return ReportData(
        frame,
        study.description.design.select_on,
        replicates=study.replicates,
        seed=study.seed,
        nodules=study.inputs.nodules,
        prefix=prefix,
    )
