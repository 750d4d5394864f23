import errno
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from ggn_tf.errors import GgnError, GgnWarning
from ggn_tf.files import (
    _warn_of_mount,
    atomic_file,
    atomic_folder,
    clean_folder,
    make_private_folder,
    refuse_links,
    refuse_read_only,
    replaced_folder,
)


def test_a_file_takes_its_name_only_when_whole(tmp_path: Path):
    target = tmp_path / "deep" / "a.json"
    with atomic_file(target) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert not target.exists()
    assert target.read_text(encoding="utf-8") == "new" and [path.name for path in target.parent.iterdir()] == ["a.json"]


def test_an_error_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path):
    target = tmp_path / "a.json"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert target.read_text(encoding="utf-8") == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_no_folder_that_was_made(tmp_path: Path, error: type[BaseException]):
    (tmp_path / "theirs").mkdir()
    with pytest.raises(error), atomic_folder(tmp_path / "theirs" / "models" / "ggn" / "1") as temporary:
        (temporary / "shard").write_text("half", encoding="utf-8")
        raise error
    assert list(tmp_path.rglob("*")) == [tmp_path / "theirs"]


def test_a_full_disk_leaves_no_folder_that_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "mkdtemp", Mock(side_effect=OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"), atomic_folder(tmp_path / "models" / "ggn" / "1"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_parent_that_another_command_deletes_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
):
    (tmp_path / "models").mkdir()
    mkdtemp = tempfile.mkdtemp

    def deleted(**named: Any) -> str:
        monkeypatch.undo()
        (tmp_path / "models").rmdir()
        return mkdtemp(**named)

    monkeypatch.setattr(tempfile, "mkdtemp", deleted)
    with suppress(RuntimeError), atomic_folder(tmp_path / "models" / "ggn"):
        if fails:
            raise RuntimeError
    assert [path.name for path in tmp_path.rglob("*")] == ([] if fails else ["models", "ggn"])


def test_a_folder_with_content_is_never_replaced(tmp_path: Path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "shard").write_text("kept", encoding="utf-8")
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / "set"):
        pass
    assert (tmp_path / "set" / "shard").read_text(encoding="utf-8") == "kept"


@pytest.mark.parametrize("between_the_renames", [False, True])
def test_a_failure_leaves_the_former_folder_also_after_a_kill(tmp_path: Path, between_the_renames: bool):
    former = tmp_path / (".ggn-tf-former.set" if between_the_renames else "set")
    former.mkdir()
    (former / "shard").write_text("former", encoding="utf-8")
    with pytest.raises(RuntimeError), replaced_folder(tmp_path / "set") as folder:
        (folder / "other").touch()
        raise RuntimeError
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["set", "set/shard"]


def failing(number: int, when: Callable[[Path], bool] = lambda path: True) -> Callable[..., Any]:
    """A function of the operating system that a file system does not have, for some paths."""

    def fail(path: Any, *arguments: Any, **named: Any) -> Any:
        real = Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else Path(path)
        if when(real):
            raise OSError(number, os.strerror(number), str(real))
        return ORIGINAL[fail.__name__](path, *arguments, **named)

    return fail


ORIGINAL = {"fsync": os.fsync, "chmod": os.chmod, "replace": os.replace}


def lacking(monkeypatch: pytest.MonkeyPatch, function: str, number: int, when: Callable[[Path], bool]) -> None:
    fail = failing(number, when)
    fail.__name__ = function
    monkeypatch.setattr(os, function, fail)
    _warn_of_mount.cache_clear()


LIMITS = [
    ("fsync", errno.EINVAL, Path.is_dir),  # CIFS, VirtualBox
    ("fsync", errno.ENOTSUP, Path.is_dir),
    ("fsync", 524, Path.is_dir),  # ENOTSUPP of 9p and NFS
    ("fsync", errno.EACCES, Path.is_dir),
    ("fsync", errno.ENOSYS, Path.exists),  # FUSE
    ("chmod", errno.EPERM, Path.exists),  # exFAT, SMB
    ("chmod", errno.ENOSYS, Path.exists),
]


