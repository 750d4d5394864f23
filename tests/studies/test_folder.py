"""What a finished study leaves for a reader."""

import json
from pathlib import Path

import pytest

from ggn_tf.studies.design import items_of
from ggn_tf.studies.item import WorkFolder
from ggn_tf.studies.study_report import collect_examples, write_study
from ggn_tf.studies.tables import TaskResults, collect_results, tables_of
from tests.support.tiny_study import tiny_design

DESIGN = tiny_design(joint_weights=(0.5, 1.0))
TASK = "AAH+AIS,MIA+IAC"


@pytest.fixture(scope="module")
def results(finished: WorkFolder) -> list[TaskResults]:
    return collect_results(DESIGN, items_of(DESIGN, finished.dataset), finished)


@pytest.fixture(scope="module")
def written(finished: WorkFolder, results: list[TaskResults]) -> Path:
    examples = collect_examples(DESIGN, results, finished, gallery=3)
    tables = tables_of(DESIGN, results)
    return write_study(DESIGN, finished.dataset, results, tables, finished.folder, examples)


def test_results_are_there_as_a_whole(written: Path):
    assert {"report.html", "model_card.md", "study.json", "tables.md", "table-2.csv", "figures"} <= {
        path.name for path in written.iterdir()
    }
    assert sorted(path.name for path in (written / "AAH+AIS_MIA+IAC").iterdir()) == [
        "comparisons.csv",
        "predictions.csv",
        "scores.csv",
    ]


def test_report_shows_the_systems_and_one_runs_nodules(written: Path):
    text = (written / "report.html").read_text(encoding="utf-8")
    for part in (
        "(a) raw CT",
        "(d) cascade, joint",
        "(e) multi-task",
        f"Task {TASK}",
        "Of one run: model cascade",
    ):
        assert part in text
    assert text.count('<article class="case"') == 3


def test_study_is_described_without_a_home_directory(written: Path):
    description = json.loads((written / "study.json").read_text(encoding="utf-8"))
    assert description["dataset"] == "dataset"
    assert str(written.parent.parent) not in (written / "report.html").read_text(encoding="utf-8")


def test_study_without_cascade_has_no_example(finished: WorkFolder, results: list[TaskResults]):
    frame = results[0].predictions
    raw = TaskResults(results[0].task, frame[frame["model"] == "raw"], (), ())
    assert collect_examples(DESIGN, [raw], finished, gallery=3) == {}
