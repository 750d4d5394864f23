"""Versions of one model: found in its folder, loaded, warmed up, swapped, unloaded."""

import gc
import logging
import threading
from collections import Counter
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import grpc

from ggn_tf.serving.contract.checksums import has_checksums
from ggn_tf.serving.contract.status_error import StatusError
from ggn_tf.serving.contract.version_folders import list_versions
from ggn_tf.serving.runtime.batching import BatchingParameters
from ggn_tf.serving.runtime.golden_requests import warm_up
from ggn_tf.serving.runtime.servable import Servable, open_servable

log = logging.getLogger(__name__)


Stamp = tuple[tuple[str, int, int, int, int], ...]


class State(IntEnum):
    """The life of a version, with the protocol's numbers."""

    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionState:
    """Where a version stands.

    Attributes:
        state: The stage of its life.
        error: Why it could not be loaded; None while nothing went wrong.
    """

    state: State
    error: str | None = None


class VersionManager:
    """The versions of a model folder, of which the newest serves.

    A new version is loaded and warmed up before the old one goes; one that fails to load leaves the old one serving.

    Args:
        name: Of the model.
        folder: The model folder.
        on_change: Told whether any version is available, whenever that may have changed.
        batching: How to join requests; None to run each by itself.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        on_change: Callable[[bool], None] = lambda available: None,
        batching: BatchingParameters | None = None,
    ) -> None:
        """Nothing is loaded before the first `poll`."""
        self.name = name
        self.folder = folder
        self._on_change = on_change
        self._batching = batching
        self._changed = threading.Condition()
        self._polling = threading.Lock()
        self._available: dict[int, Servable] = {}
        self._leases: Counter[int] = Counter()
        self._states: dict[int, VersionState] = {}
        self._failed: dict[int, Stamp] = {}
        self._last_look: tuple[int, Stamp] | None = None
        self._garbage = False

    def states(self) -> dict[int, VersionState]:
        """Every version that was ever loaded, the newest first."""
        with self._changed:
            return dict(sorted(self._states.items(), reverse=True))

    @contextmanager
    def lease(self, version: int | None) -> Iterator[Servable]:
        """Use a version; it stays loaded while the block lasts.

        Args:
            version: None for the newest that is available.

        Raises:
            StatusError: NOT_FOUND.
        """
        with self._changed:
            number = max(self._available, default=-1) if version is None else version
            servable = self._available.get(number)
            if servable is None:
                wanted = f"Latest({self.name})" if version is None else f"Specific({self.name}, {version})"
                raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
            self._leases[number] += 1
        try:
            yield servable
        finally:
            with self._changed:
                self._leases[number] -= 1
                self._changed.notify_all()

    def poll(self) -> None:
        """Look at the folder once, and load and unload accordingly. A folder that cannot be read changes nothing."""
        with self._polling:
            try:
                newest = _newest(self.folder, self._available)
            except OSError as error:
                log.warning("cannot look for versions of %s: %s", self.name, error)
                return
            if newest is not None:
                self._ensure(newest)
            number = None if newest is None else newest.number
            if number is None or number in self._available:
                for version in sorted(set(self._available) - {number}):
                    self._unload(version)
            self._collect()

    def close(self) -> None:
        """Unload everything, each version when its last request is answered."""
        with self._polling:
            for version in sorted(self._available):
                self._unload(version)

    def _ensure(self, found: "_Found") -> None:
        """Load a version, unless it is loaded, or has failed and not changed since.

        A version that has failed, or that nothing but its first files may be there of, may be a copy under way: it is
        loaded once it is the same in two looks.
        """
        look, last_look = (found.number, found.stamp), self._last_look
        self._last_look = look
        if found.number in self._available or self._failed.get(found.number) == found.stamp:
            return
        doubtful = found.number in self._failed or not (has_checksums(found.folder) or self._at_the_start)
        if doubtful and look != last_look:
            return
        self._set(found.number, VersionState(State.LOADING))
        try:
            servable = self._open_warm(found)
        except Exception as error:  # a damaged graph can raise anything, and the poller must live
            self._failed[found.number] = found.stamp
            self._garbage = True
            self._set(found.number, VersionState(State.END, str(error) or type(error).__name__))
            log.error("version %d of %s does not load:\n%s", found.number, self.name, error)
            return
        with self._changed:
            self._available[found.number] = servable
        self._set(found.number, VersionState(State.AVAILABLE))
        log.info("version %d of %s is available", found.number, self.name)

    @property
    def _at_the_start(self) -> bool:
        """Whether no version was ever tried: what is there then was there before the server."""
        return not self._states

    def _open_warm(self, found: "_Found") -> Servable:
        servable = open_servable(found.folder, self.name, found.number, self._batching)
        try:
            warm_up(servable, found.folder)
        except BaseException:
            servable.close()
            raise
        return servable

    def _unload(self, version: int) -> None:
        with self._changed:
            servable = self._available.pop(version)
        self._set(version, VersionState(State.UNLOADING))
        with self._changed:
            self._changed.wait_for(lambda: not self._leases[version])
        servable.close()
        self._garbage = True
        self._set(version, VersionState(State.END))
        log.info("version %d of %s is unloaded", version, self.name)

    def _collect(self) -> None:
        """Give back the graphs that are gone, weights included.

        They are cycles of Python objects, and too few for the collector to come by. It stops all threads for 0.2 s.
        """
        if self._garbage:
            self._garbage = False
            gc.collect()

    def _set(self, version: int, state: VersionState) -> None:
        with self._changed:
            self._states[version] = state
            available = bool(self._available)
        self._on_change(available)


class _Found(NamedTuple):
    """A version directory, and what tells it from a later state of it: which files it has, their sizes and times."""

    number: int
    folder: Path
    stamp: Stamp


def _newest(folder: Path, loaded: Container[int]) -> _Found | None:
    versions = list_versions(folder)
    if not versions:
        return None
    number = max(versions)
    if number in loaded:  # nobody asks whether it has changed
        return _Found(number, versions[number], ())
    found = ((path, path.stat()) for path in sorted(versions[number].rglob("*")) if path.is_file())
    # A repaired copy may have the damaged one's size and time, but it is another file or was changed later.
    stamp = tuple((str(path), of.st_size, of.st_mtime_ns, of.st_ctime_ns, of.st_ino) for path, of in found)
    return _Found(number, versions[number], stamp)
