"""The files with an item's result, each with its SHA-256 beside it, in the form that `sha256sum -c` reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ggn_tf.errors import RunError
from ggn_tf.files import atomic_file, sha256

_SUFFIX = ".sha256"
_LARGEST_BYTES = 4096


@contextmanager
def recorded(path: Path) -> Iterator[None]:
    """Record the digest of the file that the block writes."""
    record = _record_of(path)
    # A kill in between leaves a file without a record and never one with another's.
    record.unlink(missing_ok=True)
    yield
    with atomic_file(record) as temporary:
        temporary.write_text(f"{sha256(path)}  {path.name}\n", encoding="utf-8")


def check_recorded(path: Path, *, required: bool = False) -> None:
    """Refuse a file that is not the one that was written; files of older versions have no record.

    Args:
        path: The file.
        required: Whether a missing file, and one without a record, are refused too.

    Raises:
        RunError: It has another digest.
    """
    record = _record_of(path)
    if not record.is_file():
        if not required:
            return
        expected = f"in {record.name}"
    else:
        with record.open("rb") as stream:
            expected = stream.read(_LARGEST_BYTES).decode("utf-8", "replace").partition("  ")[0]
    found = sha256(path) if path.is_file() else "of no file"
    if found != expected:
        raise RunError(
            "A result of the study is not the one that was written.",
            case=path,
            found=f"SHA-256 {found}",
            expected=f"SHA-256 {expected}",
            remedy=f"Restore the file from a copy, or delete it and {record.name}; the study then makes it again.",
        )


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + _SUFFIX)
