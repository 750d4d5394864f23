"""`dataset.json`: what a dataset says about itself, and the checks that it is told the truth."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from ggn_tf.errors import DatasetError
from ggn_tf.protocol import PatchProtocol

SCHEMA = 1
DESCRIPTION = "dataset.json"
REMAKE = "Copy the dataset again from where it is whole, or make it anew with ggn-tf prepare."


def refuse_existing(folder: Path) -> None:
    """Refuse to write over anything.

    Raises:
        DatasetError: The folder exists and is not empty, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError(
            "The dataset would be written over something that exists.",
            case=folder,
            expected="a folder that does not exist, or an empty one",
            remedy="Name another with -o, or move this one away.",
        )


def read_description(folder: Path) -> dict[str, Any]:
    """Read a dataset's description; its schema is known, its content not yet checked.

    Raises:
        DatasetError: The folder is missing or no dataset, or the file is damaged or of another schema.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise DatasetError(
            "There is no dataset." if not folder.exists() else "The folder is no dataset.",
            case=folder,
            expected=f"a folder with {DESCRIPTION}",
            remedy=f"Make it: ggn-tf prepare TABLE -o {folder}",
        )
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise damaged(folder, str(error)) from error
    schema = stored.get("schema") if isinstance(stored, dict) else None
    if schema != SCHEMA:
        raise DatasetError(
            "The dataset has another format.",
            case=folder,
            found=f"schema {schema}",
            expected=f"schema {SCHEMA}",
            remedy="Make it anew with this version of ggn-tf prepare.",
        )
    return stored


def check_protocol(folder: Path, own: PatchProtocol, asked: PatchProtocol) -> None:
    """Refuse a dataset whose patches were cut otherwise.

    Raises:
        DatasetError: The protocols differ; the differing fields are named.
    """
    if own == asked:
        return
    names = [part.name for part in dataclasses.fields(own) if getattr(own, part.name) != getattr(asked, part.name)]
    raise DatasetError(
        "The dataset was made by another protocol.",
        case=folder,
        found=", ".join(f"{name} {getattr(own, name)}" for name in names),
        expected=", ".join(f"{name} {getattr(asked, name)}" for name in names),
        remedy="Make the dataset anew with this protocol, or ask for the protocol that it was made by.",
    )


def check_shard(path: Path, size: int) -> None:
    """Refuse a shard that is missing, cut off or exchanged for another.

    Args:
        path: The shard.
        size: Its bytes when it was written.

    Raises:
        DatasetError: There is no such file, or it has another size.
    """
    found = path.stat().st_size if path.is_file() else None
    if found != size:
        raise DatasetError(
            "A shard of the dataset is missing." if found is None else "A shard of the dataset has another size.",
            case=path,
            found="no file" if found is None else f"{found} bytes",
            expected=f"{size} bytes",
            remedy=REMAKE,
        )


def damaged(folder: Path, found: str) -> DatasetError:
    """The error of a description that cannot be what was written."""
    return DatasetError(
        "The dataset's description is damaged.",
        case=folder / DESCRIPTION,
        found=found,
        expected="what ggn-tf prepare wrote",
        remedy=REMAKE,
    )
