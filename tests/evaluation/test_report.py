import base64
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from ggn_tf.evaluation.report import summarise, write_report
from ggn_tf.evaluation.scores import score_predictions

TWO = ("AAH+AIS", "MIA+IAC")
RUN = {
    "task": "AAH+AIS,MIA+IAC",
    "model": "cascade",
    "split": 1,
    "seed": 3,
    "precision": "float32",
    "select_on": "validation",
    "dataset": "ggn740",
    "dataset_fingerprint": "0f1e2d",
    "versions": {"ggn-tf": "1.0.0", "tensorflow": "2.21.0"},
    "stages": [
        {"stage": "segment", "epochs": 150, "best_epoch": 144, "ended": "150 epochs"},
        {"stage": "joint", "epochs": 71, "best_epoch": 21, "ended": "50 epochs without a better score"},
    ],
}


@pytest.fixture
def document(drawn_frame) -> dict:
    parts = []
    for set_name, cases in (("validation", 30), ("test", 40)):
        joint = drawn_frame(cases=cases, set_name=set_name)
        parts += [joint.assign(**{"stage": "segment", "p_AAH+AIS": np.nan, "p_MIA+IAC": np.nan}), joint]
    return {**score_predictions(pd.concat(parts), TWO, seed=5, replicates=200), "run": RUN}


def _entry(value: float, low: float, high: float) -> dict:
    return {"value": value, "low": low, "high": high}


@pytest.fixture
def small_document() -> dict:
    """Numbers that can be read off in the table."""
    return {
        "test": {
            "segment": {"dice": _entry(0.81, 0.8, 0.82)},
            "joint": {
                "accuracy": _entry(0.7822, 0.7, 0.85),
                "average_f1": _entry(0.7753, 0.69, 0.84),
                "mcc": {**_entry(-0.0123, -0.2, 0.2), "left_out": 3},
                "auc": {"value": None, "low": None, "high": None, "reason": "all nodules are MIA+IAC"},
                "dice": _entry(0.8, 0.79, 0.81),
            },
        },
        "counts": {"test": {"nodules": 225, "patients": 201, "classes": {"AAH+AIS": 69, "MIA+IAC": 156}}},
        "bootstrap": {"unit": "patient", "replicates": 2000, "seed": 0, "level": 0.95},
        "run": RUN,
    }


def test_summary_in_full(small_document):
    assert summarise(small_document) == (
        "cascade, task AAH+AIS,MIA+IAC, split 1, seed 3\n"
        "Weights selected on the validation set; no test case took part.\n"
        "\n"
        "test: 225 nodules of 201 patients (AAH+AIS 69, MIA+IAC 156)\n"
        "  stage    accuracy              average F1            MCC                     AUC        Dice\n"
        "  segment  -                     -                     -                       -          "
        "0.810 [0.800, 0.820]\n"
        "  joint    0.782 [0.700, 0.850]  0.775 [0.690, 0.840]  -0.012 [-0.200, 0.200]  undefined  "
        "0.800 [0.790, 0.810]\n"
        "\n"
        "In brackets the 95% interval over 2000 bootstrap replicates of the patients, seed 0.\n"
        "AUC of stage joint on the test set: all nodules are MIA+IAC.\n"
        "On the test set 3 replicates drew one class only and are left out of MCC."
    )


def test_summary_has_the_test_set_first(document):
    text = summarise(document)
    assert text.index("\ntest: 40 nodules") < text.index("\nvalidation: 30 nodules")


def test_validation_scores_are_marked_as_those_that_selected_the_weights(document):
    marked = [line for line in summarise(document).splitlines() if line.endswith("weights selected on it")]
    assert [line.split(":")[0] for line in marked] == ["validation"]


def test_selection_on_the_test_set_is_said_loudly(document):
    document["run"] = {**RUN, "select_on": "test"}
    text = summarise(document)
    assert "WEIGHTS SELECTED ON THE TEST SET, as in the paper: the test scores are optimistic." in text
    assert re.search(r"^test: 40 nodules .*, weights selected on it$", text, re.MULTILINE)
    assert "no test case took part" not in text


def test_single_stage_is_a_row_by_its_name(drawn_frame):
    run = {**RUN, "stages": RUN["stages"][:1]}
    frame = drawn_frame(stage="segment").assign(**{"p_AAH+AIS": np.nan, "p_MIA+IAC": np.nan})
    text = summarise({**score_predictions(frame, TWO, replicates=10), "run": run})
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  ")] == ["stage", "segment"]


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
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


@pytest.fixture
def write(tmp_path):
    def page(document: dict) -> str:
        svg = tmp_path / "confusion-joint.svg"
        svg.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>", encoding="utf-8")
        write_report(document, {"Confusion matrix, stage joint": svg}, tmp_path / "report.html")
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return page


def test_report_is_well_nested(write, document):
    assert _Page(write(document)).open == []


def test_report_needs_nothing_from_outside(write, document):
    text = write(document)
    assert all(address.startswith("data:") for address in _Page(text).addresses)
    assert "http" not in text
    assert "url(" not in text
    assert "<script" not in text


def test_report_holds_the_figure_itself_with_a_text_for_those_who_cannot_see_it(write, document):
    (image,) = _Page(write(document)).images
    assert image["alt"] == "Confusion matrix, stage joint"
    assert base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,")).startswith(b"<svg")


def test_report_holds_the_summarys_numbers(write, small_document):
    cells = _Page(write(small_document)).cells
    row = cells.index("joint")
    assert cells[row : row + 6] == [
        "joint",
        "0.782 [0.700, 0.850]",
        "0.775 [0.690, 0.840]",
        "-0.012 [-0.200, 0.200]",
        "undefined",
        "0.800 [0.790, 0.810]",
    ]


@pytest.mark.parametrize(
    "said",
    [
        "AAH+AIS,MIA+IAC",
        "ggn740",
        "0f1e2d",
        "float32",
        "tensorflow 2.21.0",
        "50 epochs without a better score",
        "225 nodules of 201 patients",
        "all nodules are MIA+IAC",
        "2000 bootstrap replicates of the patients, seed 0",
        "not a medical device",
    ],
)
def test_report_says(write, small_document, said):
    assert said in write(small_document)


def test_report_warns_of_selection_on_the_test_set(write, document):
    document["run"] = {**RUN, "select_on": "test"}
    assert '<p class="warning">WEIGHTS SELECTED ON THE TEST SET' in write(document)


def test_report_of_an_honest_run_has_no_warning(write, document):
    assert 'class="warning"' not in write(document)


def test_report_escapes_what_users_name(write, document):
    document["run"] = {**RUN, "dataset": "<script>alert(1)</script>"}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in write(document)


def test_report_takes_a_dollar_sign_as_it_is(write, document):
    document["run"] = {**RUN, "dataset": "$title"}
    assert "<td>$title</td>" in write(document)


def test_report_is_the_same_at_every_run(write, document):
    assert write(document) == write(document)
