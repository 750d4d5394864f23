"""Fixtures: a small grid, and CTs written to disk."""

from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.series_writer import write_series
from ggn_tf.cases.geometry.grid import Grid


@pytest.fixture
def grid() -> Grid:
    """A small CT whose voxels are no multiple of the patch's."""
    return Grid.around(
        (10.0, -30.0, 41.0), (50, 46, 30), (0.83, 0.83, 1.7), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    )


@pytest.fixture
def save(tmp_path: Path) -> Callable[[sitk.Image, str], Path]:
    def write(image: sitk.Image, name: str) -> Path:
        path = tmp_path / name
        sitk.WriteImage(image, str(path))
        return path

    return write


@pytest.fixture
def save_series(tmp_path: Path) -> Callable[..., Path]:
    def write(image: sitk.Image, name: str = "dicom", tags: dict[str, str] | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        write_series(sitk.Cast(image, sitk.sitkInt16), folder, "PHANTOM-0001", tags)
        return folder

    return write
