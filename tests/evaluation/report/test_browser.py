"""The reports of a run and of a study in a real browser: headless Chromium, as wide as a desktop and as a telephone."""

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from ggn_tf.evaluation.report.evaluation_folder import write_evaluation
from ggn_tf.evaluation.report.page import write_page
from ggn_tf.evaluation.report_inputs import ReportInputs
from ggn_tf.evaluation.statistics.comparison import compare_systems
from ggn_tf.evaluation.statistics.paper_systems import PAPER_SYSTEMS
from ggn_tf.evaluation.statistics.repeats import score_repeats
from ggn_tf.protocol import Protocol
from ggn_tf.study.grid import weighted_system
from ggn_tf.study.page import Example, StudyData, study_page
from ggn_tf.study.results import PLANNED_PAIRS, TaskResults
from ggn_tf.study.tables import tables_of
from ggn_tf.tasks import INDOLENT_INVASIVE
from tests.support.described_run import evaluated
from tests.support.slides import SIZE, make_records, make_slides
from tests.support.tiny_study import tiny_question

TWO = INDOLENT_INVASIVE.class_names
LAMBDA = 0.5
WIDTHS = {"desktop": 1280, "telephone": 390}
RUN, STUDY = "run", "study"
FIGURES = {RUN: 10, STUDY: 16}
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def _program(*names: str) -> str:
    """The first of these programs that is installed; where scripts/test.sh must have installed it, its lack fails."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        lacking = f"{names[0]} is not installed: apt-get install chromium chromium-driver"
        if os.environ.get("GGN_TF_REQUIRE_BROWSER"):
            pytest.fail(lacking)
        pytest.skip(lacking)
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
    service = webdriver.ChromeService(_program("chromedriver"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options, service)
        try:
            yield driver
        finally:
            driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, drawn_frame) -> Path:
    frozen, joint = (drawn_frame(cases=60, seed=seed) for seed in (1, 2))
    joint = joint.assign(label=frozen["label"], patient=frozen["patient"])
    segment = frozen.assign(**{"stage": "segment", "p_AAH+AIS": np.nan, "p_MIA+IAC": np.nan})
    frame = pd.concat([segment, frozen.assign(stage="classify"), joint], ignore_index=True)
    nodules = make_records(list(frame["case"].unique()))
    inputs = ReportInputs(nodules, reference=joint.assign(dice=1.0), slides=make_slides(list(joint["case"][:6])))
    folder = tmp_path_factory.mktemp("browser") / "evaluation"
    write_evaluation(frame, evaluated(frame, replicates=50, select_on="test"), folder, inputs)
    return folder / "report.html"


@pytest.fixture(scope="module")
def study_report(tmp_path_factory: pytest.TempPathFactory, drawn_study) -> Path:
    """The paper's systems, another lambda and the diameter, twice each, with every table; one run in a gallery."""
    systems = [(*one.system,) for one in PAPER_SYSTEMS]
    systems += [(weighted_system(LAMBDA), "joint"), ("diameter", "classify")]
    test, validation = (drawn_study(systems, repeats=2, cases=cases, gain=0.1) for cases in (60, 30))
    validation = validation.assign(set="validation", case="v" + validation["case"], patient="v" + validation["patient"])
    scores = tuple(score_repeats(test, replicates=50))
    compared = tuple(compare_systems(test, PLANNED_PAIRS, replicates=50))
    results = TaskResults(INDOLENT_INVASIVE, test, scores, compared)
    question = dataclasses.replace(tiny_question(repeats=2, joint_weights=(LAMBDA, 1.0)), protocol=Protocol())
    example = test[(test["model"] == "cascade") & (test["repeat"] == 1)]
    joint = example[example["stage"] == "joint"]
    inputs = ReportInputs(reference=joint.assign(dice=1.0), slides=make_slides(list(joint["case"][:6])))
    study = StudyData(
        {
            "tasks": [str(INDOLENT_INVASIVE)],
            "models": list(question.models),
            "splits": [1],
            "repeats": 2,
            "seed": 0,
            "precision": "float32",
            "select_on": "test",
            "dataset": "dataset",
            "dataset_fingerprint": 8 * "0f1e2d3c",
            "versions": {"ggn-tf": "1.0.0", "tensorflow": "2.21.0"},
        },
        tables_of(question, [results]),
        {str(INDOLENT_INVASIVE): pd.concat([test, validation], ignore_index=True)},
        ReportInputs(make_records(list(test["case"].unique()))),
        {(str(INDOLENT_INVASIVE), 1): Example(example, inputs)},
        replicates=50,
    )
    folder = tmp_path_factory.mktemp("browser_study")
    write_page(study_page(study), folder / "report.html", folder / "figures")
    return folder / "report.html"


