"""Files of models that announce more than they contain."""

import io
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ggn_tf.runs.model_file import check_model_file

ZEROS = np.zeros((100, 100), np.float32)


def write(path: Path, zipped: int = zipfile.ZIP_STORED, **dataset: Any) -> Path:
    content = io.BytesIO()
    with h5py.File(content, "w") as weights:
        weights.create_group("layers").create_dataset("kernel", **dataset)
    with zipfile.ZipFile(path, "w", zipped) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", content.getvalue())
    return path


def test_plain_weights_are_accepted(tmp_path: Path) -> None:
    check_model_file(write(tmp_path / "a.keras", data=ZEROS))


HOSTILE = {
    "declared and not stored": {"shape": (2**28, 3), "dtype": "f4", "chunks": (2**20, 3), "fillvalue": 1.0},
    "compressed": {"data": np.zeros((1000, 1000)), "compression": "gzip"},
    "of varying length": {"data": ["a" * 1000], "dtype": h5py.string_dtype()},
    "elsewhere": {"shape": (4,), "dtype": "f4", "external": [("/etc/passwd", 0, 16)]},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_weights_that_are_not_in_the_file_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="weights"):
        check_model_file(write(tmp_path / "a.keras", **HOSTILE[name]))


def test_a_compressed_archive_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compressed"):
        check_model_file(write(tmp_path / "a.keras", zipfile.ZIP_DEFLATED, data=np.zeros((1000, 1000))))
