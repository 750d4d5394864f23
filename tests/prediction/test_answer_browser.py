"""The page of a prediction in a real browser: sliders, windows, masks, the keyboard, and paper."""

from itertools import product
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.answers import drawn_nodule, drawn_prediction, nodule_not_found, write_page_of
from tests.support.browser import WIDTHS, assert_complete_and_alone, opened, parts_beyond_the_screen, pictures

MANY = 30


def write_page(folder: Path, count: int) -> Path:
    nodules = [drawn_nodule(f"nodule {number} with a long name", moves=1) for number in range(1, count)]
    further = {"spread": {"AAH+AIS": 0.04, "MIA+IAC": 0.05}, "prediction_set": ["MIA+IAC"], "typicality": 0.125}
    return write_page_of(drawn_prediction(*nodules, nodule_not_found()), folder, **further)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("many"), MANY)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("two"), 2)


@pytest.fixture(scope="module")
def none(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page_of(drawn_prediction(), tmp_path_factory.mktemp("none"))


@pytest.fixture(scope="module", params=list(product(("many", "none"), WIDTHS)), ids="-".join)
def page(request: pytest.FixtureRequest, browser):
    kind, screen = request.param
    return opened(browser, request.getfixturevalue(kind), screen)


@pytest.fixture
def viewers(browser, two: Path):
    return opened(browser, two, "desktop")


def test_page_loads_completely_alone_and_fits(page):
    assert_complete_and_alone(page)
    assert parts_beyond_the_screen(page) == []
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def _grays(page, plane: int, *points_mm: tuple[float, float]) -> list[int]:
    """The red of pixels of the first nodule's canvas, 10 pixels per mm, from its middle."""
    return page.execute_script(
        """
        const canvas = document.querySelectorAll(".viewer canvas")[arguments[0]], context = canvas.getContext("2d");
        return arguments[1].map(([x, y]) => context.getImageData(
            Math.round(canvas.width / 2 + 10 * x), Math.round(canvas.height / 2 + 10 * y), 1, 1).data[0]);
        """,
        plane,
        points_mm,
    )


def test_every_nodule_has_three_labelled_sliders_that_the_arrow_keys_move(viewers):
    sliders = viewers.find_elements(By.CSS_SELECTOR, ".viewer input[type=range]")
    assert len(sliders) == 6
    assert len({slider.get_attribute("aria-label") for slider in sliders}) == 6
    before, other = pictures(viewers), pictures(viewers, 1)
    for number, slider in enumerate(sliders[:3]):
        value, shown = int(slider.get_attribute("value")), slider.find_element(By.XPATH, "..//output").text
        slider.send_keys(Keys.ARROW_RIGHT)
        assert int(slider.get_attribute("value")) == value + 1
        step = 1.25 if number == 0 else 0.8
        moved = float(slider.find_element(By.XPATH, "..//output").text) - float(shown)
        assert moved == pytest.approx(step, abs=0.11)
        after = pictures(viewers)
        assert after[number] != before[number]
        before = after
    assert pictures(viewers, 1) == other


def test_the_keyboard_shows_where_it_is_and_chooses_the_window(viewers):
    lung = viewers.find_element(By.CSS_SELECTOR, ".viewer input[type=radio]")
    before = pictures(viewers)
    viewers.execute_script("arguments[0].focus()", lung)
    lung.send_keys(Keys.ARROW_DOWN)
    focused = "const box = document.activeElement; return [box.type, box.checked, getComputedStyle(box).outlineStyle]"
    assert viewers.execute_script(focused) == ["radio", True, "solid"]
    assert all(one != other for one, other in zip(before, pictures(viewers), strict=True))


def test_windows_are_those_of_their_names(viewers):
    """Lung of -850 HU, the nodule of -500 HU, on the axial slice."""
    for number, (low, high) in enumerate([(-1350, 150), (-160, 240), (-1024, 400)]):
        viewers.find_elements(By.CSS_SELECTOR, ".viewer input[type=radio]")[number].click()
        expected = [min(max(round((hu - low) * 255 / (high - low)), 0), 255) for hu in (-850, -500)]
        assert _grays(viewers, 0, (-15, 0.2), (3, 0.2)) == pytest.approx(expected, abs=2)


def test_the_outline_can_be_hidden(viewers):
    """The mask of 6 mm ends 6 mm from the middle."""
    near = [(x / 10, 0.3) for x in range(50, 70)]
    assert max(_grays(viewers, 0, *near)) > 200
    viewers.find_element(By.CSS_SELECTOR, ".viewer input[type=checkbox]").click()
    assert max(_grays(viewers, 0, *near)) < 200


def test_paper_shows_the_central_slices_and_no_controls(viewers):
    slider = viewers.find_element(By.CSS_SELECTOR, ".viewer input[type=range]")
    shown = slider.find_element(By.XPATH, "..//output").text
    slider.send_keys(Keys.END)
    viewers.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        visible = """
            const seen = part => part.checkVisibility();
            const parts = selector => [...document.querySelectorAll(selector)];
            return [parts(".view img").every(seen), parts("canvas, input, .viewer output").some(seen),
                    document.querySelector(".viewer figcaption").innerText, parts("pre").every(seen)];
        """
        images, controls, caption, texts = viewers.execute_script(visible)
    finally:
        viewers.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert (images, controls, texts) == (True, False, True)
    assert caption == f"axial, z {shown} mm"


def test_without_javascript_there_is_a_picture_of_every_plane(browser, two: Path):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page = opened(browser, two, "desktop")
        images = page.find_elements(By.CSS_SELECTOR, ".view img")
        assert len(images) == 6
        assert all(image.size["width"] > 100 for image in images[:3])
        assert page.find_element(By.CSS_SELECTOR, ".viewer canvas").value_of_css_property("display") == "none"
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
