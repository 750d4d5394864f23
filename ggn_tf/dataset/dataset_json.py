"""`dataset.json`, the description of a dataset, and the checks that the dataset is what it describes."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ggn_tf.errors import DatasetError
from ggn_tf.files import refuse_links
from ggn_tf.json_records import read_document, to_json
from ggn_tf.protocol import PatchProtocol

# 2: the axes of patches are those of the CT nearest to L, P and S; before, those of the file. 3: patches have a margin.
SCHEMA = 3
DESCRIPTION = "dataset.json"
# Of the description of six million cases.
MOST_BYTES = 1 << 32
# The key of the digest over all others.
DIGEST = "sha256"
# The other files that are read by a fixed name.
_READ = ("splits.json", "radiomics.csv")
_SHARD = re.compile(r"patches-\d{5,}-of-\d{5,}\.tfrecord", re.ASCII)
COPY_AGAIN = "Copy the dataset again from a whole copy, or prepare it again."


def refuse_existing(folder: Path) -> None:
    """Refuse to overwrite anything.

    Raises:
        DatasetError: The folder exists and is not empty, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError(
            "The dataset would overwrite something that exists.",
            case=folder,
            expected="a folder that does not exist, or an empty one",
            remedy="Name another folder, or move this one away.",
            arguments=("output",),
        )


def refuse_missing_dataset(folder: Path) -> None:
    """Raise a DatasetError where there is no dataset."""
    if not (folder / DESCRIPTION).is_file():
        raise DatasetError(
            "There is no dataset." if not folder.exists() else "The folder is not a dataset.",
            case=folder,
            expected=f"a folder with {DESCRIPTION}",
            remedy="Name the folder of a dataset, or prepare one from a case table.",
        )


def read_description(folder: Path) -> dict[str, Any]:
    """Read a dataset's description, and check its schema and its digest, but not its content.

    Raises:
        DatasetError: The folder is missing or not a dataset, the file is damaged or of another schema, or it or another
            file of the dataset is a link.
    """
    refuse_links(folder, (DESCRIPTION, *_READ), DatasetError)
    refuse_missing_dataset(folder)
    try:
        stored = read_document(folder / DESCRIPTION, most_bytes=MOST_BYTES)
    except ValueError as error:
        raise damaged(folder, str(error)) from error
    schema = stored.get("schema") if isinstance(stored, dict) else None
    if schema != SCHEMA:
        raise DatasetError(
            "The dataset has another format.",
            case=folder,
            found=f"schema {str(schema)[:100]}",
            expected=f"schema {SCHEMA}",
            remedy="Prepare it again with this version of ggn-tf, from the same case table.",
        )
    if stored.get(DIGEST) != description_digest(stored):
        raise damaged(folder, "content that does not have its SHA-256")
    return stored


def description_digest(description: Mapping[str, Any]) -> str:
    """SHA-256 over everything in a description but the digest itself: also over columns and measurements.

    Args:
        description: As JSON types; its cases may be records.
    """
    digest = hashlib.sha256()
    for piece in _pieces(description):
        digest.update(json.dumps(piece, sort_keys=True).encode())
    return digest.hexdigest()


def _pieces(description: Mapping[str, Any]) -> Iterator[Any]:
    """The content in small pieces: all cases as one text take several times the memory."""
    for name in sorted(description.keys() - {DIGEST}):
        value = description[name]
        yield name
        if isinstance(value, (list, tuple)):
            yield from (to_json(item) if dataclasses.is_dataclass(item) else item for item in value)
        else:
            yield value


def check_protocol(folder: Path, stored: PatchProtocol, expected: PatchProtocol) -> None:
    """Refuse a dataset whose patches were cut by another protocol. Any margin is accepted.

    Raises:
        DatasetError: The protocols differ; the differing fields are named.
    """
    stored = dataclasses.replace(stored, margin_mm=expected.margin_mm)
    if stored == expected:
        return
    fields = [part.name for part in dataclasses.fields(stored)]
    names = [name for name in fields if getattr(stored, name) != getattr(expected, name)]
    raise DatasetError(
        "The dataset was made by another protocol.",
        case=folder,
        found=", ".join(f"{name} {getattr(stored, name)}" for name in names),
        expected=", ".join(f"{name} {getattr(expected, name)}" for name in names),
        remedy="Prepare the dataset again with this protocol, or use the dataset's protocol.",
    )


def check_shard(folder: Path, name: str, size: int) -> None:
    """Refuse a shard that is missing, truncated or replaced.

    Raises:
        DatasetError: Its name is none that a shard has, it is a link, there is no such file, or it has another size.
    """
    if not _SHARD.fullmatch(name):
        raise damaged(folder, f"a shard with the name {name[:100]!r}")
    refuse_links(folder, [name], DatasetError)
    path = folder / name
    found = path.stat().st_size if path.is_file() else None
    if found != size:
        raise DatasetError(
            "A shard of the dataset is missing." if found is None else "A shard of the dataset has another size.",
            case=path,
            found="no file" if found is None else f"{found} bytes",
            expected=f"{size} bytes",
            remedy=COPY_AGAIN,
        )


def damaged(folder: Path, found: str) -> DatasetError:
    """The error about a description that is not what was written."""
    return DatasetError(
        "The dataset's description is damaged.",
        case=folder / DESCRIPTION,
        found=found,
        expected="the file that was written with the dataset",
        remedy=COPY_AGAIN,
    )
