"""One process per run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout, lock_descriptor, unlock_descriptor

from ggn_tf.errors import RunError

_LOCK = ".lock"
_POLL_S = 0.2


@contextmanager
def lock_run(folder: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Keep other processes off a run folder within the block; the operating system frees the lock of a killed process.

    The folder is created if it does not exist. Files that a killed process left under temporary names are deleted
    first. `patience_s` is the time in seconds to wait for another process to end.

    Raises:
        RunError: Another process trains in the folder, or the folder contains something else than a run.
    """
    _refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Without `preserve_lock_file`, a file system without locks would get a file that outlives a killed process.
    lock = FileLock(folder / _LOCK, timeout=patience_s, poll_interval=_POLL_S, preserve_lock_file=True)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunError(
            "Another process is training in this run folder.",
            case=folder,
            found="a locked folder",
            expected="one process per run",
            remedy="Wait until it ends, stop it, or choose another folder.",
            arguments=("run",),
        ) from error
    try:
        for part in (folder, folder / "checkpoints", folder / "stages"):
            for leftover in part.glob(".*-*.*"):
                leftover.unlink()
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a process trains in a run folder right now; nothing is changed, and read access is enough."""
    if not (folder / _LOCK).exists():
        return False
    with (folder / _LOCK).open("rb") as file:
        if not lock_descriptor(file.fileno(), blocking=False):
            return True
        unlock_descriptor(file.fileno())
    return False


def _refuse_foreign(folder: Path) -> None:
    if folder.is_dir() and ((folder / "run.json").exists() or all(map(_is_ours, folder.iterdir()))):
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
    return path.name == _LOCK or path.match(".run-*.json")
