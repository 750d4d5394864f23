import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from ggn_tf.evaluation.report.page import Drawing, Label, Number, Page, Prose, Section, write_page
from ggn_tf.evaluation.report_inputs import ReportInputs
from ggn_tf.studies.study_report import Example, StudyData, StudyDescription, study_page
from ggn_tf.studies.tables import ScoreTable
from tests.support.slides import make_records, make_slides
from tests.support.tiny_study import tiny_design

TASK, THREE = "AAH+AIS,MIA+IAC", "AAH+AIS,MIA,IAC"
SYSTEMS = (("raw", "classify"), ("cascade", "classify"), ("cascade", "joint"), ("cascade-lambda0.5", "joint"))
DESIGN = dataclasses.replace(tiny_design(models=("raw", "cascade"), splits=(1, 2), repeats=2), seed=0)
DESCRIPTION = StudyDescription(DESIGN, "ggn740", "0f1e2d", {"ggn-tf": "1.0.0"})
NUMBER = Number(0.8, 0.7, 0.9, deviation=0.1)
TABLE = ScoreTable(
    ("score", "split", "task", "(a) raw CT"),
    [("AUC", "1", TASK, NUMBER)],
    "Mean.",
    name="table-2",
    title="All systems",
    keys=3,
)


@pytest.fixture(scope="module")
def predictions(drawn_study) -> pd.DataFrame:
    test = drawn_study(SYSTEMS, repeats=2, splits=(1, 2))
    validation = drawn_study(SYSTEMS, repeats=2, splits=(1, 2), cases=30, seed=1)
    validation = validation.assign(set="validation", case="v" + validation["case"], patient="v" + validation["patient"])
    return pd.concat([test, validation], ignore_index=True)


@pytest.fixture(scope="module")
def study(predictions) -> StudyData:
    inputs = ReportInputs(make_records(list(predictions["case"].unique())))
    return StudyData(DESCRIPTION, [TABLE], {TASK: predictions}, inputs, replicates=20)


@pytest.fixture(scope="module")
def page(study) -> Page:
    return study_page(study)


def _all(sections: Sequence[Section]) -> list[Section]:
    return [section for outer in sections for section in (outer, *_all(outer.inner))]


def _drawings(page: Page) -> list[Drawing]:
    return [block for section in _all(page.sections) for block in section.blocks if isinstance(block, Drawing)]


def test_tables_come_first_then_the_tasks_with_their_splits(page):
    assert [section.title for section in page.sections] == ["Tables", f"Task {TASK}", "What was compared"]
    assert [section.title for section in page.sections[1].inner] == ["Split 1", "Split 2"]


def test_columns_that_identify_a_row_become_one(page):
    (table,) = page.sections[0].inner[0].blocks
    assert table.heading == [Label("score", "split; task"), "(a) raw CT"]
    assert table.rows == [[Label("AUC", f"1; {TASK}"), NUMBER]]


def test_figures_show_the_papers_systems_alone(page):
    captions = [drawing.caption for drawing in _drawings(page) if "confusion" in drawing.name]
    assert [caption.partition(".")[0] for caption in captions] == [
        "Confusion matrix, (a) raw CT",
        "Confusion matrix, (c) cascade, U-Net frozen",
        "Confusion matrix, (d) cascade, joint",
    ] * 2


def test_anchors_and_names_of_figures_are_unique(page):
    for names in ([section.anchor for section in _all(page.sections)], [drawing.name for drawing in _drawings(page)]):
        assert len(set(names)) == len(names)


def test_captions_contain_the_repeats(page):
    for drawing in _drawings(page):
        assert "n = 60 nodules of" in drawing.caption
        assert "2 repeats" in drawing.caption


def test_joint_cascade_is_the_main_system(page):
    for section in _all(page.sections):
        if section.title == "Failures":
            assert section.blocks[0].text.startswith("(d) cascade, joint: ")


def test_example_run_has_its_error_budget_and_gallery(study, predictions):
    rows = predictions[(predictions["model"] == "cascade") & (predictions["repeat"] == 1) & (predictions["split"] == 2)]
    joint = rows[(rows["set"] == "test") & (rows["stage"] == "joint")]
    inputs = ReportInputs(reference=joint.assign(dice=1.0), slides=make_slides(list(joint["case"][:2])))
    page = study_page(dataclasses.replace(study, examples={(TASK, 2): Example(rows, inputs)}))
    first, second = ([part.title for part in split.inner] for split in page.sections[1].inner)
    assert "Gallery" not in first
    assert second[-2:] == ["Error budget", "Gallery"]
    assert page.sections[1].inner[1].inner[-1].blocks[0] == Prose("Of one run: model cascade, repeat 1.")


def test_selection_on_the_test_set_is_said_on_top_and_at_every_figure(study):
    description = dataclasses.replace(DESCRIPTION, design=dataclasses.replace(DESIGN, select_on="test"))
    page = study_page(dataclasses.replace(study, description=description))
    assert page.blocks[0].warning
    assert all("optimistic" in drawing.caption for drawing in _drawings(page))


def test_system_without_validation_answers_leaves_the_scaling_out(study, predictions):
    lacking = predictions[(predictions["model"] != "raw") | (predictions["set"] == "test")]
    page = study_page(dataclasses.replace(study, predictions={TASK: lacking}))
    assert not [drawing for drawing in _drawings(page) if "reliability-scaled" in drawing.name]


def test_page_of_a_study_is_one_file_with_places_of_its_own(study, tmp_path):
    frame = study.predictions[TASK]
    one_split = dataclasses.replace(study, predictions={TASK: frame[frame["split"] == 1]})
    write_page(study_page(one_split), tmp_path / "report.html", tmp_path / "figures")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    places = re.findall(r' id="([^"]+)"', text)
    assert len(set(places)) == len(places)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(places)
    assert text.count("data:image/svg+xml;base64,") == len(list((tmp_path / "figures").glob("*.png")))


def test_three_classes_have_neither_roc_nor_decision_curve(study, drawn_study):
    frame = drawn_study(SYSTEMS, repeats=1, classes=("AAH+AIS", "MIA", "IAC"))
    page = study_page(dataclasses.replace(study, predictions={THREE: frame}))
    titles = {section.title for section in _all(page.sections)}
    assert "Confusion matrices" in titles
    assert not {"ROC curves", "Decision curve"} & titles


def test_system_without_masks_has_no_row_in_the_dice_figure(page):
    drawing = next(drawing for drawing in _drawings(page) if drawing.name == "task1-split1-dice")
    labels = [label.get_text() for label in drawing.draw().axes[0].get_yticklabels()]
    assert len(labels) == 2
    assert not any("raw" in label for label in labels)
    assert np.all(["cascade" in label for label in labels])
