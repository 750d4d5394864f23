"""Files and folders that exist whole or not at all: written under a temporary name, then renamed."""

import errno
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from ggn_tf.errors import GgnError, GgnWarning

# What file systems (NFS, SMB, FUSE, exFAT, 9p) report for a function that they do not have. 524 is the kernel's own
# ENOTSUPP, which some of them let through.
_MISSING = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOTTY, errno.EBADF, 524}
)
# Mode bits are also refused as if a right were missing, although the file is ours.
_NO_MODE = _MISSING | {errno.EPERM, errno.EACCES}
# A folder need not be readable to be written to.
_NO_FOLDER_SYNC = _MISSING | {errno.EPERM, errno.EACCES, errno.EISDIR}
# How a rename over an existing name fails where only free names can be taken.
_NO_OVERWRITE = _MISSING | {errno.EPERM, errno.EACCES, errno.EEXIST, errno.EBUSY, errno.ENOTEMPTY}
# Ends the name of a file that makes room for its new content, where that is necessary.
_FORMER = ".former"


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
        _set_mode(temporary, 0o666)
        _take_name(temporary, path)
        _reach_disk(path.parent)
    finally:
        # A failure to delete would hide the error that made it necessary.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it is renamed to `path` at the end, or deleted after an error.

    Raises:
        FileExistsError: `path` exists and is not an empty folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _reach_disk(file)
        _set_mode(temporary, 0o777)
        _take_name(temporary, path)
        _reach_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
    rest = former
    if former.exists():
        # A file in it is still open somewhere, which NFS and SMB do not delete.
        rest = Path(tempfile.mkdtemp(prefix=former.name, dir=path.parent))
        former = rest / path.name
    if path.exists():
        path.rename(former)
    try:
        new.rename(path)
    except OSError:
        if former.exists():
            former.rename(path)
        shutil.rmtree(rest, ignore_errors=True)
        raise
    shutil.rmtree(rest, ignore_errors=True)


def restore_former_files(folder: Path) -> None:
    """Give the files of a folder their names back which a kill between the two renames of `atomic_file` took."""
    for former in folder.glob(f".*{_FORMER}"):
        path = former.with_name(former.name.removeprefix(".").removesuffix(_FORMER))
        if path.exists():
            former.unlink()
        else:
            former.rename(path)


def refuse_read_only(folder: Path, argument: str = "output") -> None:
    """Refuse a place for results before the work is done, by writing a file to the nearest folder that exists.

    Args:
        folder: The folder in which something will be made; it need not exist.
        argument: The argument of the API that names it.

    Raises:
        GgnError: Nothing can be written there.
    """
    try:
        # `exists` raises for names that the file system refuses.
        existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise GgnError(
            "Nothing can be written there.",
            case=folder,
            found=error.strerror or type(error).__name__,
            expected="a folder that can be written to, with free space on the disk",
            remedy="Name another folder, or change the permissions of this one.",
            arguments=(argument,),
        ) from error


def is_missing_function(error: OSError) -> bool:
    """Whether an error says that a file system does not have a function, for example locks."""
    return error.errno in _MISSING


def warn_of_limits(path: Path) -> None:
    """Warn, once for each mounted file system, that it lacks a function that protects files."""
    parents = (path.absolute(), *path.absolute().parents)
    _warn_of_mount(next((folder for folder in parents if os.path.ismount(folder)), parents[-1]))


# Cached and not left to the filters of `warnings`, which forget what was shown whenever a library changes them.
@cache
def _warn_of_mount(mount: Path) -> None:
    warnings.warn(
        f"The file system at {mount} lacks locks, synced folders, permissions, or several of them. Work continues "
        "without: let one process at a time train in a run folder, and expect a power cut to lose the last files.",
        GgnWarning,
        stacklevel=3,
    )


def sha256(file: Path) -> str:
    """The digest of a file's content, in hexadecimal digits as `sha256sum` prints it."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _reach_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    folder = path.is_dir()
    if folder and os.name == "nt":
        # Windows opens no folders.
        return
    try:
        # Windows flushes only what is open for writing.
        handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in (_NO_FOLDER_SYNC if folder else _MISSING):
            raise
        warn_of_limits(path)


def _set_mode(path: Path, mode: int) -> None:
    try:
        path.chmod(mode & ~_umask())
    except OSError as error:
        if error.errno not in _NO_MODE:
            raise
        warn_of_limits(path)


def _take_name(temporary: Path, path: Path) -> None:
    """Rename over what is there; where that is impossible, by way of another name for what is there."""
    try:
        temporary.replace(path)
    except OSError as error:
        if error.errno not in _NO_OVERWRITE or not path.exists():
            raise
        if path.is_dir():
            # Only an empty folder is replaced.
            path.rmdir()
            temporary.rename(path)
            return
        former = path.with_name(f".{path.name}{_FORMER}")
        former.unlink(missing_ok=True)
        path.rename(former)
        try:
            temporary.rename(path)
        except OSError:
            former.rename(path)
            raise
        former.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
