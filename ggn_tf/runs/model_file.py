"""A `.keras` file before Keras reads it: its arrays must be in it, and no larger than it."""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py

from ggn_tf.json_records import parse_document

_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
# Ours has 80 KB.
_LARGEST_CONFIG_BYTES = 2**22

UNREADABLE = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)
"""Raised by zipfile, h5py, Keras and the functions below for files that are damaged or not `.keras`."""


def read_model_config(file: Path) -> Any:
    """The configuration in a `.keras` file, as JSON types; the weights are not read.

    Raises:
        UNREADABLE: It is not a `.keras` file, or a damaged one.
    """
    with zipfile.ZipFile(file) as archive:
        _check_parts(archive, file)
        if archive.getinfo(_CONFIG).file_size > _LARGEST_CONFIG_BYTES:
            raise ValueError(f"{_CONFIG} of more than {_LARGEST_CONFIG_BYTES} bytes")
        return parse_document(archive.read(_CONFIG))


def check_model_file(file: Path, most_bytes: int | None = None) -> None:
    """Refuse a file that announces more than it contains, for which Keras would fill the memory.

    Args:
        file: A `.keras` file.
        most_bytes: The largest size of its weights; None for no limit.

    Raises:
        UNREADABLE: It does, contains links to other files, or is damaged.
    """
    size = file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        _check_parts(archive, file)
        stored = archive.getinfo(_WEIGHTS).file_size
        if most_bytes is not None and stored > most_bytes:
            raise ValueError(f"weights of {stored} bytes, of a network of at most {most_bytes}")
        content = archive.read(_WEIGHTS)
    announced: list[int] = []

    def add(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ValueError(f"weights {name} in another file")
            if item.dtype.kind not in "fiub":
                # Of texts and arrays of varying length the file has any number that share their content.
                raise ValueError(f"weights {name} of type {item.dtype}")
            announced.append(item.nbytes)

    def find_link(name: str, link: object) -> str | None:
        return None if isinstance(link, h5py.HardLink) else name

    with h5py.File(io.BytesIO(content), "r") as weights:
        linked = weights.visititems_links(find_link)
        if linked is not None:
            raise ValueError(f"weights {linked} behind a link")
        weights.visititems(add)
    if sum(announced) > size:
        raise ValueError(f"weights of {sum(announced)} bytes, in a file of {size}")


def _check_parts(archive: zipfile.ZipFile, file: Path) -> None:
    if sum(part.file_size for part in archive.infolist()) > file.stat().st_size:
        raise ValueError("compressed parts, which Keras does not write")
