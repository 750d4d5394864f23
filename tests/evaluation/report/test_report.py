import base64
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from ggn_tf.evaluation.report.blocks import Drawing, Page, Prose, Table
from ggn_tf.evaluation.report.evaluation_folder import write_evaluation
from ggn_tf.evaluation.report.run import run_page
from ggn_tf.evaluation.report_inputs import ReportInputs
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.scores import class_indices
from ggn_tf.evaluation.statistics.temperature import fit_temperature
from tests.support.described_run import evaluated
from tests.support.slides import make_records, make_slides

TWO = ("AAH+AIS", "MIA+IAC")

_evaluated = partial(evaluated, seed=5, replicates=50)


def _cascade(drawn_frame) -> pd.DataFrame:
    parts = []
    for set_name, cases in (("validation", 30), ("test", 40)):
        frozen = drawn_frame(cases=cases, set_name=set_name, seed=1).assign(stage="classify")
        joint = drawn_frame(cases=cases, set_name=set_name, seed=2)
        joint = joint.assign(label=frozen["label"], patient=frozen["patient"])
        parts += [frozen.assign(**{"stage": "segment", "p_AAH+AIS": np.nan, "p_MIA+IAC": np.nan}), frozen, joint]
    return pd.concat(parts, ignore_index=True)


def _write(frame: pd.DataFrame, folder: Path, inputs: ReportInputs | None = None, **run: object) -> str:
    write_evaluation(frame, _evaluated(frame, **run), folder / "evaluation", inputs)
    return (folder / "evaluation" / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def cascade(drawn_frame) -> pd.DataFrame:
    return _cascade(drawn_frame)


@pytest.fixture(scope="module")
def inputs(cascade) -> ReportInputs:
    test = cascade[(cascade["set"] == "test") & (cascade["stage"] == "joint")]
    nodules = make_records(list(cascade["case"].unique()))
    return ReportInputs(nodules, reference=test.assign(dice=1.0), slides=make_slides(list(test["case"][:3])))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, cascade, inputs) -> Path:
    """A whole report of a cascade, written once."""
    folder = tmp_path_factory.mktemp("report")
    _write(cascade, folder, inputs)
    return folder / "evaluation"


@pytest.fixture(scope="module")
def text(folder) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def segmented(cascade) -> pd.DataFrame:
    """The shortest report: one stage without probabilities."""
    return cascade[cascade["stage"] == "segment"]


class _Page(HTMLParser):
    """Gathers what a test asks of a page, and every address in it."""

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


def _titles(page: Page) -> list[str]:
    return [section.title for section in page.sections]


def _title(drawing: Drawing) -> str:
    figure = drawing.draw()
    return figure.get_suptitle() or figure.axes[0].get_title(loc="left")


def _drawings(page: Page) -> list[Drawing]:
    return [block for section in page.sections for block in section.blocks if isinstance(block, Drawing)]


def test_report_is_well_nested(text):
    assert _Page(text).open == []


def test_report_needs_nothing_from_outside(text):
    assert all(address.startswith(("data:", "#")) for address in _Page(text).addresses)
    for forbidden in ("http:", "https:", "url(", "@import", "fetch(", "XMLHttpRequest", "import("):
        assert forbidden not in text


def test_browser_is_told_to_load_nothing_from_outside(text):
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'" in text


def test_link_leads_to_a_place_of_the_page(text):
    places = set(re.findall(r'id="([^"]+)"', text))
    assert {address[1:] for address in _Page(text).addresses if address.startswith("#")} <= places


def test_report_holds_every_figure_and_a_file_of_each_lies_beside_it(folder, text):
    drawn = [image for image in _Page(text).images if image["src"].startswith("data:image/svg+xml;base64,")]
    svg = {base64.b64decode(image["src"].partition(",")[2]) for image in drawn}
    assert svg == {path.read_bytes() for path in (folder / "figures").glob("*.svg")}
    assert len(list((folder / "figures").glob("*.png"))) == len(drawn) == 11


