"""Pages in a real browser: headless Chromium, as wide as a desktop and as a telephone."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium import webdriver

WIDTHS = {"desktop": 1280, "telephone": 390}
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _program(*names: str) -> str:
    """The first of these programs that is installed; required where scripts/test.sh has installed it."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        missing = f"{names[0]} is not installed: apt-get install chromium chromium-driver"
        if os.environ.get("GGN_TF_REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator["webdriver.Chrome"]:
    with running_browser() as driver:
        yield driver


@contextmanager
def running_browser(*flags: str) -> Iterator["webdriver.Chrome"]:
    """Chromium with further flags; its processes end with the block."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
    service = webdriver.ChromeService(_program("chromedriver"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options, service)
        try:
            yield driver
        finally:
            driver.quit()


def opened(browser: "webdriver.Chrome", file: Path, screen: str) -> "webdriver.Chrome":
    """The browser with a page, on one of `WIDTHS`; the messages of its console are in `console`."""
    metrics = {"width": WIDTHS[screen], "height": 900, "deviceScaleFactor": 1, "mobile": screen == "telephone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get_log("browser")
    browser.get(file.as_uri())
    browser.console = browser.get_log("browser")
    return browser


def assert_complete_and_alone(page: "webdriver.Chrome") -> None:
    """No message in the console, nothing loaded from elsewhere, every image is drawn."""
    assert page.console == []
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
    assert min(page.execute_script("return [...document.images].map(image => image.naturalWidth)"), default=1) > 0


def parts_beyond_the_screen(page: "webdriver.Chrome") -> list[str]:
    return page.execute_script("""
        const right = document.documentElement.clientWidth + 0.5;
        return [...document.querySelectorAll("html, body *")]
            .filter(part => !part.closest(".scroll table, .slice"))
            .filter(part => part.getBoundingClientRect().right > right)
            .map(part => part.outerHTML.slice(0, 80));
    """)


def pictures(page: "webdriver.Chrome", number: int = 0) -> list[str]:
    """A digest of the canvas of each plane of a viewer, region by region."""
    contents = page.execute_script(
        "return [...document.querySelectorAll('.viewer')[arguments[0]].querySelectorAll('canvas')]"
        ".map(canvas => canvas.toDataURL())",
        number,
    )
    return [hashlib.sha256(content.encode()).hexdigest() for content in contents]
