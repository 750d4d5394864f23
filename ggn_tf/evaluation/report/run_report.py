"""The report of one run and its evaluation folder: predictions, scores, model card, figures and page."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.errors import GgnError
from ggn_tf.evaluation.report import run_tables
from ggn_tf.evaluation.report.calibration import calibration_section, decision_section
from ggn_tf.evaluation.report.classification import confusion_section, failures_section, roc_section
from ggn_tf.evaluation.report.dice import budget_section, segmentation_section
from ggn_tf.evaluation.report.further_scores import further_section
from ggn_tf.evaluation.report.gallery import gallery_section
from ggn_tf.evaluation.report.model_card import run_card
from ggn_tf.evaluation.report.page import Block, Page, Prose, Section, Table, write_page
from ggn_tf.evaluation.report.prediction_sets import sets_section
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.report.retest import retest_section
from ggn_tf.evaluation.report.subgroups import subgroups_section
from ggn_tf.evaluation.report_inputs import ReportInputs
from ggn_tf.evaluation.statistics.predictions_table import EXTERNAL, write_predictions
from ggn_tf.evaluation.statistics.run_scores import SCORES_FILE, Estimate, Evaluation, write_scores_file
from ggn_tf.files import replaced_folder


def analysis_sections(data: ReportData, inputs: ReportInputs) -> list[Section]:
    """The sections of a run, or of one task and split of a study; those that do not apply are left out."""
    sections = [
        confusion_section(data),
        further_section(data),
        roc_section(data),
        calibration_section(data),
        decision_section(data),
        segmentation_section(data),
        budget_section(data, inputs.reference),
        subgroups_section(data),
        failures_section(data, shown_cases={nodule.case_id for nodule in inputs.slides}),
        gallery_section(inputs.slides, data),
    ]
    return [section for section in sections if section is not None]


@dataclass(frozen=True)
class Tiles:
    """Scores in large print, by their names; all have a value."""

    template: ClassVar[str] = "tiles.html"

    scores: Mapping[str, Estimate]


def scores_section(evaluation: Evaluation) -> Section:
    """All scores with their intervals."""
    remarks = [run_tables.interval_note(evaluation.scores), *run_tables.remarks(evaluation)]
    return Section("scores", "Scores", [*run_tables.score_tables(evaluation), *map(Prose, remarks)])


def tiles(evaluation: Evaluation) -> list[Block]:
    """The test scores of the last stage; nothing for a run without a test case."""
    test = evaluation.scores.test
    if test is None:
        return []
    stage, scores = list(test.stages.items())[-1]
    defined = {
        run_tables.METRIC_NAMES[name]: score for name, score in scores.by_metric().items() if score.value is not None
    }
    selected = " The weights were selected on this set." if evaluation.run.select_on == "test" else ""
    name = (
        "Test set" if evaluation.crossval is None else f"Mean over the test sets of {evaluation.crossval.folds} folds"
    )
    text = (
        f"{name}, stage {stage}: {test.nodules} nodules of {test.patients} other patients of the same dataset "
        f"(internal validation).{selected}"
    )
    return [Tiles(defined), Prose(text)]


def run_data(
    frame: pd.DataFrame,
    evaluation: Evaluation,
    nodules: Mapping[str, CaseRecord] | None = None,
    by: tuple[str, ...] = (),
) -> ReportData:
    """What the sections of a run's test set show."""
    scores = evaluation.scores
    return ReportData(
        frame,
        evaluation.run.select_on,
        replicates=scores.replicates,
        seed=scores.seed,
        nodules=nodules,
        by=by,
        further=evaluation.further,
        sensitivity=evaluation.sensitivity,
        folds=None if evaluation.crossval is None else evaluation.crossval.folds,
    )


