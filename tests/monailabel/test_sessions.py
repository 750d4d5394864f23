import stat
import time
from pathlib import Path

import pytest
from werkzeug.exceptions import NotFound

from ggn_tf.monailabel.sessions import NoSpaceError, Session, SessionLimits, Sessions


def add(sessions: Sessions, content: bytes = b"0123456789") -> Session:
    with sessions.upload(len(content)) as session:
        session.image = session.folder / "ct.nii"
        session.image.write_bytes(content)
    return session


def test_a_session_is_private_and_ends_with_its_files(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    session = add(sessions)
    assert stat.S_IMODE(session.folder.stat().st_mode) == 0o700
    with sessions.use(session.name) as used:
        assert used.image is not None and used.image.read_bytes() == b"0123456789"
    assert sessions.delete(session.name) is session
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotFound), sessions.use(session.name):
        pass


def test_an_upload_that_fails_leaves_nothing(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    with pytest.raises(KeyError), sessions.upload(10) as session:
        (session.folder / "ct.nii").write_bytes(b"01234")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_ct_in_use_is_deleted_at_the_end_of_its_use(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    session = add(sessions)
    with sessions.use(session.name) as used:
        sessions.delete(session.name)
        assert used.image is not None and used.image.exists()
        with pytest.raises(NotFound), sessions.use(session.name):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limits", [SessionLimits(most=1), SessionLimits(total_bytes=15)])
def test_a_deleted_ct_takes_space_until_the_end_of_its_use(limits: SessionLimits, tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, limits)
    session = add(sessions)
    with sessions.use(session.name):
        sessions.delete(session.name)
        with pytest.raises(NotFound):
            sessions.delete(session.name)
        with pytest.raises(NoSpaceError):
            add(sessions)
        assert [path.name for path in tmp_path.iterdir()] == [session.name]
    assert [path.name for path in tmp_path.iterdir()] == []
    add(sessions)


@pytest.mark.parametrize("limits", [SessionLimits(most=2), SessionLimits(total_bytes=25)])
def test_a_new_session_takes_the_place_of_the_one_that_was_used_the_longest_ago(
    limits: SessionLimits, tmp_path: Path
) -> None:
    sessions = Sessions(tmp_path, limits)
    first, second = add(sessions), add(sessions)
    with sessions.use(first.name):
        pass
    third = add(sessions)
    assert {path.name for path in tmp_path.iterdir()} == {first.name, third.name}
    assert second.deleted
    with sessions.use(first.name), sessions.use(third.name), pytest.raises(NoSpaceError):
        add(sessions)
    assert {path.name for path in tmp_path.iterdir()} == {first.name, third.name}


def test_the_disk_is_not_filled(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, SessionLimits(total_bytes=1 << 60))
    with pytest.raises(NoSpaceError), sessions.upload(1 << 59):
        pass
    assert list(tmp_path.iterdir()) == []


def test_sessions_expire_unless_they_are_in_use(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, SessionLimits(age_s=100))
    old, used, new = add(sessions), add(sessions), add(sessions)
    old.last_used_at -= 101
    with sessions.use(used.name):
        used.last_used_at = time.time() - 101
        sessions.expire()
        assert {path.name for path in tmp_path.iterdir()} == {used.name, new.name}
    sessions.expire()
    assert {path.name for path in tmp_path.iterdir()} == {new.name}
