"""A `.keras` file before Keras reads it: its arrays must be in it, and no larger than it."""

import io
import zipfile
from pathlib import Path

import h5py

_WEIGHTS = "model.weights.h5"


def check_model_file(file: Path) -> None:
    """Refuse a file that announces more than it contains, for which Keras would fill the memory.

    Raises:
        ValueError, LookupError, OSError, RuntimeError, zipfile.BadZipFile: It does, or it is damaged.
    """
    size = file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        if sum(part.file_size for part in archive.infolist()) > size:
            raise ValueError("compressed parts, which Keras does not write")
        content = archive.read(_WEIGHTS)
    announced: list[int] = []

    def add(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ValueError(f"weights {name} in another file")
            announced.append(item.nbytes)

    with h5py.File(io.BytesIO(content), "r") as weights:
        weights.visititems(add)
    if sum(announced) > size:
        raise ValueError(f"weights of {sum(announced)} bytes, in a file of {size}")
