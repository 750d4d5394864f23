"""Files and folders that exist whole or not at all: written under a temporary name, then renamed."""

import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
import warnings
from collections.abc import Iterable, Iterator
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
# How every name begins that only this module gives: of what is being written, and of what makes room for its new
# content.
_MARK = ".ggn-tf-"
TEMPORARY, _FORMER = f"{_MARK}temporary.", f"{_MARK}former."
# The end of a name that `tempfile` makes.
_RANDOM = re.compile(r"\w{8}", re.ASCII)
# Windows has neither.
_NO_LINK, _FOLDER = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_DIRECTORY", 0)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it is renamed to `path` at the end, or deleted after an error.

    The content reaches the disk before the name does, so a power cut leaves the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _reach_disk(temporary)
        _set_mode(temporary, 0o666 & ~_umask())
        _take_name(temporary, path)
        _reach_disk(path.parent)
    finally:
        # A failure to delete would hide the error that made it necessary.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it is renamed to `path` at the end, or deleted after an error.

    Everything in it reaches the disk before the name does. A `path` that is a link is the folder that it leads to. What
    a killed process left of an earlier attempt is deleted first.

    Args:
        path: The folder; one that exists keeps its mode.
        private: Whether only the owner may enter a new folder, as one with patient data; else the umask decides.

    Raises:
        FileExistsError: `path` exists and is not an empty folder.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    with _temporary_folder(path) as temporary:
        yield temporary
        _complete(temporary, _folder_mode(path, private))
        _take_name(temporary, path)
        _reach_disk(path.parent)


def move_folder(folder: Path, path: Path) -> None:
    """Rename a folder to a free name; a power cut leaves it under one of both names."""
    folder.rename(path)
    for parent in {folder.parent, path.parent}:
        _reach_disk(parent)


@contextmanager
def replaced_folder(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a new folder; it replaces `path` at the end, which stays unchanged after an error.

    A kill between the two renames leaves no `path` but the former one beside it; the next call restores it first.
    `path` and `private` are as in `atomic_folder`.
    """
    path = Path(os.path.realpath(path))
    former = path.with_name(_FORMER + path.name)
    if former.is_dir() and not former.is_symlink() and not path.exists():
        former.rename(path)
    shutil.rmtree(former, ignore_errors=True)
    with _temporary_folder(path) as temporary:
        yield temporary
        _complete(temporary, _folder_mode(path, private))
        rest = former
        if os.path.lexists(former):
            # A file in it is still open somewhere, which NFS and SMB do not delete.
            rest = Path(tempfile.mkdtemp(prefix=f"{former.name}.", dir=path.parent))
            former = rest / path.name
        if path.exists():
            path.rename(former)
        try:
            temporary.rename(path)
        except OSError:
            if former.exists():
                former.rename(path)
            shutil.rmtree(rest, ignore_errors=True)
            raise
        _reach_disk(path.parent)
    shutil.rmtree(rest, ignore_errors=True)


@contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`, which is deleted at the end if it still has its name.

    It is locked as long as this process lives: what a killed process left differs from what another writes. Parents
    that were made for it are deleted if nothing is in them at the end.
    """
    made: set[Path] = set()
    temporary, handle = None, None
    try:
        try:
            temporary, handle = _new_beside(path, made)
        except FileNotFoundError:
            # Another command that failed meanwhile has deleted the parents that it had made.
            temporary, handle = _new_beside(path, made)
        yield temporary
    finally:
        if handle is not None:
            os.close(handle)
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            for parent in sorted(made, reverse=True):
                parent.rmdir()


@contextmanager
def working_folder(name: str) -> Iterator[Path]:
    """Yield a folder among the system's temporary ones that only its owner may enter, and delete it at the end.

    What killed processes left under the same name is deleted first.
    """
    with _temporary_folder(Path(tempfile.gettempdir(), name)) as folder:
        yield folder


def _new_beside(path: Path, made: set[Path]) -> tuple[Path, int | None]:
    """As `_new_locked`; the parents that did not exist are added to `made`."""
    made.update(parent for parent in path.parents if not parent.exists())
    path.parent.mkdir(parents=True, exist_ok=True)
    _delete_abandoned(path)
    return _new_locked(path)


def _new_locked(path: Path) -> tuple[Path, int | None]:
    """A new temporary folder and its locked descriptor; None where folders cannot be locked."""
    while True:
        temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{path.name}.", dir=path.parent))
        with suppress(OSError):
            handle = os.open(temporary, os.O_RDONLY)
            with suppress(OSError):
                if _locks(handle) and temporary.exists():
                    return temporary, handle
                # Another process has just taken it for abandoned.
                os.close(handle)
                continue
            os.close(handle)
        return temporary, None


def _locks(handle: int) -> bool:
    # With asyncio, a quarter of the time in which the command line starts.
    from filelock import lock_descriptor

    return lock_descriptor(handle, blocking=False)


def _delete_abandoned(path: Path) -> None:
    """Delete the user's own temporary folders for `path` that no living process has locked."""
    prefix = f"{TEMPORARY}{path.name}."
    for folder in list(path.parent.iterdir()):
        if not folder.name.startswith(prefix) or not _RANDOM.fullmatch(folder.name.removeprefix(prefix)):
            continue
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | _NO_LINK | _FOLDER)
            try:
                if _is_own(handle) and _locks(handle):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def _is_own(handle: int) -> bool:
    return not hasattr(os, "getuid") or os.fstat(handle).st_uid == os.getuid()