@pytest.mark.parametrize(("function", "number", "when"), LIMITS)
def test_a_file_system_that_lacks_a_function_is_written_to_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int, when: Callable[[Path], bool]
):
    lacking(monkeypatch, function, number, when)
    with pytest.warns(GgnWarning, match="Work continues") as warned:
        for _ in range(2):
            with atomic_file(tmp_path / "a.json") as temporary:
                temporary.write_text("new", encoding="utf-8")
        with atomic_folder(tmp_path / "set") as folder:
            (folder / "shard").write_text("whole", encoding="utf-8")
        with replaced_folder(tmp_path / "set") as folder:
            (folder / "shard").write_text("newer", encoding="utf-8")
    assert len(warned) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "set"]
    assert (tmp_path / "set" / "shard").read_text(encoding="utf-8") == "newer"


@pytest.mark.parametrize("fails", [False, True])
def test_a_former_folder_with_an_open_file_is_left_alone(tmp_path: Path, monkeypatch, fails: bool):
    """As on NFS and SMB, which do not delete such a file."""
    (tmp_path / "set").mkdir()
    (tmp_path / ".ggn-tf-former.set").mkdir()
    delete, rename = shutil.rmtree, Path.rename

    def rmtree(path: Path, **options: Any) -> None:
        if path.name != ".ggn-tf-former.set":
            delete(path, **options)

    def failing_rename(path: Path, target: Path) -> None:
        if fails and path.name.startswith(".ggn-tf-temporary.set."):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(path, target)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    monkeypatch.setattr(Path, "rename", failing_rename)
    with pytest.raises(OSError) if fails else nullcontext(), replaced_folder(tmp_path / "set") as folder:
        (folder / "shard").write_text("newer", encoding="utf-8")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"set", ".ggn-tf-former.set"} and (tmp_path / "set" / "shard").exists() != fails


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_an_error_of_the_disk_is_no_limit_of_the_file_system(tmp_path: Path, monkeypatch, number: int):
    lacking(monkeypatch, "fsync", number, Path.exists)
    with pytest.raises(OSError) as caught, atomic_file(tmp_path / "a.json"):
        pass
    assert caught.value.errno == number
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EEXIST, errno.EPERM, errno.ENOSYS])
def test_names_are_replaced_where_a_rename_takes_only_free_ones(tmp_path: Path, monkeypatch, number: int):
    (tmp_path / "a.json").write_text("old", encoding="utf-8")
    (tmp_path / "set").mkdir()

    def replace(source: Path, target: Path) -> None:
        if Path(target).exists():
            raise OSError(number, os.strerror(number))
        ORIGINAL["replace"](source, target)

    monkeypatch.setattr(os, "replace", replace)
    with atomic_file(tmp_path / "a.json") as temporary:
        temporary.write_text("new", encoding="utf-8")
    with atomic_folder(tmp_path / "set") as folder:
        (folder / "shard").write_text("whole", encoding="utf-8")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.json", "set", "shard"]


def test_a_folder_that_another_process_fills_meanwhile_is_not_replaced(tmp_path: Path):
    with pytest.raises(OSError), atomic_folder(tmp_path / "1"):
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "theirs").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["1", "theirs"]


@pytest.mark.parametrize("place", ["/proc/out", "/dev/null/out", "/proc/" + "x" * 300])
def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(place: str):
    with pytest.raises(GgnError) as caught:
        refuse_read_only(Path(place))
    assert caught.value.arguments == ("output",)


def test_a_place_that_can_be_written_to_stays_as_it_is(tmp_path: Path):
    refuse_read_only(tmp_path / "deep" / "out")
    assert list(tmp_path.iterdir()) == []


FOREIGN = (
    ".gitlab-ci.yml",
    ".pre-commit-config.yaml",
    ".my-notes.txt",
    ".a-b.json",
    ".notes.former",
    ".x-new",
    ".x.tmp",
)


