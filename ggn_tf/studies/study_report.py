"""The report of a study, its card, and its results on disk, written completely or not at all.

The report has the study's tables, then for every task and split the sections that a run has for one system. For every
task it shows the cascade of the first split and repeat in detail.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ggn_tf.dataset.records import Dataset
from ggn_tf.errors import RunError
from ggn_tf.evaluation.report.dice import budget_section
from ggn_tf.evaluation.report.gallery import gallery_section
from ggn_tf.evaluation.report.model_card import optimism_warning, render_card
from ggn_tf.evaluation.report.page import Cell, Label, Page, Prose, Section, Table, cell_line, cell_text, write_page
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.report.run_report import FIGURES, MODEL_CARD, REPORT, analysis_sections, foreign_figures
from ggn_tf.evaluation.report.run_tables import METRIC_NAMES, OPTIMISTIC, extent_warnings
from ggn_tf.evaluation.report_inputs import ReportInputs, collect_report_inputs
from ggn_tf.evaluation.statistics.field_of_view import score_extent
from ggn_tf.evaluation.statistics.paper_systems import JOINT, PAPER_SYSTEMS, title_of
from ggn_tf.evaluation.statistics.predictions_table import write_predictions
from ggn_tf.evaluation.statistics.score_records import RepeatedScore, table_of
from ggn_tf.evaluation.statistics.scores import REPLICATES
from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.files import refuse_links, replaced_folder
from ggn_tf.json_records import to_json
from ggn_tf.runs.run_description import package_versions
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.shown_text import in_spreadsheet
from ggn_tf.studies.analysis import DEFAULT_PLAN, AnalysisPlan, TaskResults
from ggn_tf.studies.crossval_scores import Member, collect_crossval_inputs
from ggn_tf.studies.design import StudyDesign, table_name
from ggn_tf.studies.item import WorkFolder
from ggn_tf.studies.tables import ScoreTable, markdown


@dataclass(frozen=True)
class StudyDescription:
    """A study for a reader; of the dataset's path, which may contain a user's name, only the folder's name."""

    design: StudyDesign
    dataset: str
    dataset_fingerprint: str
    versions: Mapping[str, str]
    plan: AnalysisPlan = DEFAULT_PLAN

    def to_dict(self) -> dict[str, Any]:
        """The content of `study.json`."""
        return {
            **to_json(self.design),
            "dataset": self.dataset,
            "dataset_fingerprint": self.dataset_fingerprint,
            "versions": dict(self.versions),
            "analysis": dataclasses.asdict(self.plan),
        }

    def data_facts(self) -> list[tuple[str, str]]:
        """The data: names and values."""
        return [("Dataset", self.dataset), ("Dataset fingerprint", self.dataset_fingerprint)]

    def design_facts(self) -> list[tuple[str, str]]:
        """What was compared: names and values."""
        design = self.design
        own = "SHA-256 of the folds" if design.folds else "SHA-256 of the user's own splits"
        return [
            ("Tasks", "; ".join(map(str, design.tasks))),
            ("Models", ", ".join(design.models)),
            ("Folds, by patient", str(design.folds))
            if design.folds
            else ("Splits", ", ".join(map(str, design.splits))),
            *[(own, ", ".join(design.split_digests)) for _ in design.split_digests[:1]],
            *[("Ablations", ", ".join(design.ablations)) for _ in design.ablations[:1]],
            ("Repeats", str(design.repeats)),
            ("Weights λ of the joint loss", ", ".join(f"{weight:g}" for weight in design.joint_weights)),
            ("Seed of the first repeat", str(design.seed)),
            ("Weights selected on", design.select_on),
            ("Classifiers selected by", design.protocol.training.select_by),
            ("Precision", design.precision),
            ("Primary score", METRIC_NAMES[self.plan.primary]),
            *_plan_facts(self.plan),
            ("Versions", ", ".join(f"{name} {version}" for name, version in self.versions.items())),
        ]


def _plan_facts(plan: AnalysisPlan) -> list[tuple[str, str]]:
    pairs = None if plan.pairs is None else "; ".join(f"{title_of(a)} - {title_of(b)}" for a, b in plan.pairs)
    facts = {
        "Planned pairs": pairs,
        "Equivalence margin": plan.margin,
        "Least sensitivity of the operating point": plan.sensitivity,
        "Groups by": ", ".join(plan.by) or None,
    }
    return [(name, str(value)) for name, value in facts.items() if value is not None]


def describe_study(design: StudyDesign, dataset: Dataset, plan: AnalysisPlan = DEFAULT_PLAN) -> StudyDescription:
    """Describe a study with the packages that are installed."""
    return StudyDescription(design, dataset.folder.resolve().name, dataset.fingerprint, package_versions(), plan)


