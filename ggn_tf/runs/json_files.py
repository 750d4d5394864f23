"""The run folder's JSON documents. If one is damaged, its former version is read instead."""

import json
from pathlib import Path
from typing import Any

from ggn_tf.errors import RunError
from ggn_tf.files import atomic_file


def write_json(file: Path, content: dict[str, Any], former: dict[str, Any] | None = None) -> None:
    """Write a document, and beside it its former version.

    Args:
        file: Path of the document.
        content: JSON types.
        former: What `read_json` returns should the new file be damaged, as after a power cut on a disk that reports
            data as written too early. None: nothing.
    """
    if former is not None:
        _write(_former(file), former)
    _write(file, content)


def read_json(file: Path) -> dict[str, Any]:
    """Read a document, or its former version if it is damaged.

    Raises:
        RunError: Neither can be read.
    """
    try:
        return _read(file)
    except (OSError, ValueError) as error:
        if file.exists() and _former(file).exists():
            try:
                return _read(_former(file))
            except (OSError, ValueError):
                pass
        raise RunError(
            "The folder is not a readable run folder.",
            case=file.parent,
            found=f"{file.name}: {type(error).__name__}",
            expected="the folder of a training, with an intact run.json and stages.json",
            remedy="Name the run folder, for example runs/NAME, or train a run first.",
        ) from error


def _former(file: Path) -> Path:
    return file.with_name(f".former.{file.name}")


def _write(file: Path, content: dict[str, Any]) -> None:
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _read(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} contains no JSON object")
    return content
