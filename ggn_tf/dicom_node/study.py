"""A received study and its state, in memory and on the disk."""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from ggn_tf.errors import RecordError
from ggn_tf.json_records import from_json, read_document

log = logging.getLogger(__name__)

MARKERS = "markers"
"""The folder of the SRs and SEGs among the instances of a study; each CT series has another one."""
INSTANCES, ANSWER, RECORD, KNOWN = "instances", "answer", "record.json", "known.txt"


class State(StrEnum):
    """Where a study is on its way; the names of folders."""

    RECEIVING = "receiving"
    READY = "ready"
    ANSWERED = "answered"
    DELIVERED = "delivered"
    FAILED = "failed"


ENDED = (State.DELIVERED, State.FAILED)


@dataclass(frozen=True)
class Instance:
    """A received instance: UIDs, and the bytes of its file. `series` is that of a CT, and None for an SR or SEG."""

    study: str
    uid: str
    series: str | None
    parts: Sequence[bytes]


@dataclass(frozen=True)
class Record:
    """What is stored of a study beside its instances.

    Attributes:
        files: The answer's files, relative to its folder.
        reason: Why the study has failed, or what its answer lacks.
    """

    files: tuple[str, ...] = ()
    reason: str = ""


@dataclass
class Study:
    """A study in the queue.

    Attributes:
        name: Digest of its UID, and when its first instance came: a study can be marked again after its delivery.
        changed_at: When an instance came, an attempt began, or the state changed; Unix time, seconds.
        attempts: Failed attempts since the state changed.
        faults: How many of them the study itself may have caused.
        due_at: Time of the next one.
        busy: Whether it is being processed.
        reason: Why the last attempt failed; else that of the record.
    """

    name: str
    state: State
    changed_at: float
    record: Record = field(default_factory=Record)
    instances: int = 0
    size: int = 0
    attempts: int = 0
    faults: int = 0
    due_at: float = 0.0
    busy: bool = False
    reason: str = ""

    @property
    def digest(self) -> str:
        """The digest of the study's UID."""
        return self.name.partition("-")[0]

    def described(self) -> dict[str, Any]:
        """As JSON types, without names of patients."""
        return {
            "study": self.digest,
            "state": str(self.state),
            "changed": datetime.fromtimestamp(self.changed_at, UTC).isoformat(timespec="seconds"),
            "instances": self.instances,
            "attempts": self.attempts,
            "reason": self.reason,
        }


def digest_of(uid: str) -> str:
    """The name of a UID in the queue: 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(uid.encode()).hexdigest()[:16]


def read_study(path: Path) -> Study | None:
    """A study as it is on the disk, failed if its record is damaged; None where another process has just moved it."""
    try:
        file = path / RECORD
        record = from_json(Record, read_document(file)) if file.exists() else Record()
        found = [item.stat() for item in (path / INSTANCES).glob("*/*.dcm")]
        changed_at, state = path.stat().st_mtime, State(path.parent.name)
    except FileNotFoundError:
        return None
    except (ValueError, RecordError):
        log.error("the record of study %s is damaged", path.name)
        return Study(path.name, State.FAILED, time.time(), reason="The record is damaged.")
    if state is State.RECEIVING:
        changed_at = max((item.st_mtime for item in found), default=changed_at)
    size = sum(item.st_size for item in found)
    return Study(path.name, state, changed_at, record, len(found), size, reason=record.reason)
