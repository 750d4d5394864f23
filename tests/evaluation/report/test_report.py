import base64
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from ggn_tf.evaluation.report.page import Drawing, Page, Prose, Section, Table
from ggn_tf.evaluation.report.run_report import run_page, write_evaluation
from ggn_tf.evaluation.report.run_tables import OPTIMISTIC
from ggn_tf.evaluation.report_inputs import ReportInputs
from ggn_tf.evaluation.statistics.calibration import fit_temperature
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.scores import class_indices
from tests.support.described_run import evaluated
from tests.support.slides import make_records

_evaluated = partial(evaluated, seed=5, replicates=50)


def _write(frame: pd.DataFrame, folder: Path, inputs: ReportInputs | None = None, **run: object) -> str:
    write_evaluation(frame, _evaluated(frame, **run), folder / "evaluation", inputs)
    return (folder / "evaluation" / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, cascade, inputs) -> Path:
    """A whole report of a cascade, written once."""
    folder = tmp_path_factory.mktemp("report")
    _write(cascade, folder, inputs)
    return folder / "evaluation"


@pytest.fixture(scope="module")
def text(folder) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


class _Page(HTMLParser):
    """Collects the addresses, images and table cells of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.images: list[dict[str, str]] = []
        self.cells: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        attributes = dict(attrs)
        self.addresses += [attributes[name] for name in ("src", "href", "action", "data") if name in attributes]
        if tag == "img":
            self.images.append(attributes)
        if tag not in ("meta", "img", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th", "small"):
            self.cells.append(data)


def _anchors(page: Page) -> list[str]:
    return [section.anchor for section in page.sections]


def _section(page: Page, anchor: str) -> Section:
    (section,) = [section for section in page.sections if section.anchor == anchor]
    return section


def _title(drawing: Drawing) -> str:
    figure = drawing.draw()
    return figure.get_suptitle() or figure.axes[0].get_title(loc="left")


def _drawings(page: Page) -> list[Drawing]:
    return [block for section in page.sections for block in section.blocks if isinstance(block, Drawing)]


def test_report_is_well_nested_and_needs_nothing_from_outside(text):
    page = _Page(text)
    assert page.open == [] and all(image["alt"] for image in page.images)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'" in text
    places = set(re.findall(r'id="([^"]+)"', text))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= places
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    for forbidden in ("http:", "https:", "url(", "@import", "fetch(", "XMLHttpRequest", "import("):
        assert forbidden not in text


def test_report_contains_every_figure_and_its_files_are_beside_it(folder, text):
    drawn = [image for image in _Page(text).images if image["src"].startswith("data:image/svg+xml;base64,")]
    svg = {base64.b64decode(image["src"].partition(",")[2]) for image in drawn}
    assert svg == {path.read_bytes() for path in (folder / "figures").glob("*.svg")}
    assert len(list((folder / "figures").glob("*.png"))) == len(drawn) == 11


CLASSIFIER = ["confusion", "roc", "calibration", "decision"]


def test_sections_are_those_that_the_predictions_have(cascade, inputs, drawn_frame):
    page = run_page(cascade, _evaluated(cascade), inputs)
    masks = ["segmentation", "error-budget", "subgroups", "failures", "gallery"]
    assert _anchors(page) == ["scores", *CLASSIFIER, *masks, "training"]
    for drawing in _drawings(page):
        assert "Test set, n = 40 nodules of" in drawing.caption
    raw = cascade[cascade["stage"] == "classify"].assign(dice=np.nan, model="raw")
    assert _anchors(run_page(raw, _evaluated(raw, model="raw"))) == ["scores", *CLASSIFIER, "failures", "training"]
    segmented = cascade[cascade["stage"] == "segment"]
    assert _anchors(run_page(segmented, _evaluated(segmented))) == ["scores", "segmentation", "training"]
    validation = cascade[cascade["set"] == "validation"]
    assert _anchors(run_page(validation, _evaluated(validation))) == ["scores", "training"]
    three = drawn_frame(("AAH+AIS", "MIA", "IAC"))
    anchors = _anchors(run_page(three, _evaluated(three)))
    assert "calibration" in anchors and not {"roc", "decision"} & set(anchors)


def test_temperature_is_fitted_on_the_validation_set(cascade):
    explained = _section(run_page(cascade, _evaluated(cascade)), "calibration").blocks[-1].text
    for stage in ("classify", "joint"):
        rows = cascade[(cascade["stage"] == stage) & (cascade["set"] == "validation")]
        assert f"{stage} {fit_temperature(probabilities(rows), class_indices(rows)[0]):.2f}" in explained


def test_run_without_validation_cases_has_no_scaled_calibration(cascade):
    test = cascade[cascade["set"] == "test"]
    names = [drawing.name for drawing in _drawings(run_page(test, _evaluated(test)))]
    assert "reliability" in names
    assert "reliability-scaled" not in names


def test_groups_of_nodules_have_their_number_beside_them(cascade, inputs):
    section = _section(run_page(cascade, _evaluated(cascade), inputs), "subgroups")
    table = next(block for block in section.blocks if isinstance(block, Table))
    assert [row[:2] for row in table.rows] == [["6 to < 8 mm", 20], ["10 to < 15 mm", 20]]


def test_report_contains_facts_and_scores_with_their_interval(text, cascade):
    replicates = "50 bootstrap replicates of the patients, seed 5"
    assert all(fact in text for fact in ("0f1e2d", "tensorflow 2.21.0", replicates, "not a medical device"))
    auc = _evaluated(cascade).scores.test["joint"].auc
    assert {f"{auc.value:.3f} ", f"[{auc.low:.3f}, {auc.high:.3f}]"} <= set(_Page(text).cells)


def test_selection_on_the_test_set_is_on_top_and_at_every_figure(cascade, inputs):
    page = run_page(cascade, _evaluated(cascade, select_on="test"), inputs)
    assert page.blocks[0] == Prose(OPTIMISTIC, warning=True)
    for drawing in _drawings(page):
        assert "optimistic" in drawing.caption
        assert "weights selected on this set" in _title(drawing)


def test_selection_on_the_validation_set_has_no_warning(text, cascade, inputs):
    assert 'class="warning"' not in text
    assert "optimistic" not in text
    for drawing in _drawings(run_page(cascade, _evaluated(cascade), inputs)):
        assert "selected" not in _title(drawing)


def test_report_is_the_same_whatever_the_users_matplotlib_settings(cascade, inputs, text, folder, tmp_path):
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9}):
        assert _write(cascade, tmp_path, inputs) == text
    for path in (folder / "figures").glob("*.svg"):
        assert not re.search(r"dc:date|\b20\d\d-\d\d-\d\d", path.read_text(encoding="utf-8"))


def test_gallery_shows_scores_before_and_after(cascade, inputs):
    card = _section(run_page(cascade, _evaluated(cascade), inputs), "gallery").blocks[-1].cards[0]
    rows = cascade[cascade["case"] == card.case_id].set_index("stage")
    probability = f"p_{rows['label'].iloc[0]}"
    for stage, dice, chance, _ in card.scores.rows:
        assert dice.value == rows.loc[stage, "dice"]
        assert chance is None if stage == "segment" else chance.value == rows.loc[stage, probability]


def test_nodules_of_another_site_have_a_section_of_their_own(cascade):
    other = cascade[cascade["set"] == "test"]
    other = other.assign(set="external", case="b" + other["case"], patient="b" + other["patient"])
    frame = pd.concat([cascade, other], ignore_index=True)
    evaluation = replace(_evaluated(frame), external_dataset="elsewhere")
    inputs = ReportInputs(external=make_records(list(other["case"].unique())))
    section = _section(run_page(frame, evaluation, inputs), "external")
    assert section.title == "External site: elsewhere"
    assert {f"external-{name}" for name in (*CLASSIFIER, "subgroups")} <= {part.anchor for part in section.inner}
    drawings = [block for part in section.inner for block in part.blocks if isinstance(block, Drawing)]
    for drawing in drawings:
        assert drawing.name.startswith("external-")
        assert "External set, n = 40 nodules of" in drawing.caption
