"""One process a run folder."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ggn_tf.errors import RunError

_LOCK = ".lock"
_POLL_S = 0.2


@contextmanager
def lock_run(folder: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Keep a second process off a run folder, which is made where it does not exist, while the block lasts.

    Files that a killed process left under temporary names are cleared away first.

    Args:
        folder: The run folder.
        patience_s: How long to wait for a process that is about to end.

    Raises:
        RunError: Another process trains in the folder, or it holds something else than a run.
    """
    _refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as handle:
        if not _acquire(handle, patience_s):
            raise RunError(
                "Another process is training in this run folder.",
                case=folder,
                found="its lock is held",
                expected="one process a run",
                remedy="Wait for it, stop it, or name another folder with -o.",
            )
        for part in (folder, folder / "checkpoints", folder / "stages"):
            for leftover in part.glob(".*-*.*"):
                leftover.unlink()
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process trains in a run folder right now; nothing is changed."""
    if not (folder / _LOCK).exists():
        return False
    with (folder / _LOCK).open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _acquire(handle: IO[str], patience_s: float) -> bool:
    ends = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= ends:
                return False
        time.sleep(_POLL_S)


def _refuse_foreign(folder: Path) -> None:
    if folder.is_dir() and ((folder / "run.json").exists() or all(map(_is_ours, folder.iterdir()))):
        return
    if folder.exists():
        raise RunError(
            "The run folder is in use by something else.",
            case=folder,
            found="files, but no run.json" if folder.is_dir() else "a file",
            expected="a run of ggn-tf, or an empty or new folder",
            remedy="Name another folder with -o.",
        )


def _is_ours(path: Path) -> bool:
    """Whether a folder without run.json may hold it: a process that was killed while it wrote that file leaves both."""
    return path.name == _LOCK or path.match(".run-*.json")
