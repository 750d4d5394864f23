"""Pseudonyms: ids leave the hospital as salted hashes.

With one salt per user a patient has the same hash in all of the user's datasets, so that an external validation can
refuse patients of the training. Without the salt, names cannot be tried out.
"""

import hashlib
import hmac
import itertools
import os
import re
import secrets
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ggn_tf.cases.tables.table import Case
from ggn_tf.errors import DatasetError, GgnWarning

_HASH_DIGITS = 12
_SALT_BYTES, _LONGEST_SALT = 32, 4096
# Shorter ids occur within words and numbers by chance.
_SHORTEST_ID_IN_TEXT = 4
# Far more than a series has; a path such as / has no end.
_MOST_FILES = 20_000
_UID = re.compile(r"(?<![\w.])\d+(\.\d+){2,}(?!\w)")
# Names of files and folders that occur in our messages as words, and identify no patient.
_ORDINARY_WORDS = (
    "axes case cases center centre centroid data dicom file files folder header image images label labels mask masks "
    "nifti nodule nodules nrrd patch patient patients pixels scan scans segment segmentation segmentations segments "
    "series slice slices table volume volumes voxel voxels"
)
_ORDINARY = frozenset(_ORDINARY_WORDS.split())


def salt_path(named: str | Path | None, settings: Path) -> Path:
    """The file with the salt.

    Args:
        named: The file that the user named; a leading `~` is the home folder, as shells leave it in variables.
        settings: The folder of the user's settings, for where none was named. A relative one would be beside the data:
            systems give it where there is neither HOME nor an entry in the list of users.

    Raises:
        DatasetError: There is no home folder.
    """
    path = Path(named) if named else (settings if settings.is_absolute() else Path("~/.config/ggn-tf")) / "salt"
    try:
        expanded = path.expanduser()
    except RuntimeError:
        expanded = Path()
    if expanded.is_absolute() or (named and expanded == path):
        return expanded
    raise DatasetError(
        "There is no home folder to keep the salt of the hashed ids in.",
        case=path,
        found="neither HOME nor the list of users names one",
        expected="a folder of the user, outside of the data",
        remedy="Name a file for the salt, to be kept apart from the dataset, or keep the table's ids.",
        arguments=("salt_file", "keep_ids"),
    )