def test_every_image_has_a_text_for_those_who_cannot_see_it(text):
    assert all(image["alt"] for image in _Page(text).images)


def test_every_figure_says_of_which_set_and_how_many_it_is(cascade, inputs):
    for drawing in _drawings(run_page(cascade, _evaluated(cascade), inputs)):
        assert "Test set, n = 40 nodules of" in drawing.caption


def test_sections_of_a_cascade(cascade, inputs):
    assert _titles(run_page(cascade, _evaluated(cascade), inputs)) == [
        "Scores",
        "Confusion matrices",
        "ROC curves",
        "Calibration",
        "Decision curve",
        "Segmentation and joint training",
        "Error budget",
        "Size, texture and slice spacing",
        "Failures",
        "Gallery",
        "What was trained",
    ]


def test_model_without_masks_has_no_section_on_them(cascade):
    raw = cascade[cascade["stage"] == "classify"].assign(dice=np.nan, model="raw")
    assert _titles(run_page(raw, _evaluated(raw, model="raw"))) == [
        "Scores",
        "Confusion matrices",
        "ROC curves",
        "Calibration",
        "Decision curve",
        "Failures",
        "What was trained",
    ]


def test_stage_without_probabilities_has_masks_alone(segmented):
    titles = _titles(run_page(segmented, _evaluated(segmented)))
    assert titles == ["Scores", "Segmentation and joint training", "What was trained"]


def test_three_classes_have_no_roc_and_no_decision_curve(drawn_frame):
    frame = drawn_frame(("AAH+AIS", "MIA", "IAC"))
    titles = _titles(run_page(frame, _evaluated(frame)))
    assert "Calibration" in titles
    assert not {"ROC curves", "Decision curve"} & set(titles)


def test_temperature_is_fitted_on_the_validation_set(cascade):
    page = run_page(cascade, _evaluated(cascade))
    (section,) = [section for section in page.sections if section.anchor == "calibration"]
    told = section.blocks[-1].text
    for stage in ("classify", "joint"):
        rows = cascade[(cascade["stage"] == stage) & (cascade["set"] == "validation")]
        assert f"{stage} {fit_temperature(probabilities(rows), class_indices(rows)[0]):.2f}" in told


def test_run_without_validation_cases_has_no_scaled_calibration(cascade):
    test = cascade[cascade["set"] == "test"]
    names = [drawing.name for drawing in _drawings(run_page(test, _evaluated(test)))]
    assert "reliability" in names
    assert "reliability-scaled" not in names


def test_groups_of_nodules_have_their_number_beside_them(cascade, inputs):
    page = run_page(cascade, _evaluated(cascade), inputs)
    (section,) = [section for section in page.sections if section.anchor == "subgroups"]
    (table,) = [
        block for block in section.blocks if isinstance(block, Table) and block.caption == "By longest diameter"
    ]
    assert [row[:2] for row in table.rows] == [["6 to < 8 mm", "20"], ["10 to < 15 mm", "20"]]


def test_run_without_test_cases_has_scores_alone(cascade):
    validation = cascade[cascade["set"] == "validation"]
    assert _titles(run_page(validation, _evaluated(validation))) == ["Scores", "What was trained"]


def test_scores_have_their_interval_beside_them(text, cascade):
    entry = _evaluated(cascade).scores.test["joint"].auc
    cells = _Page(text).cells
    assert f"{entry.value:.3f} " in cells
    assert f"[{entry.low:.3f}, {entry.high:.3f}]" in cells


@pytest.mark.parametrize(
    "said",
    [
        "AAH+AIS,MIA+IAC",
        "ggn740",
        "0f1e2d",
        "float32",
        "tensorflow 2.21.0",
        "50 epochs without a better score",
        "50 bootstrap replicates of the patients, seed 5",
        "not a medical device",
    ],
)
def test_report_says(text, said):
    assert said in text


