"""The reports of a run and of a study in a real browser: headless Chromium, as wide as a desktop and as a telephone."""

import dataclasses
from itertools import product
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from ggn_tf.evaluation.report.page import write_page
from ggn_tf.evaluation.report.run_report import write_evaluation
from ggn_tf.evaluation.report_inputs import ReportInputs
from ggn_tf.evaluation.statistics.comparison import compare_systems
from ggn_tf.evaluation.statistics.paper_systems import PAPER_SYSTEMS
from ggn_tf.evaluation.statistics.repeats import score_repeats
from ggn_tf.studies.analysis import PLANNED_PAIRS, TaskResults
from ggn_tf.studies.study_report import Example, StudyData, StudyDescription, study_page
from ggn_tf.studies.tables import tables_of
from ggn_tf.tasks import INDOLENT_INVASIVE
from tests.support.browser import WIDTHS, assert_complete_and_alone, opened, parts_beyond_the_screen
from tests.support.described_run import evaluated
from tests.support.slides import SIZE
from tests.support.tiny_study import tiny_design


@pytest.fixture(scope="module")
def run_report(tmp_path_factory: pytest.TempPathFactory, cascade, inputs) -> Path:
    folder = tmp_path_factory.mktemp("browser") / "evaluation"
    write_evaluation(cascade, evaluated(cascade, select_on="test"), folder, inputs)
    return folder / "report.html"


@pytest.fixture(scope="module")
def study_report(tmp_path_factory: pytest.TempPathFactory, drawn_study, cascade, inputs: ReportInputs) -> Path:
    """The paper's systems and the diameter, twice each, with their tables; one run in a gallery."""
    systems = [*(system.system for system in PAPER_SYSTEMS), ("diameter", "classify")]
    frame = drawn_study(systems, repeats=2, cases=40, gain=0.1)
    compared = compare_systems(frame, PLANNED_PAIRS, replicates=20)
    results = TaskResults(INDOLENT_INVASIVE, frame, tuple(score_repeats(frame, replicates=20)), tuple(compared))
    design = dataclasses.replace(tiny_design(repeats=2), select_on="test")
    task = str(INDOLENT_INVASIVE)
    study = StudyData(
        StudyDescription(design, "dataset", 8 * "0f1e2d3c", {"tensorflow": "2.21.0"}),
        tables_of(design, [results]),
        {task: frame},
        ReportInputs(inputs.nodules),
        {(task, 1): Example(cascade, inputs)},
        replicates=20,
    )
    folder = tmp_path_factory.mktemp("browser_study")
    write_page(study_page(study), folder / "report.html", folder / "figures")
    return folder / "report.html"


@pytest.fixture(scope="module", params=list(product(("run", "study"), WIDTHS)), ids="-".join)
def page(request: pytest.FixtureRequest, browser):
    """An opened report; the messages of its console are in `page.console`."""
    kind, screen = request.param
    report: Path = request.getfixturevalue(f"{kind}_report")
    return opened(browser, report, screen)


def test_page_loads_completely_and_nothing_from_elsewhere(page):
    assert_complete_and_alone(page)


def test_page_fits_the_screen(page):
    assert parts_beyond_the_screen(page) == []


def test_tables_leave_room_for_values_and_a_card_needs_no_scrolling(page):
    shares, hidden = page.execute_script("""
        const names = [...document.querySelectorAll(".scroll th[scope=row]")];
        const frames = [...document.querySelectorAll(".case .scroll")];
        return [
            names.map(cell => cell.getBoundingClientRect().width / cell.closest(".scroll").clientWidth),
            frames.map(frame => frame.scrollWidth - frame.clientWidth),
        ];
    """)
    assert max(shares) < 0.55
    assert hidden == [0] * 3


def _move(page, card: int, slice_: int) -> dict:
    """Move a slider as a user does, and return the positions of the sheets of its card."""
    return page.execute_script(
        """
        const card = document.querySelectorAll(".case")[arguments[0]];
        const slider = card.querySelector("input[type=range]");
        slider.value = arguments[1];
        slider.dispatchEvent(new Event("input", {bubbles: true}));
        const places = [...card.querySelectorAll(".slice img")].map(image => {
            const window_ = image.parentElement.getBoundingClientRect(), box = image.getBoundingClientRect();
            return [(window_.left - box.left) / box.width, (window_.top - box.top) / box.height,
                    window_.width / box.width, window_.height / box.height];
        });
        return {shown: card.querySelector("output").textContent, places};
        """,
        card,
        slice_,
    )


def test_slider_shows_the_slice_in_every_panel_of_its_nodule(page):
    """A sheet has 2 rows of 8 slices; the window shows the tile of a slice, without its margin if it has one."""
    other = _move(page, 0, 3)
    for slice_ in (0, 7, 8, 13, SIZE - 1):
        moved = _move(page, 1, slice_)
        assert moved["shown"] == str(slice_ + 1)
        assert len(moved["places"]) == 6
        for left, top, width, height in moved["places"]:
            assert left + width / 2 == pytest.approx((slice_ % 8 + 0.5) / 8, abs=2e-3)
            assert top + height / 2 == pytest.approx((slice_ // 8 + 0.5) / 2, abs=2e-3)
            assert width == pytest.approx(1 / 8, rel=0.13)
    assert _move(page, 0, 3) == other


def test_arrow_key_moves_the_slider(page):
    _move(page, 2, 4)
    page.find_elements(By.CSS_SELECTOR, ".case input[type=range]")[2].send_keys(Keys.ARROW_RIGHT)
    assert page.execute_script("return document.querySelectorAll('.case output')[2].textContent") == "6"


@pytest.mark.parametrize("kind", ["reference", "before", "after"])
def test_outline_can_be_hidden_and_shown(page, kind):
    visibility = """
        document.querySelector(`.switches input[value=${arguments[0]}]`).click();
        return [...document.querySelectorAll(`.slice .${arguments[0]}`)].map(part => getComputedStyle(part).visibility);
    """
    assert page.execute_script(visibility, kind) == ["hidden"] * 3
    assert page.execute_script(visibility, kind) == ["visible"] * 3