def study_card(description: StudyDescription, tables: Sequence[ScoreTable], extent_warnings: Sequence[str] = ()) -> str:
    """The card as Markdown."""
    return render_card(
        "study_card.md",
        data=description.data_facts(),
        design=description.design_facts(),
        extent_warnings=extent_warnings,
        warning=optimism_warning(description.design.select_on),
        tables=markdown(tables).strip(),
    )


@dataclass(frozen=True)
class Example:
    """One run of a study, whose error budget and gallery are shown as an example."""

    frame: pd.DataFrame
    inputs: ReportInputs


@dataclass(frozen=True)
class StudyData:
    """The content of a study's report: tables in the order of reading, predictions and examples by task."""

    description: StudyDescription
    tables: Sequence[ScoreTable]
    predictions: Mapping[str, pd.DataFrame]
    inputs: ReportInputs = field(default_factory=ReportInputs)
    examples: Mapping[tuple[str, int], Example] = field(default_factory=dict)
    replicates: int = REPLICATES
    seed: int = 0
    extent_warnings: Sequence[str] = ()
    further: Mapping[str, tuple[RepeatedScore, ...]] = field(default_factory=dict)


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
    parts = f"split{'s' * (len(design.splits) > 1)} {splits}" if design.folds is None else design.part_name(1)
    selected = [OPTIMISTIC] if design.select_on == "test" else []
    return Page(
        title=f"Study: {_counted(len(study.predictions), 'task')}",
        subtitle=f"Dataset {description.dataset}; {parts}; {_counted(design.repeats, 'repeat')}",
        blocks=[Prose(text, warning=True) for text in (*study.extent_warnings, *selected)],
        sections=[Section("tables", "Tables", inner=tables), *tasks, Section("compared", "What was compared", [facts])],
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count > 1)}"


def _table(table: ScoreTable) -> Table:
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
    titled = [score for score in study.further.get(task, ()) if _is_shown(score, split)]
    data = replace(_report_data(study, shown, f"{name}-"), further=tuple(titled))
    sections = analysis_sections(data, study.inputs)
    example = study.examples.get((task, split))
    if example is not None:
        sections += _example_sections(study, example, f"{name}-example-")
    return Section(name, study.description.design.part_name(split).capitalize(), inner=sections)


def _is_shown(score: RepeatedScore, split: int) -> bool:
    system = System(score.model, score.stage)
    return score.split == split and any(system == known.system for known in PAPER_SYSTEMS)


def _example_sections(study: StudyData, example: Example, prefix: str) -> list[Section]:
    data = _report_data(study, example.frame, prefix)
    sections = [budget_section(data, example.inputs.reference), gallery_section(example.inputs.slides, data)]
    model, repeat = example.frame[["model", "repeat"]].iloc[0]
    whose = "one run" if data.folds is None else "one run per fold"
    note = Prose(f"Of {whose}: model {model}, repeat {repeat}.")
    return [Section(each.anchor, each.title, [note, *each.blocks]) for each in sections if each is not None]


def _report_data(study: StudyData, frame: pd.DataFrame, prefix: str) -> ReportData:
    return ReportData(
        frame,
        study.description.design.select_on,
        replicates=study.replicates,
        seed=study.seed,
        nodules=study.inputs.nodules,
        by=study.description.plan.by,
        sensitivity=study.description.plan.sensitivity,
        prefix=prefix,
        folds=study.description.design.folds,
    )


def collect_examples(
    design: StudyDesign,
    results: Sequence[TaskResults],
    folder: WorkFolder,
    gallery: int,
    announce: Callable[[str], None] = lambda line: None,
) -> dict[tuple[str, int], Example]:
    """Predict with reference masks and draw the gallery for one cascade, if there is one, of each task.

    Of folds, each nodule is shown by the cascade that did not see its patient.
    """
    examples = {}
    split, repeat = design.scored_splits[0], 1
    for result in results:
        frame = result.predictions
        rows = frame[(frame["model"] == JOINT.model) & (frame["split"] == split) & (frame["repeat"] == repeat)]
        if rows.empty:
            continue
        announce(f"report: task {result.task}")
        numbers = design.splits if design.folds else (split,)
        runs = [RunFolder.open(folder.run(table_name(JOINT.model, result.task, number, repeat))) for number in numbers]
        if design.folds is None:
            inputs = collect_report_inputs(runs[0], folder.dataset, rows, gallery, announce)
        else:
            members = [Member(fold, repeat, run) for fold, run in zip(numbers, runs, strict=True)]
            inputs = collect_crossval_inputs(members, folder.dataset, rows, gallery, announce)
        examples[str(result.task), split] = Example(rows, inputs)
    return examples


