import os
from pathlib import Path

import pytest

pytest_plugins = [
    "tests.support.browser",
    "tests.support.case_fixtures",
    "tests.support.drawn_predictions",
    "tests.support.trained_run",
]

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real CT (LIDC-IDRI), or a skip that says what is missing."""
    folder = Path(os.environ.get("GGN_TF_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "lidc_voi" / "cases.csv").is_file():
        pytest.skip(f"no real CT in {folder}: set GGN_TF_REAL_DATA to the folder that contains lidc_voi/")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with slow tests first: the two processes then end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
