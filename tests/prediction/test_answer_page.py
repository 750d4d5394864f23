"""The page of a prediction says what result.json says, and nothing that it does not."""

import dataclasses
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ggn_tf.cases.measure_texts import MEASURE_TEXTS
from ggn_tf.cases.measurements import Measurements
from ggn_tf.prediction.patch_warnings import PredictionWarning
from tests.support.answers import WRITTEN, drawn_nodule, drawn_prediction, nodule_not_found, write_page_of


def text_of(page: Path) -> str:
    """What a reader sees, with one space between any two parts."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", body)))


def test_the_folder_has_the_page_and_the_result_names_it(tmp_path: Path) -> None:
    result = drawn_prediction(drawn_nodule()).write(tmp_path / "result")
    assert result["page"] == "answer.html"
    assert json.loads((tmp_path / "result" / "result.json").read_text(encoding="utf-8")) == result
    assert "Prediction for 1 nodule" in text_of(tmp_path / "result" / "answer.html")
    # An earlier result with a page may be replaced.
    drawn_prediction(drawn_nodule()).write(tmp_path / "result")


def test_the_page_has_the_numbers_of_the_result(tmp_path: Path) -> None:
    nodule = drawn_nodule(moves=2, given_center_mm_lps=(8.0, -20.0, 105.0))
    text = text_of(write_page_of(drawn_prediction(nodule), tmp_path))
    assert "Predicted class: MIA+IAC" in text
    assert "AAH+AIS 0.272" in text and "MIA+IAC 0.728" in text
    assert "10.0, -20.0, 105.0 mm (LPS)" in text and "8.0, -20.0, 105.0 mm (LPS)" in text
    assert "moved by recentring 2.0 mm" in text
    for field, value in nodule.measurements._asdict().items():
        assert MEASURE_TEXTS[field].printed(value) in text
    assert f"model ggn, version 7; written on {WRITTEN}" in text
    assert "0f1e2d3c" * 8 in text and "# The card" in text
    assert "task AAH+AIS,MIA+IAC" in text
    assert "This is not a medical device: no output may guide the care of a patient." in text


def test_every_measurement_has_a_text_and_the_docs_name_the_same_guidelines() -> None:
    assert sorted(MEASURE_TEXTS) == sorted(Measurements._fields)
    docs = (Path(__file__).parents[2] / "docs" / "predicting.md").read_text(encoding="utf-8")
    for field, text in MEASURE_TEXTS.items():
        (row,) = re.findall(rf"^\|.*`{field}`.*\|$", docs, flags=re.MULTILINE)
        assert all(guideline in row for guideline in re.split(r", | \(", text.used_by.replace(")", ""))), field


def test_printed_values() -> None:
    assert MEASURE_TEXTS["longest_diameter_mm"].printed(8.06) == "8.1 mm"
    assert MEASURE_TEXTS["solid_fraction"].printed(0.347) == "35 %"
    assert MEASURE_TEXTS["consolidation_to_tumor_ratio"].printed(0.5) == "0.50"


def test_further_outputs_are_shown_where_the_result_has_them(tmp_path: Path) -> None:
    prediction = drawn_prediction(drawn_nodule())
    plain = text_of(write_page_of(prediction, tmp_path))
    assert not any(word in plain for word in ("spread", "prediction set", "typicality"))
    further = {"spread": {"AAH+AIS": 0.04, "MIA+IAC": 0.05}, "prediction_set": ["MIA+IAC"], "typicality": 0.125}
    text = text_of(write_page_of(prediction, tmp_path, **further))
    assert "AAH+AIS 0.272 ± 0.040 -" in text and "MIA+IAC 0.728 ± 0.050 in the set" in text
    assert re.search("typicality share of [a-z -]* 0.125", text)


def test_a_nodule_that_was_not_found_says_why_and_has_no_measures(tmp_path: Path) -> None:
    text = text_of(write_page_of(drawn_prediction(nodule_not_found()), tmp_path))
    assert "The model finds no nodule here" in text and "Predicted class: no nodule found" in text
    assert "There are no measurements" in text and "Lung-RADS" not in text
    assert 'type="checkbox"' not in (tmp_path / "answer.html").read_text(encoding="utf-8")


def test_a_prediction_without_nodules_says_so(tmp_path: Path) -> None:
    text = text_of(write_page_of(drawn_prediction(), tmp_path))
    assert "The prediction contains no nodule" in text and "# The card" in text


def test_several_nodules_have_an_overview_with_links(tmp_path: Path) -> None:
    page = write_page_of(drawn_prediction(drawn_nodule("upper"), nodule_not_found("lower")), tmp_path)
    assert re.search("predicted class .* 2: lower no nodule found - - ", text_of(page))
    text = page.read_text(encoding="utf-8")
    for number in (1, 2):
        assert f'href="#nodule-{number}"' in text and f'id="nodule-{number}"' in text
    assert len(set(re.findall(' id="([^"]*)"', text))) == len(re.findall(' id="', text))


def test_only_the_first_of_very_many_nodules_have_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ggn_tf.prediction.answer_page._MOST_PICTURES", 1)
    page = write_page_of(drawn_prediction(drawn_nodule(), drawn_nodule()), tmp_path)
    assert page.read_text(encoding="utf-8").count('class="region"') == 1
    assert "No pictures here: the page has those of the first 1 nodules." in text_of(page)


def test_an_undefined_probability_is_not_a_number(tmp_path: Path) -> None:
    nodule = drawn_nodule(probabilities={"AAH+AIS": float("nan"), "MIA+IAC": float("nan")})
    assert "AAH+AIS undefined" in text_of(write_page_of(drawn_prediction(nodule, drawn_nodule()), tmp_path))


class Structure(HTMLParser):
    """The elements of a page with the names of their attributes."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, list[str]]] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, [name for name, _ in attrs]))


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", '"><script>alert(1)</script>', "a\u202eb\nc\x1b[31m"])
def test_text_of_unknown_origin_changes_nothing_but_texts(tmp_path: Path, text: str) -> None:
    pages = []
    for part in (text, "harmless"):
        warning = PredictionWarning("code", part)
        nodule = drawn_nodule(part, probabilities={part: 0.6, "other": 0.4}, warnings=(warning,))
        source = {"server": part, "model_name": part}
        prediction = drawn_prediction(nodule, nodule, source=source, warnings=(warning,))
        (tmp_path / str(len(pages))).mkdir()
        pages.append(write_page_of(dataclasses.replace(prediction, model_card=part), tmp_path / str(len(pages))))
    assert Structure(pages[0]).elements == Structure(pages[1]).elements
    assert not re.search("[\u202e\x1b]", pages[0].read_text(encoding="utf-8"))


def test_no_address_and_no_path_of_the_ct(tmp_path: Path) -> None:
    content = write_page_of(drawn_prediction(drawn_nodule()), tmp_path).read_text(encoding="utf-8")
    assert "MEIER" not in content and "hospital" not in content
    assert re.findall(r"""(?:https?:)?//[\w.]+""", re.sub('data-hu="[^"]*"|base64,[^"]*', "", content)) == []
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    assert f'http-equiv="Content-Security-Policy" content="{policy}"' in content


def test_a_page_of_twelve_nodules_is_small_enough(tmp_path: Path) -> None:
    page = write_page_of(drawn_prediction(*(drawn_nodule(f"F-{number}") for number in range(12))), tmp_path)
    assert page.stat().st_size < 12 * 3_000_000