RESULTS, TABLES, STUDY = "results", "tables.md", "study.json"
_RESULTS = {REPORT, FIGURES, MODEL_CARD, STUDY, TABLES}
_TASK_TABLES = ("predictions.csv", "scores.csv", "comparisons.csv")
_TABLE = re.compile(r"(table-\d|split-\d+|folds|ablations|comparisons-.+-(split\d+|folds))\.csv")
_OF_DESKTOPS = (".DS_Store",)


def refuse_foreign_results(folder: Path) -> None:
    """Refuse a study's folder whose `results/`, which will be replaced, contains something that no study wrote."""
    results = folder / RESULTS
    refuse_links(folder, [RESULTS], RunError)
    foreign = [path.name for path in results.iterdir() if not _is_result(path)] if results.is_dir() else []
    foreign += foreign_figures(results / FIGURES)
    if foreign or (results.exists() and not results.is_dir()):
        raise RunError(
            "The results of the study would replace something else.",
            case=results,
            found=", ".join(sorted(foreign)[:5]) or "a file",
            expected="earlier results of a study, or nothing",
            remedy="Move it away, or name another folder.",
            arguments=("folder",),
        )


def _is_result(path: Path) -> bool:
    if path.is_dir() and path.name != FIGURES:
        return {inner.name for inner in path.iterdir()} <= {*_TASK_TABLES, *_OF_DESKTOPS}
    return path.name in (*_RESULTS, *_OF_DESKTOPS) or bool(_TABLE.fullmatch(path.name))


def write_study(
    design: StudyDesign,
    dataset: Dataset,
    results: Sequence[TaskResults],
    tables: Sequence[ScoreTable],
    folder: Path,
    examples: Mapping[tuple[str, int], Example] | None = None,
    plan: AnalysisPlan = DEFAULT_PLAN,
    *,
    shared: bool = False,
) -> Path:
    """Write `results/` in a study's folder, in place of a former one, and return it.

    It contains `report.html` with its `figures/`, `model_card.md`, `study.json`, `tables.md`, each table as CSV, and
    for each task a folder with `predictions.csv`, `scores.csv` and `comparisons.csv` for other programs.
    The umask decides who may enter a new folder that is `shared`; else only its owner may.
    """
    with replaced_folder(folder / RESULTS, private=not shared) as new:
        description = describe_study(design, dataset, plan)
        study_json = json.dumps(description.to_dict(), indent=2, allow_nan=False)
        (new / STUDY).write_text(study_json + "\n", encoding="utf-8")
        (new / TABLES).write_text(markdown(tables), encoding="utf-8")
        warnings = _extent_warnings(design, results, dataset)
        (new / MODEL_CARD).write_text(study_card(description, tables, warnings), encoding="utf-8")
        predictions = {str(result.task): result.predictions for result in results}
        inputs = ReportInputs(dataset.case_by_id)
        further = {str(result.task): result.further for result in results}
        data = StudyData(
            description, tables, predictions, inputs, examples or {}, extent_warnings=warnings, further=further
        )
        write_page(study_page(data), new / REPORT, new / FIGURES)
        for table in tables:
            _write_csv(table_frame(table), new / f"{table.name}.csv")
        for result in results:
            part = new / result.task.file_name
            part.mkdir()
            predictions_file, scores_file, comparisons_file = (part / name for name in _TASK_TABLES)
            write_predictions(result.predictions, predictions_file)
            _write_csv(table_of([*result.scores, *result.further]), scores_file)
            _write_csv(table_of(result.comparisons), comparisons_file)
        # Something may have been put there since.
        refuse_foreign_results(folder)
    return folder / RESULTS


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.map(lambda cell: in_spreadsheet(cell) if isinstance(cell, str) else cell).to_csv(path, index=False)


def table_frame(table: ScoreTable) -> pd.DataFrame:
    """A table's cells as text."""
    return pd.DataFrame([map(cell_line, row) for row in table.rows], columns=list(map(cell_line, table.heading)))


def _extent_warnings(design: StudyDesign, results: Sequence[TaskResults], dataset: Dataset) -> list[str]:
    return [
        f"Task {result.task}, {design.part_name(int(str(split)))}: {text}"
        for result in results
        for split, rows in result.predictions.groupby("split")
        for text in extent_warnings(score_extent(rows, dataset.case_by_id, "test", 0, REPLICATES))
    ]