def test_only_what_has_our_mark_is_tidied_away(tmp_path: Path):
    for name in FOREIGN:
        (tmp_path / name).write_text("mine", encoding="utf-8")
    (tmp_path / "elsewhere.txt").write_text("mine", encoding="utf-8")
    (tmp_path / ".ggn-tf-temporary.link.json").symlink_to(tmp_path / "elsewhere.txt")
    (tmp_path / ".ggn-tf-temporary.folder.json").mkdir()
    left = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / ".ggn-tf-temporary.run.x.json").touch()
    clean_folder(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_a_folder_that_is_a_link_is_not_tidied(tmp_path: Path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / ".ggn-tf-temporary.run.x.json").touch()
    (tmp_path / "checkpoints").symlink_to("theirs")
    clean_folder(tmp_path / "checkpoints")
    assert len(list((tmp_path / "theirs").iterdir())) == 1


def test_links_and_pipes_of_ours_are_refused_at_any_depth_and_others_are_not(tmp_path: Path):
    (tmp_path / "stages" / "inner").mkdir(parents=True)
    (tmp_path / "mine").symlink_to("/")
    refuse_links(tmp_path, ("stages", "missing"))
    (tmp_path / "stages" / "inner" / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(GgnError, match="a link to"):
        refuse_links(tmp_path, ("stages",))
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(GgnError, match="a pipe"):
        refuse_links(tmp_path, ("run.json",))


def test_a_folder_that_the_user_named_may_be_a_link(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "named").symlink_to("real")
    for write in (atomic_folder, replaced_folder):
        with write(tmp_path / "named") as folder:
            (folder / "shard").write_text("whole", encoding="utf-8")
        assert (tmp_path / "named").is_symlink() and (tmp_path / "real" / "shard").exists()
        refuse_links(tmp_path / "named", ("shard",))
        shutil.rmtree(tmp_path / "real")


@pytest.mark.parametrize("write", [atomic_folder, replaced_folder])
@pytest.mark.parametrize(("private", "mode"), [(True, 0o700), (False, 0o750)])
def test_a_new_folder_is_private_or_as_the_umask_has_it(tmp_path: Path, write: Any, private: bool, mode: int):
    former = os.umask(0o027)
    try:
        with write(tmp_path / "new", private=private):
            pass
        (tmp_path / "old").mkdir(mode=0o755)
        (tmp_path / "old").chmod(0o755)
        with write(tmp_path / "old", private=private):
            pass
        make_private_folder(tmp_path / "run", shared=not private)
    finally:
        os.umask(former)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("new", "old", "run")}
    assert modes == {"new": mode, "old": 0o755, "run": mode}


def killed_while_writing(write: Any, path: Path) -> Path:
    """What a process that is killed within the block leaves beside `path`."""
    if os.fork() == 0:
        try:
            with write(path) as temporary:
                (temporary / "half").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.wait()
    (left,) = path.parent.glob(f".ggn-tf-temporary.{path.name}.*")
    return Path(left)


@pytest.mark.parametrize("write", [atomic_folder, replaced_folder])
def test_what_a_killed_process_left_is_deleted_by_the_next_one_for_the_same_folder(tmp_path: Path, write: Any):
    left = killed_while_writing(write, tmp_path / "set")
    for other in ("set2", "set.old"):
        with write(tmp_path / other):
            pass
        assert (left / "half").exists()
    with write(tmp_path / "set"):
        assert not left.exists()


@pytest.mark.parametrize("write", [atomic_folder, replaced_folder])
def test_what_is_not_abandoned_or_not_ours_is_left_alone(tmp_path: Path, write: Any):
    (tmp_path / "theirs").mkdir()
    (tmp_path / ".ggn-tf-temporary.set.abcdefgh").symlink_to("theirs")
    (tmp_path / ".ggn-tf-temporary.set.my-notes").mkdir()
    (tmp_path / ".ggn-tf-temporary.set.abcdefg_").write_text("mine", encoding="utf-8")
    before = {path.name for path in tmp_path.iterdir()}
    with write(tmp_path / "set") as first, suppress(OSError), write(tmp_path / "set") as second:
        assert first.exists() and second.exists() and first != second
    assert {path.name for path in tmp_path.iterdir()} == before | {"set"}


def test_a_link_that_another_user_made_in_advance_is_not_followed(tmp_path: Path):
    """In a shared folder such as /tmp its target would get the patient's data."""
    (tmp_path / "theirs").mkdir()
    for name in (".ggn-tf-new.set", ".ggn-tf-former.set", ".ggn-tf-temporary.set"):
        (tmp_path / name).symlink_to("theirs")
    with replaced_folder(tmp_path / "set") as folder:
        (folder / "shard").write_text("whole", encoding="utf-8")
    assert not (tmp_path / "set").is_symlink() and (tmp_path / "set" / "shard").exists()
    assert list((tmp_path / "theirs").iterdir()) == []


def test_every_folder_of_a_new_one_reaches_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[Path] = []

    def fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if not (tmp_path / "set").exists():
            synced.append(path)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_folder(tmp_path / "set") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "shard").touch()
    assert sorted(path.name.split(".")[0] or "itself" for path in synced) == ["inner", "itself", "shard"]
