from pathlib import Path

import pytest

from tests.support.case_files import write_case_files


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case_files(tmp_path_factory.mktemp("cases"), 12)


@pytest.fixture(scope="session")
def bad_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case_files(tmp_path_factory.mktemp("bad"), 12, bad=(2, 5))
