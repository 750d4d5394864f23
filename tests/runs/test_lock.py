import errno
import fcntl
import multiprocessing
import os
from pathlib import Path

import pytest

from ggn_tf.errors import GgnWarning, RunError
from ggn_tf.evaluation.run_list import describe
from ggn_tf.files import _warn_of_mount, atomic_file
from ggn_tf.runs.lock import is_locked, lock_run
from ggn_tf.runs.run_folder import RunFolder
from tests.support.held_lock import hold


def test_one_process_trains_a_run(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "run", held, release))
    process.start()
    try:
        assert held.wait(30) and is_locked(tmp_path / "run")
        with pytest.raises(RunError, match="Another process"), lock_run(tmp_path / "run"):
            pass
    finally:
        release.set()
        process.join()
    assert not is_locked(tmp_path / "run")
    with lock_run(tmp_path / "run"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, 524])
def test_a_file_system_without_locks_is_trained_on_with_one_warning(tmp_path: Path, monkeypatch, number: int):
    def flock(file: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    _warn_of_mount.cache_clear()
    with pytest.warns(GgnWarning, match="one process at a time") as warned:
        for _ in range(2):
            with lock_run(tmp_path / "run", patience_s=5):
                assert not is_locked(tmp_path / "run")
    assert len(warned) == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_broken_disk_is_no_missing_lock(tmp_path: Path, monkeypatch):
    def flock(file: int, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError) as caught, lock_run(tmp_path / "run"):
        pass
    assert caught.value.errno == errno.EIO


def test_the_only_copy_of_a_file_is_restored_after_a_kill(tmp_path: Path, monkeypatch):
    """On a file system that renames to free names only; the process ends between the two renames."""
    (tmp_path / "run.json").write_text("old", encoding="utf-8")
    (tmp_path / ".ggn-tf-temporary.run.abcd1234.json").touch()
    genuine = Path.rename

    def rename(path: Path, target: Path) -> None:
        if target.name == "run.json":
            raise KeyboardInterrupt
        genuine(path, target)

    def replace(source: Path, target: Path) -> None:
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", rename)
        patch.setattr(os, "replace", replace)
        with atomic_file(tmp_path / "run.json") as temporary:
            temporary.write_text("new", encoding="utf-8")
    assert not (tmp_path / "run.json").exists()
    for _ in range(2):
        with lock_run(tmp_path):
            assert (tmp_path / "run.json").read_text(encoding="utf-8") == "old"
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "run.json"]
        (tmp_path / ".ggn-tf-former.run.json").touch()


def test_nfs_locks_only_what_is_open_for_writing(tmp_path: Path, monkeypatch):
    with lock_run(tmp_path / "run"):
        pass
    genuine = fcntl.flock

    def flock(file: int, operation: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        genuine(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert not is_locked(tmp_path / "run")
    with lock_run(tmp_path / "run"):
        assert is_locked(tmp_path / "run")


def test_links_in_a_run_are_refused_and_nothing_elsewhere_changes(tmp_path: Path):
    theirs = tmp_path / "home"
    theirs.mkdir()
    for name in (".my-notes.txt", ".bash-profile.bak", "thesis.txt"):
        (theirs / name).write_text("mine", encoding="utf-8")
    for number, name in enumerate((".lock", "stages.json", "history.csv", "model.keras", "checkpoints", "stages")):
        run = tmp_path / str(number)
        run.mkdir()
        (run / "run.json").write_text("{}", encoding="utf-8")
        (run / name).symlink_to(theirs if "." not in name else theirs / "thesis.txt")
        with pytest.raises(RunError, match="a link to"), lock_run(run):
            pass
        with pytest.raises(RunError, match="a link to"):
            RunFolder.open(run)
        assert describe(run).problem is not None and not is_locked(run)
    assert [path.read_text(encoding="utf-8") for path in theirs.iterdir()] == ["mine"] * 3


def test_a_lock_keeps_what_it_opens(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "run").mkdir()
    os.link(tmp_path / "thesis.txt", tmp_path / "run" / ".lock")
    with lock_run(tmp_path / "run"):
        assert is_locked(tmp_path / "run")
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_hidden_files_of_other_programs_stay_in_a_run(tmp_path: Path):
    names = (".gitlab-ci.yml", ".pre-commit-config.yaml", ".run-notes.json", ".run.json.former")
    with lock_run(tmp_path / "run"):
        pass
    (tmp_path / "run" / "run.json").touch()
    (tmp_path / "run" / "checkpoints").mkdir()
    for name in names:
        (tmp_path / "run" / name).touch()
        (tmp_path / "run" / "checkpoints" / name).touch()
    before = sorted((tmp_path / "run").rglob("*"))
    with lock_run(tmp_path / "run"):
        pass
    assert sorted((tmp_path / "run").rglob("*")) == before


@pytest.mark.parametrize(("shared", "mode"), [(False, 0o700), (True, 0o755)])
def test_a_new_run_folder_belongs_to_its_owner(tmp_path: Path, shared: bool, mode: int):
    former = os.umask(0o022)
    try:
        with lock_run(tmp_path / "runs" / "a", shared=shared):
            assert (tmp_path / "runs" / "a").stat().st_mode & 0o777 == mode
    finally:
        os.umask(former)
