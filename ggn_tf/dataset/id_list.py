"""The id list: which id became which hash. It stays outside the dataset, and exists only if the dataset does."""

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ggn_tf.errors import DatasetError
from ggn_tf.shown_text import in_spreadsheet

if TYPE_CHECKING:
    from ggn_tf.cases.tables.table import Case
    from ggn_tf.dataset.identity import Pseudonyms

_COLUMNS = ("case_id", "patient_id", "dataset_case_id", "dataset_patient_id")


def refuse_unwritable(path: Path, dataset: Path) -> None:
    """Refuse a path for the list before the patches are cut.

    Raises:
        DatasetError: The path exists, is in the dataset, or cannot be written.
    """
    if os.path.lexists(path):
        raise _existing(path)
    if path.resolve().is_relative_to(dataset.resolve()):
        raise DatasetError(
            "The id list would be in the dataset.",
            case=path,
            expected=f"a path outside {dataset}: the list identifies the patients",
            remedy="Name another file.",
            arguments=("id_list",),
        )
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)):
        raise _unwritable(path, "no such folder" if not path.parent.is_dir() else "a folder that is not writable")


@contextmanager
def written_id_list(path: Path | None, cases: Sequence["Case"], pseudonyms: "Pseudonyms") -> Iterator[None]:
    """Write the list, readable only by its owner; it is deleted if the block, which makes the dataset, fails.

    Without a path nothing is written.

    Raises:
        DatasetError: The file exists or cannot be made.
    """
    if path is None:
        yield
        return
    handle = _create(path)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(_COLUMNS)
            for case in cases:
                ids = map(in_spreadsheet, (case.case_id, case.patient_id))
                rows.writerow([*ids, *map(pseudonyms.id_of, (case.case_id, case.patient_id))])
            file.flush()
            os.fsync(file.fileno())
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _create(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise _existing(path) from error
    except OSError as error:
        raise _unwritable(path, str(error)) from error


def _existing(path: Path) -> DatasetError:
    return DatasetError(
        "The id list would overwrite something that exists.",
        case=path,
        found="a folder" if path.is_dir() else "a file",
        expected="a file that does not exist",
        remedy="Name another file, or move this one away.",
        arguments=("id_list",),
    )


def _unwritable(path: Path, found: str) -> DatasetError:
    return DatasetError(
        "The id list cannot be written.",
        case=path,
        found=found,
        expected="a file in a folder that exists and can be written to",
        remedy="Make the folder, or name another file.",
        arguments=("id_list",),
    )