PAGES = list(product((RUN, STUDY), WIDTHS))


@pytest.fixture(scope="module", params=PAGES, ids="-".join)
def page(request: pytest.FixtureRequest, browser):
    """A report opened; what its console says is in `page.console`."""
    kind, screen = request.param
    report: Path = request.getfixturevalue({RUN: "report", STUDY: "study_report"}[kind])
    metrics = {"width": WIDTHS[screen], "height": 900, "deviceScaleFactor": 1, "mobile": screen == "telephone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get_log("browser")
    browser.get(report.as_uri())
    browser.console = browser.get_log("browser")
    browser.kind = kind
    return browser


def test_console_is_silent(page):
    assert page.console == []


def test_nothing_is_loaded_from_elsewhere(page):
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_every_image_loads(page):
    widths = page.execute_script("return [...document.images].map(image => image.naturalWidth)")
    # The figures, and 6 nodules of two panels: CT and three outlines, CT and evidence.
    assert len(widths) == FIGURES[page.kind] + 6 * 6
    assert min(widths) > 0


def test_page_is_not_wider_than_the_screen(page):
    whole, screen = page.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert whole <= screen


def test_nothing_but_what_scrolls_by_itself_sticks_out(page):
    outside = page.execute_script("""
        const right = document.documentElement.clientWidth + 0.5;
        return [...document.querySelectorAll("body *")]
            .filter(part => !part.closest(".scroll table, .slice"))
            .filter(part => part.getBoundingClientRect().right > right)
            .map(part => part.outerHTML.slice(0, 80));
    """)
    assert outside == []


def test_what_names_a_row_leaves_room_for_its_values(page):
    shares = page.execute_script("""
        return [...document.querySelectorAll(".scroll th[scope=row]")]
            .map(cell => cell.getBoundingClientRect().width / cell.closest(".scroll").clientWidth);
    """)
    assert max(shares) < 0.55


def test_scores_below_a_nodule_need_no_scrolling(page):
    wider = page.execute_script("""
        return [...document.querySelectorAll(".case .scroll")].map(frame => frame.scrollWidth - frame.clientWidth);
    """)
    assert wider == [0] * 6


def _move(page, card: int, slice_: int) -> dict:
    """Move a slider as a hand does, and tell where the sheets of its card then lie."""
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
        return {told: card.querySelector("output").textContent, places};
        """,
        card,
        slice_,
    )


@pytest.mark.parametrize("slice_", [0, 7, 8, 13, SIZE - 1])
def test_slider_brings_the_slice_into_every_panel(page, slice_):
    """A sheet has 2 rows of 8 slices; the window shows the slice's tile, without its margin where it has one."""
    moved = _move(page, 1, slice_)
    assert moved["told"] == str(slice_ + 1)
    assert len(moved["places"]) == 6
    for left, top, width, height in moved["places"]:
        assert left + width / 2 == pytest.approx((slice_ % 8 + 0.5) / 8, abs=2e-3)
        assert top + height / 2 == pytest.approx((slice_ // 8 + 0.5) / 2, abs=2e-3)
        assert width == pytest.approx(1 / 8, rel=0.13)


def test_slider_moves_its_own_nodule_alone(page):
    before = _move(page, 0, 3)
    _move(page, 1, 9)
    assert _move(page, 0, 3) == before


def test_arrow_key_moves_the_slider(page):
    _move(page, 2, 4)
    page.find_elements(By.CSS_SELECTOR, ".case input[type=range]")[2].send_keys(Keys.ARROW_RIGHT)
    told = page.execute_script("return document.querySelectorAll('.case output')[2].textContent")
    assert told == "6"


@pytest.mark.parametrize("kind", ["reference", "before", "after"])
def test_outline_can_be_hidden_and_shown(page, kind):
    seen = """
        document.querySelector(`.switches input[value=${arguments[0]}]`).click();
        return [...document.querySelectorAll(`.slice .${arguments[0]}`)].map(part => getComputedStyle(part).visibility);
    """
    assert page.execute_script(seen, kind) == ["hidden"] * 6
    assert page.execute_script(seen, kind) == ["visible"] * 6


def test_text_is_dark_and_large_enough(page):
    ink, size = page.execute_script(
        "const look = getComputedStyle(document.body); return [look.color, parseFloat(look.fontSize)]"
    )
    red, green, blue = (int(part) for part in ink.removeprefix("rgb(").removesuffix(")").split(","))
    assert max(red, green, blue) < 64
    assert size >= 16
