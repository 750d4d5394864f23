"""Uploaded CTs: each in a folder of its own, until it is deleted, replaced by newer ones, or not used for an hour."""

import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from werkzeug.exceptions import HTTPException, NotFound

_SPARE_BYTES = 256 << 20
"""Free space that uploads leave on the disk."""


@dataclass(frozen=True)
class SessionLimits:
    """What uploads may use; each CT that is over them takes the place of those that were used the longest ago.

    Attributes:
        upload_bytes: Largest request.
        most: Number of sessions.
        total_bytes: Size of all of them.
        age_s: Seconds without a use, after which a session is deleted.
    """

    upload_bytes: int = 512 << 20
    most: int = 16
    total_bytes: int = 4 << 30
    age_s: float = 3600.0


class NoSpaceError(HTTPException):
    """The disk is full, or other uploads use all of the space."""

    code = 507
    description = "The server has no space for this upload. Try again later."


@dataclass
class Session:
    """A CT on the disk.

    Attributes:
        name: 128 random bits: who knows it may use the CT.
        folder: The folder that contains nothing else.
        bytes_used: Its size; while it is uploaded that of the request.
        image: The CT; None while it is uploaded.
        created_at: Unix time, seconds.
        last_used_at: Unix time, seconds.
    """

    name: str
    folder: Path
    bytes_used: int
    image: Path | None = None
    created_at: float = field(default_factory=time.time)
    last_used_at: float = field(default_factory=time.time)
    users: int = 1
    deleted: bool = False


class Sessions:
    """The sessions in one private folder, which belongs to this object."""

    def __init__(self, folder: Path, limits: SessionLimits | None = None) -> None:
        self.folder, self.limits = folder, limits or SessionLimits()
        self._changed = threading.Lock()
        self._known: dict[str, Session] = {}

    @contextmanager
    def upload(self, size: int) -> Iterator[Session]:
        """Make a session and yield it in use; it is deleted at the end unless it got its `image`.

        Args:
            size: Size of the request, bytes.

        Raises:
            NoSpaceError: The disk is full, or sessions in use leave no space.
        """
        name = secrets.token_hex(16)
        session = Session(name, self.folder / name, size)
        with self._changed:
            self._make_room(size)
            session.folder.mkdir(mode=0o700)
            self._known[name] = session
        try:
            yield session
            if session.image is not None:
                session.bytes_used = session.image.stat().st_size
        finally:
            session.deleted |= session.image is None
            self._release(session)

    @contextmanager
    def use(self, name: str) -> Iterator[Session]:
        """Yield a session, whose CT stays on the disk during the block; raises NotFound."""
        with self._changed:
            session = self._find(name)
            session.users += 1
            session.last_used_at = time.time()
        try:
            yield session
        finally:
            self._release(session)

    def delete(self, name: str) -> Session:
        """Delete a session, at the end of what uses it; raises NotFound."""
        with self._changed:
            session = self._find(name)
            self._forget(session)
        return session

    def expire(self) -> None:
        """Delete the sessions that were not used for too long."""
        with self._changed:
            oldest = time.time() - self.limits.age_s
            for session in self._unused():
                if session.last_used_at < oldest:
                    self._forget(session)

    def _find(self, name: str) -> Session:
        session = self._known.get(name)
        if session is None or session.image is None or session.deleted:
            raise NotFound("There is no such session. Sessions end an hour after their last use: upload the CT again.")
        return session

    def _unused(self) -> list[Session]:
        return sorted((item for item in self._known.values() if not item.users), key=lambda item: item.last_used_at)

    def _make_room(self, size: int) -> None:
        for session in self._unused():
            if not self._lacks_room(size):
                return
            self._forget(session)
        if self._lacks_room(size):
            raise NoSpaceError

    def _lacks_room(self, size: int) -> bool:
        used = sum(session.bytes_used for session in self._known.values())
        if len(self._known) >= self.limits.most or used + size > self.limits.total_bytes:
            return True
        return shutil.disk_usage(self.folder).free < size + _SPARE_BYTES

    def _release(self, session: Session) -> None:
        with self._changed:
            session.users -= 1
            if session.deleted:
                self._forget(session)

    def _forget(self, session: Session) -> None:
        session.deleted = True
        # Until then its folder takes space.
        if not session.users:
            self._known.pop(session.name, None)
            shutil.rmtree(session.folder, ignore_errors=True)
