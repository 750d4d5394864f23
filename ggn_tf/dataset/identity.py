"""Who is who: ids leave the hospital as salted hashes.

One salt a user makes the same patient the same hash in all of the user's datasets, so that an external validation can
refuse patients that a model was trained on, and nobody without the salt can try out names.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ggn_tf.cases.table import Case
from ggn_tf.errors import DatasetError

_HASH_DIGITS = 12
_SALT_BYTES = 32
# Shorter ids occur within words and numbers by chance.
_SHORTEST_ID_IN_TEXT = 4


def read_salt(path: Path) -> bytes:
    """Read a salt; it is made, readable by its owner alone, where the file does not exist.

    Raises:
        DatasetError: The file cannot be read or made, or holds no salt.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _existing_salt(path)
    except OSError as error:
        raise _unusable(path, str(error)) from error
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(_SALT_BYTES) + "\n")
    return _existing_salt(path)


@dataclass(frozen=True)
class Pseudonyms:
    """What stands for the table's ids in a dataset.

    Attributes:
        salt: Of the hashes; None keeps ids and columns as they are.
    """

    salt: bytes | None

    def id_of(self, text: str) -> str:
        """The id that the dataset carries: the first 12 hex digits of HMAC-SHA256(salt, id)."""
        if self.salt is None:
            return text
        return hmac.new(self.salt, text.encode(), hashlib.sha256).hexdigest()[:_HASH_DIGITS]

    def hide(self, text: str, case: Case) -> str:
        """A text about a case without its paths and ids."""
        if self.salt is None:
            return text
        for path, name in ((case.image, "<image>"), (case.mask, "<mask>")):
            if path is not None:
                # With what follows, as the names of a folder's files may tell as much.
                text = re.sub(re.escape(str(path)) + r"[^\s,;:)]*", name, text)
        # A PACS finds the patient by a DICOM UID.
        text = re.sub(r"\b\d+(\.\d+){5,}\b", "<uid>", text)
        for raw in sorted({case.case_id, case.patient_id}, key=len, reverse=True):
            if len(raw) >= _SHORTEST_ID_IN_TEXT:
                text = text.replace(raw, self.id_of(raw))
        return text

    def telling_columns(self, cases: Iterable[Case]) -> set[str]:
        """The further columns that name a case, a patient or a file in some row: they are not carried along."""
        if self.salt is None:
            return set()
        return {column for case in cases for column, text in case.extra.items() if _tells(text, case)}


def _tells(text: str, case: Case) -> bool:
    names = {case.case_id, case.patient_id, case.image.name, case.mask.name if case.mask else ""} - {""}
    return any(text == name or (len(name) >= _SHORTEST_ID_IN_TEXT and name in text) for name in names)


def _existing_salt(path: Path) -> bytes:
    try:
        salt = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise _unusable(path, str(error)) from error
    if len(salt) < _SALT_BYTES:
        raise _unusable(path, f"{len(salt)} bytes")
    return salt


def _unusable(path: Path, found: str) -> DatasetError:
    return DatasetError(
        "The salt that hides the ids cannot be used.",
        case=path,
        found=found,
        expected=f"a file with {2 * _SALT_BYTES} hexadecimal digits, or a place to make it",
        remedy="Restore the file, name another with --salt-file, or keep the ids as they are with --keep-ids. "
        "With a new salt the same patient gets another hash.",
    )
