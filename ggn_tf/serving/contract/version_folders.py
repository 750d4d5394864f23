"""Version directories of a model folder, MODELS/ggn/1, 2, ..., as TensorFlow Serving reads them, and their checksums.

With the checksums a version that was damaged by a copy, a disk or a transfer is not served. `sha256sum` reads the same
list: `cd MODELS/ggn/1 && sha256sum -c assets.extra/SHA256SUMS`.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ggn_tf.errors import ExportError
from ggn_tf.files import sha256
from ggn_tf.serving.contract.wire import ASSETS_EXTRA, CONTRACT_FILE

LARGEST_VERSION = 2**63 - 1
_VERSION = re.compile(r"[ \t\n\v\f\r]*\+?0*([0-9]+)[ \t\n\v\f\r]*")
_MOST_DIGITS = len(str(LARGEST_VERSION))


def list_versions(folder: Path) -> dict[int, Path]:
    """The version directories by number.

    A name counts as it does for TensorFlow Serving (00000123 and +123 are 123; of several names of one number the last
    in the order of their characters is taken) if the number fits into its 64 bits and is not negative. Everything else,
    such as half-written exports, is ignored, and so are links.

    Raises:
        OSError: The folder cannot be read.
    """
    numbered = ((_number(path.name), path) for path in sorted(folder.iterdir(), key=lambda path: path.name))
    return {number: path for number, path in numbered if number is not None and path.is_dir() and not path.is_symlink()}


def next_version(folder: Path) -> int:
    """One more than the largest existing number, files of such a name included; 1 in a new folder.

    Raises:
        ExportError: The largest possible number exists.
    """
    numbers = [_number(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    version = 1 + max((number for number in numbers if number is not None), default=0)
    if version > LARGEST_VERSION:
        raise ExportError(
            "There is no higher version number.",
            case=folder,
            found=f"version {LARGEST_VERSION}",
            expected="versions below the largest number that the protocol can send",
            remedy="Rename that version to a lower number, or export to another folder.",
        )
    return version


def newest_version(folder: Path) -> tuple[int, Path]:
    """The newest version directory of a model folder, with its number; raises ExportError where there is none."""
    versions = list_versions(folder) if folder.is_dir() else {}
    if not versions:
        raise ExportError(
            "There is no export here.",
            case=folder,
            found=_contents(folder),
            expected="a model folder with version directories 1, 2, ...",
            remedy="Write one with ggn-tf export, and give the folder that contains its version directories.",
        )
    return max(versions.items())


def find_version(folder: Path) -> tuple[int, Path]:
    """A version directory: the folder itself (MODELS/ggn/3), or the newest in a model folder (MODELS/ggn).

    Returns its number, 0 for a version directory that was renamed, and the folder.
    """
    if _is_regular(folder / ASSETS_EXTRA / CONTRACT_FILE):
        return _number(folder.name) or 0, folder
    return newest_version(folder)


def _number(name: str) -> int | None:
    """The version number that TensorFlow Serving reads from a name (absl::SimpleAtoi); None for none or a negative."""
    match = _VERSION.fullmatch(name)
    number = int(match[1]) if match and len(match[1]) <= _MOST_DIGITS else None
    return number if number is not None and number <= LARGEST_VERSION else None


def _contents(folder: Path) -> str:
    if not folder.exists():
        return "no such folder"
    if not folder.is_dir():
        return "a file"
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join([*names[:5], *(["..."] if len(names) > 5 else [])]) or "an empty folder"


CHECKSUMS_FILE = "SHA256SUMS"
SIGNATURE_FILE = "SHA256SUMS.sig"
_UNLISTED = (CHECKSUMS_FILE, SIGNATURE_FILE)
_MOST_ENTRIES = 10_000
_LARGEST_RECORD_BYTES = 2**24


class Entry(NamedTuple):
    """A file of a version directory, or a link, pipe, socket or device."""

    name: str
    path: Path
    status: os.stat_result

    @property
    def regular(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)


def entries(version_folder: Path) -> Iterator[Entry]:
    """All that is in a version directory except folders, in the order of names; no link is followed.

    Hidden files, which file systems and desktops create, are left out.

    Raises:
        ExportError: There are more than 10,000.
        OSError: A folder cannot be read.
    """
    count, folders = 0, [version_folder]
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in found if not entry.name.startswith("."))
        for path in (folder / name for name in names):
            count += 1
            if count > _MOST_ENTRIES:
                raise _damaged(version_folder, f"more than {_MOST_ENTRIES} files")
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
            else:
                yield Entry(path.relative_to(version_folder).as_posix(), path, status)


def read_record(version_folder: Path, name: str) -> bytes:
    """The content of one of the small files in `assets.extra`.

    Raises:
        OSError: It is not a regular file of at most 16 MiB, or cannot be read.
    """
    file = version_folder / ASSETS_EXTRA / name
    # A pipe is opened without waiting for its writer.
    with os.fdopen(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_RECORD_BYTES:
            raise OSError(f"{ASSETS_EXTRA}/{name} is not a regular file of at most 16 MiB")
        return stream.read(_LARGEST_RECORD_BYTES)


def write_checksums(version_folder: Path) -> None:
    """List all files of a version directory."""
    (version_folder / ASSETS_EXTRA / CHECKSUMS_FILE).write_text(_checksums(version_folder), encoding="utf-8")


def version_sha256(version_folder: Path) -> str:
    """The digest of a version's list of checksums, of a version without a list that of the list it would have.

    Raises:
        OSError: A file cannot be read.
    """
    listed = read_record(version_folder, CHECKSUMS_FILE) if has_checksums(version_folder) else None
    return hashlib.sha256(listed or _checksums(version_folder).encode()).hexdigest()


def _checksums(version_folder: Path) -> str:
    return "".join(f"{sha256(file)}  {name}\n" for name, file in _files(version_folder).items())


def has_checksums(version_folder: Path) -> bool:
    """Whether a version directory has a list; one that may not be read counts as present."""
    try:
        return _is_regular(version_folder / ASSETS_EXTRA / CHECKSUMS_FILE)
    except PermissionError:
        return True


def _is_regular(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def check_checksums(version_folder: Path) -> None:
    """Compare a version directory with its list.

    Raises:
        ExportError: There is no list, a file is missing, has changed or is not listed, or something cannot be read.
    """
    try:
        listed, present = _listed(version_folder), _files(version_folder)
        for name in sorted(listed.keys() | present.keys()):
            if name not in present or name not in listed:
                raise _damaged(version_folder, f"{name} is {'not listed' if name in present else 'missing'}")
            if sha256(present[name]) != listed[name]:
                raise _damaged(version_folder, f"{name} has changed")
    except OSError as error:
        raise unreadable(version_folder, error) from error


def check_regular(version_folder: Path) -> None:
    """Check that a version directory contains only folders and regular files; raises ExportError if not."""
    try:
        special = next((entry.name for entry in entries(version_folder) if not entry.regular), None)
    except OSError as error:
        raise unreadable(version_folder, error) from error
    if special is not None:
        raise ExportError(
            "The version contains a link or a special file.",
            case=version_folder,
            found=special,
            expected="folders and regular files",
            remedy="Copy the version again, with the files that its links name.",
        )


def _listed(version_folder: Path) -> dict[str, str]:
    content = read_record(version_folder, CHECKSUMS_FILE).decode("utf-8", errors="replace")
    listed = {}
    for number, line in enumerate(content.splitlines(), start=1):
        digest, gap, name = line.partition("  ")
        if not gap:
            raise _damaged(version_folder, f"{CHECKSUMS_FILE}, line {number} is not 'DIGEST  NAME'")
        listed[name] = digest
    return listed


def _files(version_folder: Path) -> dict[str, Path]:
    """The regular files by name, without the list itself and its signature."""
    found = sorted(entry for entry in entries(version_folder) if entry.regular)
    return {entry.name: entry.path for entry in found if entry.path.name not in _UNLISTED}


def unreadable(version_folder: Path, error: OSError) -> ExportError:
    """The error of a version directory that cannot be read."""
    return ExportError(
        "The version cannot be read.",
        case=version_folder,
        found=str(error),
        expected="files that this user may read, on a disk that works",
        remedy="Grant the right to read them, or copy the version again.",
    )


def _damaged(version_folder: Path, found: str) -> ExportError:
    return ExportError(
        "The version is damaged.",
        case=version_folder,
        found=found,
        expected=f"the files that {ASSETS_EXTRA}/{CHECKSUMS_FILE} lists",
        remedy="Copy the version again, or export the run again.",
    )
