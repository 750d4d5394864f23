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
    listed = version_folder / ASSETS_EXTRA / CHECKSUMS_FILE
    files = sorted(file for file in version_folder.rglob("*") if file.is_file() and file != listed)
    lines = [f"{sha256(file)}  {file.relative_to(version_folder).as_posix()}\n" for file in files]
    listed.write_text("".join(lines), encoding="utf-8")


def check_checksums(version_folder: Path) -> None:
    """Compare a version directory with its list; one without a list, as earlier releases wrote it, is taken as it is.

    Raises:
        ExportError: A file is missing or has changed, or the list cannot be read.
    """
    listed = version_folder / ASSETS_EXTRA / CHECKSUMS_FILE
    if not listed.is_file():
        return
    try:
        for line in listed.read_text(encoding="utf-8").splitlines():
            digest, name = line.split("  ", 1)
            file = version_folder / name
            if not file.is_file() or sha256(file) != digest:
                raise _damaged(version_folder, f"{name} is {'another' if file.is_file() else 'missing'}")
    except (OSError, ValueError) as error:
        raise _damaged(version_folder, f"{CHECKSUMS_FILE}: {error}") from error


def _damaged(version_folder: Path, found: str) -> ExportError:
    return ExportError(
        "The version is damaged.",
        case=version_folder,
        found=found,
        expected=f"the files that {ASSETS_EXTRA}/{CHECKSUMS_FILE} lists",
        remedy=f"Copy the version anew, or export the run anew; delete {CHECKSUMS_FILE} where the change was meant.",
    )
