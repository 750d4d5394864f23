"""The real OHIF in the real Chromium, in front of a real Orthanc: a proxy on loopback serves the viewer's files and the
archive under one address with the headers of serving/ohif/nginx.conf, which itself is not run."""

import io
import os
import re
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pytest
from PIL import Image
from werkzeug.middleware.http_proxy import ProxyMiddleware
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.utils import safe_join, send_file
from werkzeug.wrappers import Request, Response

from tests.support.browser import running_browser
from tests.support.loopback_server import running
from tests.support.orthanc import PASSWORD, USER, Orthanc

if TYPE_CHECKING:
    from selenium import webdriver
    from selenium.webdriver.remote.webelement import WebElement

T = TypeVar("T")
# Where scripts/environment.sh unpacks it, and its release.
FILES, VERSION = Path(sys.prefix) / "ohif", "3.13.2"
CONFIGURATION = Path(__file__).parents[2] / "serving" / "ohif" / "app-config.js"
HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
# Chromium draws without a graphics card.
_FLAGS = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
_PATIENCE_S = 60.0
_CANVAS = "[data-cy=viewport-pane] canvas"
_VIEWPORTS = "(window.cornerstone?.getRenderingEngines() ?? []).flatMap(engine => engine.getViewports())"


class _Silent(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Requests are not of interest."""


@Request.application
def _files(request: Request) -> Response:
    path = Path(safe_join(str(FILES), request.path.lstrip("/")) or FILES)
    if request.path == "/app-config.js":
        path = CONFIGURATION
    elif not path.is_file():
        path = FILES / "index.html"
    response = send_file(path, request.environ, max_age=600)
    response.headers.update(HEADERS)
    return response


_DOUBLE_CLICK = """
const box = arguments[0].getBoundingClientRect();
const inner = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
inner.dispatchEvent(new MouseEvent("dblclick", {bubbles: true, view: window}));
"""


@contextmanager
def serving_ohif(orthanc: Orthanc) -> Iterator[str]:
    """Give the viewer's address; the test is skipped, or fails with GGN_TF_REQUIRE_OHIF, if OHIF is missing."""
    stated = FILES / "version"
    if not stated.is_file() or stated.read_text(encoding="utf-8").strip() != VERSION:
        missing = f"OHIF {VERSION} is not unpacked in .venv"
        (pytest.fail if "GGN_TF_REQUIRE_OHIF" in os.environ else pytest.skip)(missing)
    account = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    archive = {
        "target": orthanc.web.removesuffix("/dicom-web"),
        "host": None,
        "headers": {"Authorization": f"Basic {account}"},
    }
    application = ProxyMiddleware(_files, {"/dicom-web": archive}, timeout=60)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Silent)
    with running(server) as port:
        yield f"http://127.0.0.1:{port}"


@dataclass(frozen=True)
class Viewer:
    """A study in OHIF, used as a person does, mostly by mouse."""

    page: "webdriver.Chrome"

    def open(self, url: str, study: str) -> None:
        """Open a study and close what OHIF shows to new users."""
        size = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.page.get(f"{url}/viewer?StudyInstanceUIDs={study}")
        self.wait(
            lambda: self.page.execute_script(f"return {_VIEWPORTS}.some(one => one.viewportStatus === 'rendered')")
        )
        for text in ("Skip all", "Confirm and hide"):
            self.button(text).click()

    def show(self, modality: str, shown: Callable[[], object]) -> None:
        """Double-click the first series of a modality until it is shown.

        By an event, because a busy browser takes two clicks of the mouse for single ones.
        """
        from selenium.common.exceptions import TimeoutException

        names = "[data-cy=study-browser-thumbnail], [data-cy=study-browser-thumbnail-no-image]"
        for patience_s in (10.0, 20.0, _PATIENCE_S):
            found = self.wait(lambda: [item for item in self.all(names) if item.text.startswith(modality)])
            self.page.execute_script(_DOUBLE_CLICK, found[0])
            with suppress(TimeoutException):
                self.wait(shown, patience_s)
                return
        raise AssertionError(f"OHIF does not show {modality}")

    def scroll_to(self, instance: int) -> None:
        """Show another slice by its InstanceNumber."""
        self.page.execute_script(
            f"""const [view] = {_VIEWPORTS};
            const numbers = view.getImageIds().map(id => cornerstone.metaData.get("instance", id).InstanceNumber);
            view.setImageIdIndex(numbers.indexOf(arguments[0]));""",
            instance,
        )
        self.wait(lambda: self.shown_instance() == instance)

    def shown_instance(self) -> int:
        """The InstanceNumber in the corner of the viewport."""
        return int(re.match(r"I: ?(\d+)", self.one("[data-cy=viewport-overlay-bottom-right]").text)[1])

    def lines(self) -> list[str]:
        """The texts beside graphics in the viewport."""
        read = (
            "return [...document.querySelectorAll('[data-cy=viewport-pane] svg tspan')].map(line => line.textContent)"
        )
        return self.page.execute_script(read)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag the mouse between two points, in pixels from the middle of the viewport."""
        from selenium.webdriver.common.action_chains import ActionChains

        canvas, actions = self.one(_CANVAS), ActionChains(self.page)
        actions.move_to_element_with_offset(canvas, *start).click_and_hold()
        for share in (0.5, 1.0):
            at = [round(a + share * (b - a)) for a, b in zip(start, end, strict=True)]
            actions.pause(0.1).move_to_element_with_offset(canvas, *at)
        actions.pause(0.1).release().perform()

    def pixels(self) -> np.ndarray:
        """What the viewport shows, [row, column, RGB]; once it no longer changes."""
        self.page.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        shown = [self._read_pixels()]

        def unchanged() -> bool:
            shown.append(self._read_pixels())
            return np.array_equal(*shown[-2:])

        self.wait(unchanged)
        return shown[-1]

    def _read_pixels(self) -> np.ndarray:
        shown = self.one(_CANVAS).screenshot_as_png
        return np.asarray(Image.open(io.BytesIO(shown)).convert("RGB")).astype(int)

    def errors(self) -> list[str]:
        """The errors in the console since the last call."""
        return [entry["message"] for entry in self.page.get_log("browser") if entry["level"] == "SEVERE"]

    def button(self, text: str) -> "WebElement":
        return self.wait(lambda: next((item for item in self.all("button, a") if item.text.strip() == text), None))

    def one(self, selector: str) -> "WebElement":
        return self.wait(lambda: next((item for item in self.all(selector) if item.is_displayed()), None))

    def all(self, selector: str) -> list["WebElement"]:
        return self.page.find_elements("css selector", selector)

    def wait(self, find: Callable[[], T], patience_s: float = _PATIENCE_S) -> T:
        """Wait for something that is true."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.wait import WebDriverWait

        ignored = [StaleElementReferenceException]
        return WebDriverWait(self.page, patience_s, 0.1, ignored).until(lambda _: find())


@contextmanager
def opened_viewer(orthanc: Orthanc, study: str) -> Iterator[Viewer]:
    """A study in OHIF; the browser and the proxy end with the block."""
    with serving_ohif(orthanc) as url, running_browser(*_FLAGS) as page:
        viewer = Viewer(page)
        viewer.open(url, study)
        yield viewer
