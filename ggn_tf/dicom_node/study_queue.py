"""Received studies on the disk: each is answered and delivered once, also if the process is killed at any moment.

A study is a folder, and its state is the folder that contains it; both change by one rename. There are no names of
patients in paths, records and reasons: studies and instances are named by digests of their UIDs.
"""

import json
import logging
import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ggn_tf.dicom_node.study import (
    ANSWER,
    ENDED,
    INSTANCES,
    KNOWN,
    MARKERS,
    RECORD,
    Instance,
    Record,
    State,
    Study,
    digest_of,
    read_study,
)
from ggn_tf.errors import PacsError
from ggn_tf.files import TEMPORARY, atomic_file, atomic_folder, clean_folder, make_private_folder, move_folder
from ggn_tf.json_records import to_json

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _MOST_DOUBLINGS = 5.0, 10
_LOCK = ".lock"
# A study's folder, and one that a killed process has not finished.
_A_STUDY, _UNFINISHED = r"[0-9a-f]{16}-[0-9a-f]+", re.escape(TEMPORARY) + r"[0-9a-f]{16}-[0-9a-f]+\.\w{8}"


class QueueFullError(Exception):
    """An instance is beyond the limits; the sender may try again later."""


@dataclass(frozen=True)
class QueueLimits:
    """What studies may use.

    Attributes:
        quiet_s: Seconds without a new instance after which a study with a CT and a marked nodule is answered.
        patience_s: Seconds after which a study that lacks one of them has failed.
        kept_s: Seconds for which it is known that a study was delivered or has failed.
        instances: Instances of a study.
        studies: Studies that are neither delivered nor failed.
        total_bytes: Size of their instances.
        spare_bytes: Free space that is left on the disk.
        longest_pause_s: Between two attempts; the first pauses are shorter.
    """

    quiet_s: float = 30.0
    patience_s: float = 3600.0
    kept_s: float = 90 * 86400.0
    instances: int = 20_000
    studies: int = 1000
    total_bytes: int = 50 << 30
    spare_bytes: int = 1 << 30
    longest_pause_s: float = 600.0


