from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from ggn_tf.evaluation.report.gallery import Gallery, NoduleCard, Outline, Panel, Sheet, gray_sheet
from ggn_tf.evaluation.report.page import (
    Block,
    Cell,
    Drawing,
    Label,
    Link,
    Number,
    Page,
    Prose,
    PValue,
    Section,
    Table,
    cell_line,
    write_page,
)
from ggn_tf.evaluation.report.run_report import Tiles, run_page
from ggn_tf.evaluation.report_inputs import ReportInputs
from ggn_tf.evaluation.statistics.run_scores import Estimate
from tests.support.described_run import evaluated
from tests.support.slides import make_records, make_slides


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Number(0.8456, 0.7544, 0.9279), "0.846 [0.754, 0.928]"),
        (Number(0.8456, deviation=0.0123, low=0.7544, high=0.9279), "0.846 ± 0.012 [0.754, 0.928]"),
        (Number(0.0123, -0.05, 0.07, signed=True), "+0.012 [-0.050, +0.070]"),
        (Number(0.5867, deviation=0.0027, decimals=4), "0.5867 ± 0.0027"),
        (Number(None), "undefined"),
        (PValue(0.0214), "0.021"),
        (PValue(0.0004), "< 0.001"),
        (Link("case", "place"), "case"),
        (Label("AUC", "split 1"), "AUC split 1"),
        (12, "12"),
        (None, "-"),
    ],
)
def test_cell_is_printed(cell: Cell, text: str):
    assert cell_line(cell) == text


HOSTILE = """</p><script>alert("1")</script><img src='x' onerror='alert(1)'>&amp;"""
TABLE = Table([HOSTILE, Label(HOSTILE, HOSTILE)], [[Link(HOSTILE, HOSTILE), HOSTILE]], HOSTILE)


def _gallery() -> Gallery:
    slides = make_slides(["case"])[0]
    panel = Panel(HOSTILE, HOSTILE, [Sheet(HOSTILE, HOSTILE, gray_sheet(slides.gray))])
    card = NoduleCard(HOSTILE, HOSTILE, HOSTILE, [panel], 3, 16, TABLE)
    return Gallery([Outline(HOSTILE, HOSTILE, HOSTILE)], [card])


BLOCKS = {
    "prose": Prose(HOSTILE, warning=True),
    "table": TABLE,
    "figure": Drawing("figure", HOSTILE, Figure),
    "tiles": Tiles({HOSTILE: Estimate(0.5)}),
    "gallery": _gallery(),
}


class _Parsed(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def _assert_harmless(page: Page, folder: Path) -> None:
    write_page(page, folder / "report.html", folder / "figures")
    parsed = _Parsed(folder / "report.html")
    assert parsed.tags.count("script") == 1
    assert not {name for name in parsed.attributes if name.startswith("on")}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_every_field_of_a_block_is_escaped(block: Block, tmp_path: Path):
    section = Section(HOSTILE, HOSTILE, [block], inner=[Section(HOSTILE, HOSTILE, [block])])
    _assert_harmless(Page(HOSTILE, HOSTILE, [block], [section]), tmp_path)
    assert HOSTILE not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_labels_ids_and_names_of_a_run_are_escaped(drawn_frame, tmp_path: Path):
    frame = drawn_frame((HOSTILE, "MIA+IAC"), cases=40)
    frame = frame.assign(case=frame["case"] + HOSTILE)
    cases = list(frame["case"])
    slides = [replace(slides, reason=HOSTILE) for slides in make_slides(cases[:2])]
    inputs = ReportInputs(make_records(cases), reference=frame, slides=slides)
    evaluation = evaluated(frame, task=HOSTILE, dataset=HOSTILE, versions={HOSTILE: HOSTILE})
    page = run_page(frame, evaluation, inputs)
    _assert_harmless(replace(page, sections=[_without_figures(section) for section in page.sections]), tmp_path)


def _without_figures(section: Section) -> Section:
    return replace(section, blocks=[block for block in section.blocks if not isinstance(block, Drawing)])
