"""Uploaded CTs, and the form data with which they arrive: files are written to the disk while they are received.

Each is in a folder of its own, until it is deleted, replaced by newer ones, or not used for an hour.
"""

import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from werkzeug.exceptions import BadRequest, HTTPException, NotFound, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.formparser import FormDataParser
from werkzeug.wrappers import Request

_SPARE_BYTES = 256 << 20
"""Free space that uploads leave on the disk."""


@dataclass(frozen=True)
class SessionLimits:
    """What uploads may use; each CT that is over them takes the place of those that were used the longest ago.

    Attributes:
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


_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
_MOST_PARTS = 8
_LARGEST_FIELD_BYTES = 256 << 10
_FORM = "multipart/form-data"


class _File:
    """Where the file of a form is written to: a CT in a folder, or nowhere."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.path: Path | None = None
        self.opened = ExitStack()

    def open(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        """Werkzeug's stream factory; of the client's file name only the known end is used."""
        if self._folder is None:
            return self.opened.enter_context(Path(os.devnull).open("wb"))
        suffix = next((suffix for suffix in _SUFFIXES if (filename or "").lower().endswith(suffix)), None)
        if suffix is None:
            raise UnsupportedMediaType(f"The name of the CT's file must end with {', '.join(_SUFFIXES)}.")
        if self.path is not None:
            raise BadRequest("The request must contain one file.")
        self.path = self._folder / f"ct{suffix}"
        return self.opened.enter_context(self.path.open("x+b"))


def form_bytes(request: Request, largest_bytes: int) -> int:
    """The size of a form that was not received yet; raises HTTPException where it is none, or is too large."""
    if request.mimetype != _FORM or request.content_length is None:
        raise UnsupportedMediaType(f"The request must be {_FORM} with a Content-Length.")
    if request.content_length > largest_bytes:
        raise RequestEntityTooLarge(f"The request must not have more than {largest_bytes} bytes.")
    return request.content_length


def receive_form(request: Request, folder: Path | None) -> tuple[Mapping[str, str], Path | None]:
    """Receive a form of which `form_bytes` has found the size.

    Its file is written to the folder, or discarded where there is none.

    Returns:
        The fields that are texts, and the file, if there is one.

    Raises:
        HTTPException: The form is damaged or incomplete, or the disk is full.
    """
    file = _File(folder)
    parser = FormDataParser(file.open, _LARGEST_FIELD_BYTES, silent=False, max_form_parts=_MOST_PARTS)
    try:
        with file.opened:
            _, form, _ = parser.parse(request.stream, _FORM, request.content_length, request.mimetype_params)
    except ValueError as error:
        raise BadRequest("The form is damaged or incomplete.") from error
    except OSError as error:
        # Of the connection's errors, werkzeug makes a BadRequest.
        raise NoSpaceError from error
    return form, file.path
