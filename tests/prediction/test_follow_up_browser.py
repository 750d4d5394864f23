"""The page of a follow-up in a real browser: both scans, whose sliders and windows change together."""

from itertools import product
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import ggn_tf
from tests.prediction.test_follow_up import MODEL
from tests.support.browser import WIDTHS, assert_complete_and_alone, opened, parts_beyond_the_screen, pictures
from tests.support.chest import CENTER, write_nifti
from tests.support.follow_scans import lung, motion


def page_of(folder: Path, later_radius_mm: float) -> Path:
    earlier = write_nifti(lung(), folder / "earlier.nii")
    later = write_nifti(lung(later_radius_mm, motion()), folder / "later.nii")
    ggn_tf.follow(earlier, later, ggn_tf.Point(*CENTER), model=MODEL, days=365).write(folder / "growth")
    return folder / "growth" / "growth.html"


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(tmp_path_factory.mktemp("grown"), 6.8)


@pytest.fixture(scope="module")
def gone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The later scan has no mask."""
    return page_of(tmp_path_factory.mktemp("gone"), 0.1)


@pytest.mark.parametrize(("kind", "screen"), list(product(("grown", "gone"), WIDTHS)))
def test_page_loads_completely_alone_and_fits(browser, request: pytest.FixtureRequest, kind: str, screen: str):
    page = opened(browser, request.getfixturevalue(kind), screen)
    assert_complete_and_alone(page)
    assert parts_beyond_the_screen(page) == []
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("screen", list(WIDTHS))
def test_sliders_and_windows_of_both_scans_change_together(browser, grown: Path, screen: str):
    page = opened(browser, grown, screen)
    sliders = page.find_elements(By.CSS_SELECTOR, ".viewer input[type=range]")
    assert [slider.get_attribute("aria-label") for slider in sliders] == [
        f"{plane} slice of {scan} scan" for scan in ("earlier", "later") for plane in ("axial", "coronal", "sagittal")
    ]
    places = [[float(slider.find_element(By.XPATH, "..//output").text) for slider in sliders]]
    lung = pictures(page)
    page.find_elements(By.CSS_SELECTOR, ".viewer input[type=radio]")[1].send_keys(Keys.SPACE)
    before = pictures(page)
    assert all(one != other for one, other in zip(lung, before, strict=True))
    for moved in (0, 5):
        sliders[moved].send_keys(Keys.ARROW_RIGHT)
        after = pictures(page)
        places.append([float(slider.find_element(By.XPATH, "..//output").text) for slider in sliders])
        plane = moved % 3
        assert [one != other for one, other in zip(before, after, strict=True)][plane::3] == [True, True]
        before = after
    # A slice is 1.25 mm thick, a column 1 mm wide; both scans are shown at the earlier one's points.
    changes = [round(last - first, 1) for first, last in zip(places[0], places[-1], strict=True)]
    assert changes == pytest.approx([1.25, 0, 1] * 2, abs=0.11)
    assert page.get_log("browser") == []