class StudyQueue:
    """The studies in one private folder, which belongs to this object while it is `opened`."""

    def __init__(self, folder: Path, limits: QueueLimits | None = None, clock: Callable[[], float] = time.time) -> None:
        self.folder, self._limits, self._clock = folder, limits or QueueLimits(), clock
        self._changed = threading.RLock()
        self._studies: dict[str, Study] = {}

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Take the folder for this process, and what an earlier one has left in it.

        Raises:
            PacsError: Another process uses it, or it contains something else.
        """
        self.refuse_other_folder()
        states = [self.folder / state for state in State]
        make_private_folder(self.folder)
        with self._locked():
            for folder in states:
                make_private_folder(folder)
            for path in [path for folder in states for path in folder.iterdir()]:
                _tidy(path)
            self.scan()
            self._fail_damaged()
            yield

    def refuse_used(self) -> None:
        """Raise PacsError where another process uses the folder."""
        if (self.folder / _LOCK).exists():
            with self._locked():
                pass

    def refuse_other_folder(self, *, new: bool = True) -> None:
        """Raise PacsError where the path is that of something else; `new`: a queue may also begin there."""
        states = [self.folder / state for state in State]
        is_queue = (self.folder / _LOCK).exists() or all(map(Path.is_dir, states))
        begins = not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir()))
        if not is_queue and not (new and begins):
            expected = "an empty folder, or a queue" if new else "the folder of a node"
            raise self._unusable("The folder is not a queue.", expected, "Name another folder.")

    def scan(self) -> None:
        """Read the folder as it is at the moment; nothing is changed."""
        paths = [path for state in State for path in (self.folder / state).glob("*")]
        paths = [path for path in paths if re.fullmatch(_A_STUDY, path.name)]
        self._studies = {path.name: study for path in paths if (study := read_study(path)) is not None}

    def receive(self, instance: Instance) -> None:
        """Store an instance, unless it is there: it is on the disk when this returns.

        Raises:
            QueueFullError: It is beyond the limits.
            OSError: It cannot be written.
        """
        size, digest = sum(map(len, instance.parts)), digest_of(instance.study)
        group = MARKERS if instance.series is None else digest_of(instance.series)
        name = Path(group, f"{digest_of(instance.uid)}.dcm")
        with self._changed:
            study = self._growing(digest)
            if study is None or not (self.instances(study) / name).exists():
                self._refuse_overflow(study, size)
                study = study or self._begin(digest)
                make_private_folder(self.instances(study) / group)
                with atomic_file(self.instances(study) / name) as temporary, temporary.open("wb") as stream:
                    stream.writelines(instance.parts)
                study.instances, study.size = study.instances + 1, study.size + size
            study.changed_at = self._clock()

    def settle(self) -> None:
        """Let studies be answered whose last instance is some time ago, and forget what is known for too long."""
        with self._changed:
            now = self._clock()
            for study in [study for study in self._studies.values() if study.due_at <= now]:
                waited_s = now - study.changed_at
                try:
                    if study.state is State.RECEIVING and waited_s >= self._limits.quiet_s:
                        self._settle(study, expired=waited_s >= self._limits.patience_s)
                    elif study.state in ENDED and waited_s >= self._limits.kept_s:
                        self._forget(study)
                except OSError as error:  # of this study, which must not keep others from their answer
                    self.postpone(study, f"An unexpected error ({type(error).__name__}).")

    def take(self, state: State) -> Study | None:
        """The study in a state that waits the longest, which is then busy; None if there is none."""
        with self._changed:
            now = self._clock()
            due = [
                item for item in self._studies.values() if item.state is state and not item.busy and item.due_at <= now
            ]
            study = min(due, key=lambda item: item.changed_at, default=None)
            if study is not None:
                # After a restart the last one: a study that ends the process must not keep others from their answer.
                study.busy, study.changed_at = True, now
                with suppress(OSError):
                    os.utime(self._path(study), (now, now))
            return study

    def answered(self, study: Study, files: Sequence[Path], uids: Sequence[str], note: str = "") -> None:
        """The answer is written.

        `files` are DICOM objects in `answer`. If the archive routes the UIDs here, they are not answered. `note` says
        what the answer lacks.
        """
        names = tuple(str(path.relative_to(self.answer(study))) for path in files)
        # Markers that cannot be used, too: sent again, they would only fail.
        known = (*(path.stem for path in self.instances(study).glob("*/*.dcm")), *map(digest_of, uids))
        with atomic_file(self._path(study) / KNOWN) as file:
            file.write_text("\n".join(known), encoding="ascii")
        self._write(study, Record(names, note))
        self._move(study, State.ANSWERED)

    def delivered(self, study: Study) -> None:
        """The archive has the answer: instances and answer are deleted."""
        self._move(study, State.DELIVERED)

    def fail(self, study: Study, reason: str) -> None:
        """Mark a study as failed and delete its instances; it is answered if it is sent again."""
        self._write(study, Record(reason=reason))
        self._move(study, State.FAILED)

    def postpone(self, study: Study, reason: str) -> None:
        """Try again after a pause, which becomes longer."""
        with self._changed:
            pause_s = min(self._limits.longest_pause_s, _FIRST_PAUSE_S * 2 ** min(study.attempts, _MOST_DOUBLINGS))
            study.attempts, study.due_at = study.attempts + 1, self._clock() + pause_s
            study.reason, study.busy = reason, False
        log.warning("study %s: attempt %d failed: %s", study.digest, study.attempts, reason)

    def instances(self, study: Study) -> Path:
        """The folder of a study's instances: `MARKERS`, and one for each CT series."""
        return self._path(study) / INSTANCES

    def answer(self, study: Study) -> Path:
        """The folder of a study's answer."""
        return self._path(study) / ANSWER

    def status(self) -> dict[str, Any]:
        """Numbers by state, and the studies that are not delivered or have a reason, without names of patients."""
        with self._changed:
            studies = sorted(self._studies.values(), key=lambda study: study.changed_at, reverse=True)
            counts = Counter(study.state for study in studies)
            shown = [study for study in studies if study.state is not State.DELIVERED or study.reason]
            return {
                "states": {str(state): counts[state] for state in State},
                "bytes": sum(study.size for study in studies),
                "studies": [study.described() for study in shown],
            }

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with FileLock(self.folder / _LOCK, blocking=False):
                yield
        except Timeout:
            raise self._unusable(
                "Another process uses the queue.", "one process for each queue", "Stop it, or name another folder."
            ) from None

    def _path(self, study: Study) -> Path:
        return self.folder / study.state / study.name

    def _growing(self, digest: str) -> Study | None:
        """The study to which a new instance belongs; None if it begins one."""
        open_to = (State.RECEIVING, State.READY)
        found = [item for item in self._studies.values() if item.digest == digest and item.state in open_to]
        # One that is ready again, after a failed attempt, only if none receives: there would be two.
        study = min((item for item in found if not item.busy), key=lambda item: item.state is State.READY, default=None)
        if study is not None and study.state is State.READY:
            self._move(study, State.RECEIVING)
        return study

    def _begin(self, digest: str) -> Study:
        study = Study(f"{digest}-{time.time_ns():x}", State.RECEIVING, self._clock())
        with atomic_folder(self._path(study), private=True) as folder:
            make_private_folder(folder / INSTANCES)
        self._studies[study.name] = study
        return study

    def _refuse_overflow(self, study: Study | None, size: int) -> None:
        limits, pending = self._limits, [item for item in self._studies.values() if item.state not in ENDED]
        too_many = len(pending) >= limits.studies if study is None else study.instances >= limits.instances
        too_large = sum(item.size for item in pending) + size > limits.total_bytes
        if too_many or too_large or shutil.disk_usage(self.folder).free < size + limits.spare_bytes:
            raise QueueFullError

    def _settle(self, study: Study, *, expired: bool) -> None:
        others = [other for other in self._studies.values() if other.digest == study.digest and other is not study]
        if any(other.state is State.READY for other in others):
            return
        known = {digest for other in others for digest in self._known(other)}
        received = {*self.instances(study).glob("*/*.dcm")}
        markers = {path for path in received if path.parent.name == MARKERS}
        repeated = {path for path in received if path.stem in known}
        if markers < received and markers - repeated:
            for path in markers & repeated:
                study.instances, study.size = study.instances - 1, study.size - path.stat().st_size
                path.unlink()
            self._move(study, State.READY)
        elif known and received == repeated and (expired or markers):
            log.info("study %s was sent again", study.digest)
            self._forget(study)
        elif expired:
            self.fail(study, _lacking(bool(known), markers - repeated, received - repeated - markers))

    def _known(self, study: Study) -> list[str]:
        """Digests of the instances of an answered study, and of its answer."""
        if study.state not in (State.ANSWERED, State.DELIVERED):
            return []
        return (self._path(study) / KNOWN).read_text(encoding="ascii").split()

    def _move(self, study: Study, state: State) -> None:
        with self._changed:
            former, path = self._path(study), self.folder / state / study.name
            try:
                move_folder(former, path)
            finally:
                # The rename may have succeeded before an error.
                study.state = state if path.exists() else study.state
            study.changed_at, study.attempts, study.faults, study.due_at = self._clock(), 0, 0, 0.0
            study.busy, study.reason = False, study.record.reason
            if state in ENDED:
                study.instances = study.size = 0
                _tidy(self._path(study))
        level = logging.WARNING if state is State.FAILED else logging.INFO
        log.log(level, "study %s: %s %s", study.digest, state, study.reason)

    def _write(self, study: Study, record: Record) -> None:
        with atomic_file(self._path(study) / RECORD) as file:
            file.write_text(json.dumps(to_json(record)), encoding="utf-8")
        study.record = record

    def _fail_damaged(self) -> None:
        for study in self._studies.values():
            if not self._path(study).exists():
                move_folder(next(self.folder.glob(f"*/{study.name}")), self._path(study))
                self._write(study, Record(reason=study.reason))
                _tidy(self._path(study))

    def _unusable(self, what: str, expected: str, remedy: str) -> PacsError:
        return PacsError(what, case=self.folder, expected=expected, remedy=remedy, arguments=("queue",))

    def _forget(self, study: Study) -> None:
        shutil.rmtree(self._path(study), ignore_errors=True)
        del self._studies[study.name]


def _lacking(answered: bool, markers: set[Path], slices: set[Path]) -> str:
    """Why a study cannot be answered: its new markers, and its slices that are new."""
    if markers:
        return "No CT was received."
    if answered:
        return f"{len(slices)} CT instances were received after the study was answered; the answer is without them."
    return "No SR or SEG was received that marks nodules."


def _tidy(path: Path) -> None:
    """Delete what a killed process has not finished writing or deleting; of an ended study all but its record."""
    if path.is_symlink() or not path.is_dir():
        return
    if re.fullmatch(_UNFINISHED, path.name):
        shutil.rmtree(path, ignore_errors=True)
    if not re.fullmatch(_A_STUDY, path.name):
        return
    for folder in path.iterdir():
        if folder.is_dir() and (path.parent.name in ENDED or folder.name.startswith(TEMPORARY)):
            shutil.rmtree(folder, ignore_errors=True)
    for folder in (path, *(path / INSTANCES).glob("*")):
        clean_folder(folder)
