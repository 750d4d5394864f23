"""One process per run folder."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor, unlock_descriptor

from ggn_tf.errors import RunError
from ggn_tf.files import (
    clean_folder,
    former_name,
    is_missing_function,
    is_temporary,
    make_private_folder,
    refuse_links,
    warn_of_limits,
)

_LOCK = ".lock"
# What the product reads, writes and deletes in a run folder; a user's own files beside it are left alone.
_FILES = (
    _LOCK,
    "run.json",
    "start.keras",
    "source_cases.json",
    ".former.run.json",
    "stages.json",
    ".former.stages.json",
    "history.csv",
    "model.keras",
    "split.json",
)
_FOLDERS = ("checkpoints", "stages", "tensorboard", "evaluation")
# Not followed if it is a link. Windows has no such flag.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
# A pipe is opened without waiting for its other end.
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_POLL_S = 0.2


@contextmanager
def lock_run(folder: Path, patience_s: float = 0.0, *, shared: bool = False) -> Iterator[None]:
    """Keep other processes off a run folder within the block; the operating system frees the lock of a killed process.

    The folder is created if it does not exist, for its owner alone unless it is `shared`. Files that a killed process
    left under temporary names are first restored where they are the only copy, and deleted otherwise. `patience_s` is
    the time in seconds to wait for another process to end.

    Raises:
        RunError: Another process trains in the folder, or the folder contains something else than a run, or links.
    """
    _refuse_foreign(folder)
    refuse_run_links(folder)
    make_private_folder(folder, shared=shared)
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | _NO_LINK | _NO_WAIT, 0o666)
    try:
        if not _acquire(handle, folder, patience_s):
            raise RunError(
                "Another process is training in this run folder.",
                case=folder,
                found="a locked folder",
                expected="one process per run",
                remedy="Wait until it ends, stop it, or choose another folder.",
                arguments=("run",),
            )
        for part in (folder, folder / "checkpoints", folder / "stages"):
            clean_folder(part)
        yield
    finally:
        # Closing it frees the lock.
        os.close(handle)


def _acquire(handle: int, folder: Path, patience_s: float) -> bool:
    """Whether the lock was free within the time, or cannot be had at all because the file system has no locks."""
    ends = time.monotonic() + patience_s
    try:
        while not lock_descriptor(handle, blocking=False):
            if time.monotonic() >= ends:
                return False
            time.sleep(_POLL_S)
    except OSError as error:
        if not is_missing_function(error):
            raise
        warn_of_limits(folder)
    return True


def refuse_run_links(folder: Path) -> None:
    """Refuse a run folder in which a file or folder of ours is a link; raises RunError."""
    refuse_links(folder, (*_FILES, *_FOLDERS), RunError)


def is_locked(folder: Path) -> bool:
    """Whether a process trains in a run folder right now; nothing is changed, and read access is enough."""
    # NFS locks only what is open for writing.
    for mode in ("r+b", "rb"):
        with suppress(OSError), open(folder / _LOCK, mode, opener=_open_no_link) as file:
            if not lock_descriptor(file.fileno(), blocking=False):
                return True
            unlock_descriptor(file.fileno())
            return False
    return False


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | _NO_LINK | _NO_WAIT)


def _refuse_foreign(folder: Path) -> None:
    described = (folder / "run.json").exists() or former_name(folder / "run.json").exists()
    if folder.is_dir() and (described or all(map(_is_ours, folder.iterdir()))):
        return
    if folder.exists():
        raise RunError(
            "The run folder is in use by something else.",
            case=folder,
            found="files, but no run.json" if folder.is_dir() else "a file",
            expected="a run of ggn-tf, or an empty or new folder",
            remedy="Choose another folder.",
            arguments=("run",),
        )


def _is_ours(path: Path) -> bool:
    """Whether a process that was killed while it wrote run.json leaves such a file."""
    return path.name == _LOCK or is_temporary(path)