def run_page(
    frame: pd.DataFrame, evaluation: Evaluation, inputs: ReportInputs | None = None, by: tuple[str, ...] = ()
) -> Page:
    """Compose the report of a run from its checked predictions; without inputs it shows what these alone contain."""
    run, inputs = evaluation.run, inputs or ReportInputs()
    data = run_data(frame, evaluation, inputs.nodules, by)
    sections = [scores_section(evaluation)]
    if not data.rows.empty:
        sections += analysis_sections(data, inputs)
        sections += _sets_sections(data, evaluation)
        sections += [] if evaluation.retest is None else [retest_section(data, evaluation.retest)]
    carried = {name for case in (inputs.external or {}).values() for name in case.columns}
    external = replace(
        data,
        set_name=EXTERNAL,
        nodules=inputs.external,
        by=tuple(name for name in by if name in carried),
        prefix="external-",
    )
    if not external.rows.empty:
        inner = [*analysis_sections(external, ReportInputs(inputs.external)), *_sets_sections(external, evaluation)]
        sections.append(Section("external", f"External site: {evaluation.external_dataset}", inner=inner))
    selected = [run_tables.selection(run)] if run.select_on == "test" else []
    warnings = [Prose(text, warning=True) for text in (*run_tables.extent_warnings(evaluation.extent), *selected)]
    return Page(
        title=f"{run.model}, task {run.task}",
        subtitle=f"{run_tables.parts_of(evaluation).capitalize()}, seed {run.seed}, dataset {run.dataset}",
        blocks=[*warnings, *tiles(evaluation)],
        sections=[*sections, _training(evaluation, frame)],
    )


def _sets_sections(data: ReportData, evaluation: Evaluation) -> list[Section]:
    section = None if evaluation.sets is None else sets_section(data, evaluation.sets)
    return [] if section is None else [section]


def _training(evaluation: Evaluation, frame: pd.DataFrame) -> Section:
    facts = Table([], [*run_tables.training_facts(evaluation.run), *run_tables.data_facts(evaluation)])
    return Section(
        "training", "What was trained", [facts, run_tables.sets_table(frame), run_tables.training_table(evaluation)]
    )


PREDICTIONS, SCORES, REPORT, FIGURES = "predictions.csv", SCORES_FILE, "report.html", "figures"
MODEL_CARD, RETEST = "model_card.md", "test_retest.csv"
# Hidden files that desktops and file systems put into any folder.
_OF_DESKTOPS = (".DS_Store", "._", ".nfs")
_EVALUATION = {PREDICTIONS, SCORES, REPORT, FIGURES, MODEL_CARD, RETEST}
_FIGURE = (".png", ".svg")


def refuse_foreign_evaluation(folder: Path) -> None:
    """Refuse a folder that contains something else than an evaluation, which would be replaced."""
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    foreign = sorted(name for name in names - _EVALUATION if not name.startswith(_OF_DESKTOPS))
    foreign += foreign_figures(folder / FIGURES)
    if not folder.is_dir() or foreign or (names and SCORES not in names):
        raise GgnError(
            "The evaluation would replace something else.",
            case=folder,
            found=", ".join(foreign[:5]) or (f"files, but no {SCORES}" if names else "a file"),
            expected="an earlier evaluation, an empty folder, or one that does not exist",
            remedy="Move what is not of an evaluation away, or name another folder.",
            arguments=("output",),
        )


def foreign_figures(folder: Path) -> list[str]:
    """What is in a folder of figures and none: each of ours is there as PNG and as SVG."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    pairs = {name for name in names if {Path(name).stem + suffix for suffix in _FIGURE} <= names}
    ours = {name for name in pairs if name.endswith(_FIGURE)}
    return sorted(f"{folder.name}/{name}" for name in names - ours if not name.startswith(_OF_DESKTOPS))


def write_evaluation(
    frame: pd.DataFrame,
    evaluation: Evaluation,
    folder: Path,
    inputs: ReportInputs | None = None,
    by: tuple[str, ...] = (),
    *,
    shared: bool = False,
) -> None:
    """Write a run's evaluation, for example to `runs/NAME/evaluation`, in place of a former one.

    The umask decides who may enter a new folder that is `shared`; else only its owner may.
    """
    with replaced_folder(folder, private=not shared) as new:
        write_predictions(frame, new / PREDICTIONS)
        write_scores_file(evaluation, new / SCORES)
        (new / MODEL_CARD).write_text(run_card(evaluation, frame), encoding="utf-8")
        if inputs is not None and inputs.retested is not None:
            write_predictions(inputs.retested, new / RETEST)
        write_page(run_page(frame, evaluation, inputs, by), new / REPORT, new / FIGURES)
        # Something may have been put there since.
        refuse_foreign_evaluation(folder)
