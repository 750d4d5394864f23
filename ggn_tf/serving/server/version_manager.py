"""The versions of one model: found in its folder, loaded, warmed up, swapped and unloaded."""

import gc
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ggn_tf.errors import ExportError, GgnError
from ggn_tf.serving.contract.trust import Trust
from ggn_tf.serving.contract.version_folders import entries, has_checksums, list_versions
from ggn_tf.serving.runtime.batching import BatchingParameters
from ggn_tf.serving.runtime.predict_request import warm_up
from ggn_tf.serving.runtime.servable import Servable, not_served, open_servable

log = logging.getLogger(__name__)

_NICENESS = 10
Stamp = tuple[tuple[str, int, int, int, int], ...]


class State(IntEnum):
    """The states of a version, with the protocol's numbers."""

    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionState:
    """The state of a version.

    Attributes:
        state: The protocol's state.
        error: Why it could not be loaded, with paths of this machine; None without an error.
        summary: The same for clients, one sentence without paths.
    """

    state: State
    error: str | None = None
    summary: str = ""


class VersionManager:
    """The versions of a model folder, of which the newest is served.

    A new version is loaded and warmed up before the old one is unloaded; if it cannot be loaded, the old one stays.
    `on_change` is called with whether any version is available, whenever that may have changed.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        on_change: Callable[[bool], None] = lambda available: None,
        batching: BatchingParameters | None = None,
        trust: Trust | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self._on_change = on_change
        self._batching = batching
        self._trust = trust
        self._changed = threading.Condition()
        self._polling = threading.Lock()
        self._available: dict[int, Servable] = {}
        self._leases: Counter[int] = Counter()
        self._states: dict[int, VersionState] = {}
        self._failed: dict[int, Stamp] = {}
        self._last_candidate: _Candidate | None = None
        self._unreadable = ""
        self._garbage = False

    def states(self) -> dict[int, VersionState]:
        """The states of all versions that were ever tried, the newest first."""
        with self._changed:
            return dict(sorted(self._states.items(), reverse=True))

    @contextmanager
    def lease(self, version: int | None) -> Iterator[Servable]:
        """Use a version, None for the newest, which stays loaded during the block; raises StatusError NOT_FOUND."""
        with self._changed:
            number = max(self._available, default=-1) if version is None else version
            servable = self._available.get(number)
            if servable is None:
                raise not_served(self.name, version)
            self._leases[number] += 1
        try:
            yield servable
        finally:
            with self._changed:
                self._leases[number] -= 1
                self._changed.notify_all()

    def poll(self) -> None:
        """Check the folder once, and load and unload accordingly. A folder that cannot be read changes nothing."""
        with self._polling:
            try:
                newest = _newest(self.folder, self._available)
            except OSError as error:
                if str(error) != self._unreadable:
                    log.warning("the folder of %s cannot be read: %s", self.name, error)
                self._unreadable = str(error)
                return
            self._unreadable = ""
            if newest is not None:
                self._ensure(newest)
            number = None if newest is None else newest.number
            if number is None or number in self._available:
                for version in sorted(set(self._available) - {number}):
                    self._unload(version)
            self._collect()

    def close(self, timeout_s: float = 30.0) -> None:
        """Unload all versions, each after its last request; after the time they are left to the end of the process."""
        if not self._polling.acquire(timeout=timeout_s):
            log.warning("a version of %s is still loading", self.name)
            return
        try:
            for version in sorted(self._available):
                self._unload(version, timeout_s)
        finally:
            self._polling.release()

    def _ensure(self, found: "_Candidate") -> None:
        """Load a version, unless it is loaded, or has failed and not changed since.

        A version that has failed, or that has no checksums yet, may be an incomplete copy: it is loaded once two checks
        find it unchanged.
        """
        unchanged = found == self._last_candidate
        self._last_candidate = found
        if found.number in self._available or self._failed.get(found.number) == found.stamp:
            return
        # Versions that exist at the start are older than the server.
        incomplete = found.number in self._failed or (self._states and not has_checksums(found.folder))
        if incomplete and not unchanged:
            return
        self._set(found.number, VersionState(State.LOADING))
        try:
            servable = self._open_warm(found)
        except Exception as error:  # a damaged graph can raise anything, and the poller must live
            self._failed[found.number] = found.stamp
            self._garbage = True
            summary = error.what if isinstance(error, GgnError) else "The version cannot be loaded."
            self._set(found.number, VersionState(State.END, str(error) or type(error).__name__, summary))
            log.error("version %d of %s cannot be loaded:\n%s", found.number, self.name, error)
            return
        with self._changed:
            self._available[found.number] = servable
        self._set(found.number, VersionState(State.AVAILABLE))
        log.info("version %d of %s is available", found.number, self.name)

    def _open_warm(self, found: "_Candidate") -> Servable:
        servable = open_servable(found.folder, self.name, found.number, self._batching, self._trust)
        try:
            if self._available:
                _at_low_priority(partial(warm_up, servable, found.folder))
            else:  # it also starts TensorFlow's threads, which would keep the priority
                warm_up(servable, found.folder)
        except BaseException:
            servable.close()
            raise
        return servable

    def _unload(self, version: int, timeout_s: float | None = None) -> None:
        with self._changed:
            servable = self._available.pop(version)
        self._set(version, VersionState(State.UNLOADING))
        with self._changed:
            if not self._changed.wait_for(lambda: not self._leases[version], timeout_s):
                log.warning("a request still runs in version %d of %s", version, self.name)
                return
        servable.close()
        self._garbage = True
        self._set(version, VersionState(State.END))
        log.info("version %d of %s is unloaded", version, self.name)

    def _collect(self) -> None:
        """Free what TensorFlow's package has loaded of unloaded versions, weights included, which takes 0.2 s.

        They are cycles of Python objects, and too few to make the garbage collector run by itself. What its library has
        loaded is free before.
        """
        if self._garbage:
            self._garbage = False
            gc.collect()

    def _set(self, version: int, state: VersionState) -> None:
        with self._changed:
            self._states[version] = state
            available = bool(self._available)
        self._on_change(available)


def _at_low_priority(work: Callable[[], object]) -> None:
    """Run in a thread that leaves the processor to requests (Linux)."""
    ended: Future[None] = Future()

    def run() -> None:
        try:
            if sys.platform == "linux":
                thread = os.PRIO_PROCESS, threading.get_native_id()
                with suppress(OSError):  # not every process may
                    os.setpriority(*thread, max(_NICENESS, os.getpriority(*thread)))
            work()
            ended.set_result(None)
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=run, name="warm-up", daemon=True).start()
    ended.result()


class _Candidate(NamedTuple):
    """A version directory; the stamp (names, sizes and times of its files) changes when a file does."""

    number: int
    folder: Path
    stamp: Stamp


def _newest(folder: Path, loaded: Container[int]) -> _Candidate | None:
    versions = list_versions(folder)
    if not versions:
        return None
    number = max(versions)
    if number in loaded:  # a loaded version is not checked for changes
        return _Candidate(number, versions[number], ())
    # A repaired copy may have the damaged file's size and modification time, but not its inode and change time.
    found = ((entry.name, entry.status) for entry in entries(versions[number]))
    try:
        stamp = tuple((name, st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino) for name, st in found)
    except ExportError:  # it has too many files, and is refused when it is opened
        stamp = ()
    return _Candidate(number, versions[number], stamp)