def read_salt(path: Path) -> bytes:
    """Read the salt from a file; a missing file is made, readable only by its owner, with a warning.

    Raises:
        DatasetError: The file cannot be read or made, or does not contain a salt.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _existing_salt(path)
    except OSError as error:
        raise _unusable(path, str(error)) from error
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_SALT_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        # Half a salt would be refused by every later call.
        path.unlink(missing_ok=True)
        raise _unusable(path, str(error)) from error
    warnings.warn(
        f"A new salt for hashing ids was made: {path.absolute()}. Keep it, apart from datasets: with another salt "
        "every hash changes, and a patient who is in two datasets is not recognised.",
        GgnWarning,
        stacklevel=2,
    )
    return _existing_salt(path)


@dataclass(frozen=True)
class Pseudonyms:
    """What replaces the table's ids in a dataset.

    Attributes:
        salt: Salt of the hashes; None keeps ids and columns as they are.
    """

    salt: bytes | None

    def id_of(self, text: str) -> str:
        """The id in the dataset: the first 12 hexadecimal digits of HMAC-SHA256(salt, id)."""
        if self.salt is None:
            return text
        return hmac.new(self.salt, text.encode(), hashlib.sha256).hexdigest()[:_HASH_DIGITS]

    def hide(self, text: str, case: Case) -> str:
        """A text about a case without its ids, its paths, its file names, and DICOM UIDs."""
        if self.salt is None:
            return text
        folded = text.casefold()
        present = [secret for secret in self._secrets(case) if secret.text.casefold() in folded]
        if present:
            # In one pass and the longest first: no replacement is replaced again, and no part before the whole.
            present.sort(key=lambda secret: len(secret.text), reverse=True)
            pattern = re.compile("|".join(f"({secret.pattern})" for secret in present), re.IGNORECASE)
            text = pattern.sub(lambda match: present[(match.lastindex or 1) - 1].replacement, text)
        # A PACS finds the patient by a DICOM UID.
        return _UID.sub("<uid>", text)

    def _secrets(self, case: Case) -> Iterator["_Secret"]:
        for raw in (case.case_id, case.patient_id):
            if len(raw) >= _SHORTEST_ID_IN_TEXT:
                yield _Secret(raw, re.escape(raw), self.id_of(raw))
        if case.series:
            yield _Secret(case.series, re.escape(case.series), "<uid>")
        if case.segment:
            # Only in quotes, as messages have it: without them, "1" and "nodule" are common words.
            yield _Secret(repr(case.segment), re.escape(repr(case.segment)), "<segment>")
        for path, replacement in ((case.image, "<image>"), (case.mask, "<mask>")):
            if path is not None:
                yield from _secrets_of_path(path, replacement)

    def identifying_columns(self, cases: Iterable[Case]) -> set[str]:
        """The further columns that name a case, a patient or a file in any row: the dataset leaves them out."""
        if self.salt is None:
            return set()
        return {column for case in cases for column, text in case.extra.items() if _identifies(text, case)}


class _Secret(NamedTuple):
    """A text that identifies a patient, the pattern that finds it, and what replaces it."""

    text: str
    pattern: str
    replacement: str


def _secrets_of_path(path: Path, replacement: str) -> Iterator[_Secret]:
    """The path, its parts, and the files below it, which are often named after the patient."""
    # With what follows it: a file that a message names may be gone.
    yield _Secret(str(path), re.escape(str(path)) + r"[^\s,;:)]*", replacement)
    for part in path.parts:
        yield from _secrets_of_name(part, "<path>")
    # A path that the file system does not understand has nothing below it.
    with suppress(ValueError):
        for folder, name in itertools.islice(_files_below(path), _MOST_FILES):
            if name:
                whole = str(Path(folder, name))
                yield _Secret(whole, re.escape(whole), replacement)
                yield from _secrets_of_name(name, "<file>")
                continue
            for part in Path(folder).relative_to(path).parts:
                yield from _secrets_of_name(part, "<path>")


def _files_below(path: Path) -> Iterator[tuple[str, str]]:
    """Every folder, with the name of each file in it, and once with an empty name."""
    for folder, _, names in os.walk(path):
        yield from ((folder, name) for name in (*names, ""))


def _secrets_of_name(name: str, replacement: str) -> Iterator[_Secret]:
    for text in dict.fromkeys((name, name.split(".")[0], Path(name).stem)):
        if len(text) >= _SHORTEST_ID_IN_TEXT and text.casefold() not in _ORDINARY:
            yield _Secret(text, rf"(?<!\w){re.escape(text)}(?!\w)", replacement)


def _identifies(text: str, case: Case) -> bool:
    names = {case.case_id, case.patient_id, case.image.name, case.mask.name if case.mask else ""} - {""}
    return any(text == name or (len(name) >= _SHORTEST_ID_IN_TEXT and name in text) for name in names)


def _existing_salt(path: Path) -> bytes:
    if not path.is_file():
        raise _unusable(path, "not a regular file")
    try:
        with path.open(encoding="ascii") as file:
            salt = bytes.fromhex(file.read(_LONGEST_SALT).strip())
    except (OSError, ValueError) as error:
        raise _unusable(path, str(error)) from error
    if len(salt) < _SALT_BYTES:
        raise _unusable(path, f"{len(salt)} bytes")
    return salt


def _unusable(path: Path, found: str) -> DatasetError:
    return DatasetError(
        "The file with the salt of the hashed ids cannot be used.",
        case=path,
        found=found,
        expected=f"a file with {2 * _SALT_BYTES} hexadecimal digits, or a folder in which to make it",
        remedy="Restore the file, name another file, or keep the table's ids. With a new salt every hash changes.",
        arguments=("salt_file", "keep_ids"),
    )
