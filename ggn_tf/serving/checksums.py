"""Checksums of a version directory: what a copy, a disk or a transfer has damaged is not served.

The list is the one that `sha256sum` reads: `cd MODELS/ggn/1 && sha256sum --check assets.extra/SHA256SUMS`.
"""

from pathlib import Path

from ggn_tf.errors import ExportError
from ggn_tf.files import sha256
from ggn_tf.serving.contract import ASSETS_EXTRA

CHECKSUMS_FILE = "SHA256SUMS"


def write_checksums(version_folder: Path) -> None:
    """List every file that is in a version directory so far."""
    lines = [f"{sha256(file)}  {name}\n" for name, file in _files(version_folder).items()]
    (version_folder / ASSETS_EXTRA / CHECKSUMS_FILE).write_text("".join(lines), encoding="utf-8")


def check_checksums(version_folder: Path) -> None:
    """Compare a version directory with its list; one without a list, of another program's, is taken as it is.

    Raises:
        ExportError: A file is missing, has changed or is not listed, or the list cannot be read.
    """
    file = version_folder / ASSETS_EXTRA / CHECKSUMS_FILE
    if not file.is_file():
        return
    try:
        listed = {
            name: digest
            for digest, name in (line.split("  ", 1) for line in file.read_text(encoding="utf-8").splitlines())
        }
        present = _files(version_folder)
        for name in sorted(listed.keys() | present.keys()):
            if name not in present or name not in listed:
                raise _damaged(version_folder, f"{name} is {'not listed' if name in present else 'missing'}")
            if sha256(present[name]) != listed[name]:
                raise _damaged(version_folder, f"{name} has changed")
    except (OSError, ValueError) as error:
        raise _damaged(version_folder, f"{CHECKSUMS_FILE}: {error}") from error


def _files(version_folder: Path) -> dict[str, Path]:
    """By name; hidden ones, which file systems and desktops leave, and the list itself do not count."""
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
        remedy=f"Copy the version anew, or export the run anew; delete {CHECKSUMS_FILE} where the change was meant.",
    )