def _complete(folder: Path, mode: int) -> None:
    """Wait until a folder and all in it are on the disk, and set its mode."""
    for written in (*folder.rglob("*"), folder):
        _reach_disk(written)
    _set_mode(folder, mode)


def clean_folder(folder: Path) -> None:
    """Tidy up after a process that was killed while it wrote files into a folder.

    A name is given back that `atomic_file` took between its two renames, and half-written files are deleted. Only
    regular files under this module's own temporary names are touched.
    """
    if folder.is_symlink() or not folder.is_dir():
        return
    for file in list(folder.iterdir()):
        if is_temporary(file):
            file.unlink()
        elif file.name.startswith(_FORMER) and _is_regular(file):
            path = file.with_name(file.name.removeprefix(_FORMER))
            if path.exists():
                file.unlink()
            else:
                file.rename(path)


def is_temporary(path: Path) -> bool:
    """Whether a path is a file that `atomic_file` has begun and not finished."""
    return path.name.startswith(TEMPORARY) and _is_regular(path)


def former_name(path: Path) -> Path:
    """Where a file's content is kept while its name is given to the new content."""
    return path.with_name(_FORMER + path.name)


def refuse_links(folder: Path, names: Iterable[str], kind: type[GgnError] = GgnError) -> None:
    """Refuse links, pipes and devices among what is read, written or deleted in a folder, at any depth.

    A folder that comes from someone else could lead to files of the user through them. The folder itself may be a link,
    since the user named it.

    Args:
        folder: The folder; it need not exist.
        names: Names in it that are ours; they need not exist. What is not ours is not looked at.
        kind: The class of the error.

    Raises:
        GgnError: One of them is neither a regular file nor a folder.
    """
    for path in _entries(folder / name for name in names):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise kind(
                "A folder contains something that is neither a file nor a folder.",
                case=path,
                found=f"a link to {os.fspath(path.readlink())}" if path.is_symlink() else "a pipe, socket or device",
                expected="regular files and folders, which are the only ones that ggn-tf writes",
                remedy="Replace the link by a copy of what it leads to, if that belongs there. Do not use a folder of "
                "unknown origin.",
            )


def _entries(paths: Iterable[Path]) -> Iterator[Path]:
    """The paths that exist, and everything below them; links are not followed."""
    for path in paths:
        if os.path.lexists(path):
            yield path
            for parent, folders, files in os.walk(path):
                yield from (Path(parent, name) for name in (*folders, *files))


def _is_regular(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def refuse_read_only(folder: Path) -> None:
    """Raise GgnError where results cannot be written, before the work is done: tries the nearest folder that exists.

    The folder, in which something will be made, need not exist; the argument `output` names it.
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
            arguments=("output",),
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


def _folder_mode(path: Path, private: bool) -> int:
    """The mode of a folder that gets the name `path`: that of the one that it replaces, or a new one's."""
    if path.is_dir():
        return stat.S_IMODE(path.stat().st_mode)
    return 0o700 if private else 0o777 & ~_umask()


def make_private_folder(folder: Path, *, shared: bool = False) -> None:
    """Make a folder that only its owner may enter, unless it is shared; one that exists keeps its mode.

    Its parents are made as the umask has it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o777 if shared else 0o700, exist_ok=True)


def _set_mode(path: Path, mode: int) -> None:
    try:
        path.chmod(mode)
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
        former = former_name(path)
        former.unlink(missing_ok=True)
        path.rename(former)
        try:
            temporary.rename(path)
        except OSError:
            former.rename(path)
            raise
        former.unlink()


def _umask() -> int:
    # Until it is set again, files of other threads are private and not open to all.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
