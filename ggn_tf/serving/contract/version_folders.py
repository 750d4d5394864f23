"""Version directories of a model folder, MODELS/ggn/1, 2, ..., as TensorFlow Serving reads them, and their checksums.

With the checksums a version that was damaged by a copy, a disk or a transfer is not served. `sha256sum` reads the same
list: `cd MODELS/ggn/1 && sha256sum -c assets.extra/SHA256SUMS`.
"""

import re
from pathlib import Path

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
    such as half-written exports, is ignored.

    Raises:
        OSError: The folder cannot be read.
    """
    numbered = ((_number(path.name), path) for path in sorted(folder.iterdir(), key=lambda path: path.name))
    return {number: path for number, path in numbered if number is not None and path.is_dir()}


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
    if (folder / ASSETS_EXTRA / CONTRACT_FILE).is_file():
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


def write_checksums(version_folder: Path) -> None:
    """List all files of a version directory."""
    lines = [f"{sha256(file)}  {name}\n" for name, file in _files(version_folder).items()]
    (version_folder / ASSETS_EXTRA / CHECKSUMS_FILE).write_text("".join(lines), encoding="utf-8")


def has_checksums(version_folder: Path) -> bool:
    """Whether a version directory has a list; one that may not be read counts as present."""
    try:
        return (version_folder / ASSETS_EXTRA / CHECKSUMS_FILE).is_file()
    except PermissionError:
        return True


def check_checksums(version_folder: Path) -> None:
    """Compare a version directory with its list; one without a list, by another program, passes.

    Raises:
        ExportError: A file is missing, has changed or is not listed, or something cannot be read.
    """
    if not has_checksums(version_folder):
        return
    try:
        _check(version_folder)
    except OSError as error:
        raise ExportError(
            "The version cannot be read.",
            case=version_folder,
            found=str(error),
            expected="files that this user may read, on a disk that works",
            remedy="Grant the right to read them, or copy the version again.",
        ) from error


def _check(version_folder: Path) -> None:
    listed, present = _listed(version_folder), _files(version_folder)
    for name in sorted(listed.keys() | present.keys()):
        if name not in present or name not in listed:
            raise _damaged(version_folder, f"{name} is {'not listed' if name in present else 'missing'}")
        if sha256(present[name]) != listed[name]:
            raise _damaged(version_folder, f"{name} has changed")


def _listed(version_folder: Path) -> dict[str, str]:
    content = (version_folder / ASSETS_EXTRA / CHECKSUMS_FILE).read_bytes().decode("utf-8", errors="replace")
    listed = {}
    for number, line in enumerate(content.splitlines(), start=1):
        digest, gap, name = line.partition("  ")
        if not gap:
            raise _damaged(version_folder, f"{CHECKSUMS_FILE}, line {number} is not 'DIGEST  NAME'")
        listed[name] = digest
    return listed


def _files(version_folder: Path) -> dict[str, Path]:
    """The files by name, without the list itself and without hidden files, which file systems and desktops create."""
    files = {file.relative_to(version_folder): file for file in sorted(version_folder.rglob("*")) if file.is_file()}
    return {
        name.as_posix(): file
        for name, file in files.items()
        if name.name != CHECKSUMS_FILE and not any(part.startswith(".") for part in name.parts)
    }


def _damaged(version_folder: Path, found: str) -> ExportError:
    return ExportError(
        "The version is damaged.",
        case=version_folder,
        found=found,
        expected=f"the files that {ASSETS_EXTRA}/{CHECKSUMS_FILE} lists",
        remedy=f"Copy the version again, or export the run again. Delete {CHECKSUMS_FILE} if the change was intended.",
    )
