"""The report of one run."""

from dataclasses import replace

import pandas as pd

from ggn_tf.evaluation.report.blocks import Page, Prose, Section
from ggn_tf.evaluation.report.cells import Table
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.report.run_tables import (
    data_facts,
    selection,
    sets_table,
    training_facts,
    training_table,
)
from ggn_tf.evaluation.report.scores import scores_section, tiles
from ggn_tf.evaluation.report.sections import analysis_sections
from ggn_tf.evaluation.report_inputs import ReportInputs
from ggn_tf.evaluation.statistics.predictions_table import EXTERNAL
from ggn_tf.evaluation.statistics.run_scores import Evaluation, TrainedRun


def run_page(frame: pd.DataFrame, evaluation: Evaluation, inputs: ReportInputs | None = None) -> Page:
    """Compose the report of a run.

    Args:
        frame: Its predictions, checked.
        evaluation: Its scores, and what was trained.
        inputs: What the models and the dataset add; None for what the predictions alone contain.
    """
    run, scores, inputs = evaluation.run, evaluation.scores, inputs or ReportInputs()
    data = ReportData(frame, run.select_on, replicates=scores.replicates, seed=scores.seed, nodules=inputs.nodules)
    sections = [scores_section(evaluation)]
    if not data.rows.empty:
        sections += analysis_sections(data, inputs)
    external = replace(data, set_name=EXTERNAL, nodules=inputs.external, prefix="external-")
    if not external.rows.empty:
        inner = analysis_sections(external, ReportInputs(inputs.external))
        sections.append(Section("external", f"External site: {evaluation.external_dataset}", inner=inner))
    warning = [Prose(selection(run), warning=True)] if run.select_on == "test" else []
    return Page(
        title=f"{run.model}, task {run.task}",
        subtitle=f"Split {run.split}, seed {run.seed}, dataset {run.dataset}",
        blocks=[*warning, *tiles(evaluation)],
        sections=[*sections, _training(run, frame)],
    )


def _training(run: TrainedRun, frame: pd.DataFrame) -> Section:
    facts = Table([], [*training_facts(run), *data_facts(run)])
    return Section("training", "What was trained", [facts, sets_table(frame), training_table(run)])
