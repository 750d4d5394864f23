"""The series of an archive, for either protocol."""

from pathlib import Path

import pydicom
import pytest

from ggn_tf.pacs.archive import PacsSeries
from tests.support.chest import lung_grid, lung_with_balls, write_dicom

NAME = "DOE^JOHN"


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = lung_with_balls(lung_grid((8.0, 8.0, 8.0)))[:16, :16, :5]
    return write_dicom(image, tmp_path_factory.mktemp("ct") / "dicom", {"0010|0010": NAME})


@pytest.fixture(scope="module")
def found(series: Path) -> PacsSeries:
    header = pydicom.dcmread(next(series.iterdir()))
    return PacsSeries(header.StudyInstanceUID, header.SeriesInstanceUID)
