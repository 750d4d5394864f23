"""The run folder's JSON documents: each is whole, and a damaged one gives way to the one before."""

import json
from pathlib import Path
from typing import Any

from ggn_tf.errors import RunError
from ggn_tf.files import atomic_file


def write_json(file: Path, content: dict[str, Any], former: dict[str, Any] | None = None) -> None:
    """Write a document, after having put aside what it said before.

    Args:
        file: Its name.
        content: JSON types.
        former: What `read_json` answers should the new file turn out damaged, as after a power cut on a disk that
            reports what it has not yet written. None: nothing.
    """
    if former is not None:
        _write(_former(file), former)
    _write(file, content)


def read_json(file: Path) -> dict[str, Any]:
    """Read a document, or the one before where it is damaged.

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
            "This is not a run folder that can be read.",
            case=file.parent,
            found=f"{file.name}: {type(error).__name__}",
            expected="the folder that ggn-tf fit wrote, with a whole run.json and stages.json",
            remedy="Name the run folder, for example runs/NAME, or begin a run with ggn-tf fit.",
        ) from error


def _former(file: Path) -> Path:
    return file.with_name(f".former.{file.name}")


def _write(file: Path, content: dict[str, Any]) -> None:
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _read(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} holds no JSON object")
    return content
