"""Version directories of a model folder, MODELS/ggn/1, 2, ..., as TensorFlow Serving reads them."""

from pathlib import Path

from ggn_tf.errors import ExportError
from ggn_tf.serving.contract.names import ASSETS_EXTRA, CONTRACT_FILE


def list_versions(folder: Path) -> dict[int, Path]:
    """The version directories by number.

    A name counts if it is a whole number (00000123 is 123); everything else, such as half-written exports, is ignored.

    Args:
        folder: A model folder.

    Raises:
        OSError: The folder cannot be read.
    """
    return {int(path.name): path for path in folder.iterdir() if _is_number(path.name) and path.is_dir()}


def next_version(folder: Path) -> int:
    """One more than the largest existing number, files of such a name included; 1 in a new folder."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return 1 + max((int(name) for name in names if _is_number(name)), default=0)


def newest_version(folder: Path) -> tuple[int, Path]:
    """The newest version directory of a model folder, with its number.

    Args:
        folder: A model folder, MODELS/ggn.

    Raises:
        ExportError: There is none.
    """
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
    """A version directory: the folder itself, or the newest in a model folder.

    Args:
        folder: MODELS/ggn, or MODELS/ggn/3.

    Returns:
        Version number (0 for a version directory that was renamed) and folder.

    Raises:
        ExportError: There is no export.
    """
    if (folder / ASSETS_EXTRA / CONTRACT_FILE).is_file():
        return int(folder.name) if _is_number(folder.name) else 0, folder
    return newest_version(folder)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _contents(folder: Path) -> str:
    if not folder.exists():
        return "no such folder"
    if not folder.is_dir():
        return "a file"
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join([*names[:5], *(["..."] if len(names) > 5 else [])]) or "an empty folder"
