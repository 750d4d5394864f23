"""Systems of one stage: what the report shows beyond their predictions."""

import dataclasses

import pandas as pd
import pytest

from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.evaluation.report.run_report import write_evaluation
from ggn_tf.evaluation.report_inputs import ReportInputs, collect_report_inputs
from ggn_tf.evaluation.run_predictions import describe_run, predict_run
from ggn_tf.evaluation.statistics.run_scores import Evaluation
from ggn_tf.evaluation.statistics.scores import score_predictions
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.training.initial_model import initial_model
from tests.support.synthetic import write_synthetic_dataset
from tests.support.tiny_fit import tiny_description

MASKS = {"reference": [], "multitask": ["classify"]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_synthetic_dataset(tmp_path_factory.mktemp("extras") / "dataset", 30, size=16)


@pytest.fixture(scope="module", params=MASKS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> RunFolder:
    description = dataclasses.replace(tiny_description(dataset), model=request.param)
    run = RunFolder.create(tmp_path_factory.mktemp(request.param) / "run", description, dataset.folder, {}, "")
    run.finish_stage(
        initial_model(description), {"stage": "classify", "epochs": 1, "best_epoch": 1, "ended": "all 1 epochs done"}
    )
    return run


@pytest.fixture(scope="module")
def frame(run: RunFolder, dataset: Dataset) -> pd.DataFrame:
    return predict_run(run, dataset, read_split(dataset, 1))


@pytest.fixture(scope="module")
def inputs(run: RunFolder, dataset: Dataset, frame: pd.DataFrame) -> ReportInputs:
    return collect_report_inputs(run, dataset, frame, gallery=2)


def test_evidence_is_shown_masks_where_the_system_makes_some_and_no_error_budget(run: RunFolder, inputs: ReportInputs):
    assert [list(each.masks) for each in inputs.slides] == [MASKS[run.description.model]] * 2
    assert all(each.heat is not None and each.heat.shape == each.gray.shape for each in inputs.slides)
    assert inputs.reference is None


def test_report_is_written(run: RunFolder, dataset: Dataset, frame: pd.DataFrame, inputs: ReportInputs):
    scores = score_predictions(frame, run.description.task.class_names, replicates=20)
    write_evaluation(frame, Evaluation(scores, describe_run(run, dataset)), run.folder / "evaluation", inputs)
    text = (run.folder / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert text.count('<article class="case"') == 2
    assert "Error budget" not in text
    assert ("Dice of every nodule" in text) == bool(MASKS[run.description.model])
