"""Files and folders that exist whole or not at all: written under a temporary name, then renamed."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it is renamed to `path` at the end, or deleted after an error.

    The content reaches the disk before the name does, so a power cut leaves the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _reach_disk(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _reach_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it is renamed to `path` at the end, or deleted after an error.

    Raises:
        FileExistsError: `path` exists and is not an empty folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(path)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _reach_disk(file)
        temporary.chmod(0o777 & ~_umask())
        temporary.replace(path)
        _reach_disk(path.parent)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder; it replaces `path` at the end, which stays unchanged after an error.

    A kill between the two renames leaves no `path` but the former one beside it; the next call restores it first.
    """
    new, former = path.with_name(f".{path.name}-new"), path.with_name(f".{path.name}-former")
    if former.exists() and not path.exists():
        former.rename(path)
    for left_over in (new, former):
        shutil.rmtree(left_over, ignore_errors=True)
    with atomic_folder(new) as temporary:
        yield temporary
    if path.exists():
        path.rename(former)
    new.rename(path)
    shutil.rmtree(former, ignore_errors=True)


def sha256(file: Path) -> str:
    """The digest of a file's content, in hexadecimal digits as `sha256sum` prints it."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _reach_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