def test_selection_on_the_test_set_is_said_on_top_and_at_every_figure(cascade, inputs):
    page = run_page(cascade, _evaluated(cascade, select_on="test"), inputs)
    assert page.blocks[0] == Prose(
        "WEIGHTS SELECTED ON THE TEST SET, as in the paper: the test scores are optimistic.", warning=True
    )
    drawings = _drawings(page)
    assert len(drawings) == 11
    for drawing in drawings:
        assert drawing.caption.endswith("The weights were selected on this set: what is shown is optimistic.")
        assert "weights selected on this set" in _title(drawing)


def test_warning_is_loud(segmented, tmp_path):
    text = _write(segmented, tmp_path, select_on="test")
    assert '<p class="warning">WEIGHTS SELECTED ON THE TEST SET' in text


def test_report_of_an_honest_run_has_no_warning(text, cascade, inputs):
    assert 'class="warning"' not in text
    assert "optimistic" not in text
    for drawing in _drawings(run_page(cascade, _evaluated(cascade), inputs)):
        assert "selected" not in _title(drawing)


def test_report_escapes_what_users_name(segmented, tmp_path):
    assert "&lt;b&gt;x&lt;/b&gt;" in _write(segmented, tmp_path, dataset="<b>x</b>")


def test_report_takes_a_dollar_sign_as_it_is(segmented, tmp_path):
    assert "<td>$title</td>" in _write(segmented, tmp_path, dataset="$title")


def test_report_is_the_same_at_every_run(cascade, inputs, text, tmp_path):
    assert _write(cascade, tmp_path, inputs) == text


def test_figures_do_not_depend_on_the_users_matplotlib_settings(cascade, inputs, text, tmp_path):
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9}):
        assert _write(cascade, tmp_path, inputs) == text


def test_svg_holds_no_date(folder):
    for path in (folder / "figures").glob("*.svg"):
        assert not re.search(r"dc:date|\b20\d\d-\d\d-\d\d", path.read_text(encoding="utf-8"))


def test_png_is_not_blank_and_large_enough_to_read(folder):
    for path in (folder / "figures").glob("*.png"):
        pixels = imread(path)
        assert min(pixels.shape[:2]) >= 600
        assert pixels.std() > 0.02


def test_gallery_says_how_its_nodules_were_chosen(text):
    assert "3 of 40 nodules, chosen by rule" in text


def test_gallery_shows_scores_before_and_after(text, cascade):
    case = cascade[(cascade["set"] == "test") & (cascade["stage"] == "joint")]["case"].iloc[0]
    card = text[text.index(f'id="case-{case}"') :].partition("</article>")[0]
    own = cascade[cascade["case"] == case].set_index("stage")
    label = own["label"].iloc[0]
    for stage in ("classify", "joint"):
        assert f"{own.loc[stage, 'dice']:.3f}" in card
        assert f"{own.loc[stage, f'p_{label}']:.3f}" in card


def test_other_sites_nodules_have_a_part_of_their_own(cascade):
    other = cascade[cascade["set"] == "test"]
    other = other.assign(set="external", case="b" + other["case"], patient="b" + other["patient"])
    frame = pd.concat([cascade, other], ignore_index=True)
    evaluation = replace(_evaluated(frame), external_dataset="elsewhere")
    page = run_page(frame, evaluation, ReportInputs(external=make_records(list(other["case"].unique()))))
    (section,) = [section for section in page.sections if section.anchor == "external"]
    assert section.title == "External site: elsewhere"
    titles = [part.title for part in section.inner]
    assert {"Confusion matrices", "ROC curves", "Calibration", "Size, texture and slice spacing"} <= set(titles)
    drawings = [block for part in section.inner for block in part.blocks if isinstance(block, Drawing)]
    for drawing in drawings:
        assert drawing.name.startswith("external-")
        assert "External set, n = 40 nodules of" in drawing.caption
