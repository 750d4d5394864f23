"""The documents of a run folder: JSON files, of which a former version is kept, the ledger and the history.

The ledger (`stages.json`) has one entry per finished stage, `history.csv` one row per epoch.
"""

import csv
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from ggn_tf.errors import RecordError, RunError
from ggn_tf.files import atomic_file
from ggn_tf.json_records import added_later, from_json, read_document, with_digest, without_digest
from ggn_tf.protocol import StageProtocol


class StopReason(StrEnum):
    """Why a stage ended; the value is the code in the ledger."""

    ALL_EPOCHS = "all_epochs"
    NO_BETTER_SCORE = "no_better_score"

    def text(self, numbers: StageProtocol) -> str:
        """The reason for people, with the number that ended the stage."""
        if self is StopReason.ALL_EPOCHS:
            return f"all {numbers.max_epochs} epochs done"
        return f"no better score for {numbers.patience} epochs"


# Ledgers of ggn-tf 0.1 contain only these sentences.
_SENTENCES = {
    r"all \d+ epochs done": StopReason.ALL_EPOCHS,
    r"no better score for \d+ epochs": StopReason.NO_BETTER_SCORE,
}


def stop_reason_of(entry: Mapping[str, Any]) -> StopReason | None:
    """Read why a stage ended; None where the entry gives no reason that this version knows."""
    code, sentence = entry.get("ended_code"), str(entry.get("ended", ""))
    if code is not None:
        return StopReason(code) if code in set(StopReason) else None
    return next((reason for pattern, reason in _SENTENCES.items() if re.fullmatch(pattern, sentence)), None)


def write_json(file: Path, content: dict[str, Any], former: dict[str, Any] | None = None) -> None:
    """Write a document with its digest, and beside it its former version, if there is one.

    `read_json` returns the former version should the new file be damaged, as after a power cut on a disk that reports
    data as written too early.
    """
    if former is not None:
        _write(_former(file), former)
    _write(file, content)


_RECORDS = ("*/run.json", "*/crossval.json", "runs/*/run.json")


def read_json(file: Path) -> dict[str, Any]:
    """Read a document, or its former version if it is damaged; raises RunError where neither can be read."""
    try:
        return _read(file)
    except (OSError, ValueError) as error:
        if file.exists() and _former(file).exists():
            try:
                return _read(_former(file))
            except (OSError, ValueError):
                pass
        if not file.parent.exists():
            raise _missing(file.parent) from error
        found = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}, {error}"
        raise RunError(
            "The folder is not a readable run folder.",
            case=file.parent,
            found=f"{file.name}: {found}",
            expected="the folder of a training, with an intact run.json and stages.json",
            remedy="Name the run folder, for example runs/NAME, or train a run first.",
        ) from error


def _missing(folder: Path) -> RunError:
    """The error about a folder that does not exist, with the most similar names beside it and in `runs`."""
    records = [record for pattern in _RECORDS for record in sorted(folder.parent.glob(pattern))]
    beside = {record.parent.name: record.parent for record in records}
    similar = [str(beside[name]) for name in difflib.get_close_matches(folder.name, beside, cutoff=0)]
    return RunError(
        "There is no such run folder.",
        case=folder,
        found="nothing",
        expected="the folder of a training",
        remedy=f"Name another folder. The nearest names are {', '.join(similar)}." if similar else "Train a run first.",
    )


def _former(file: Path) -> Path:
    return file.with_name(f".former.{file.name}")


def _write(file: Path, content: dict[str, Any]) -> None:
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(with_digest(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _read(file: Path) -> dict[str, Any]:
    return without_digest(read_document(file))


@dataclass(frozen=True)
class _StoredEntry:
    """What is read of an entry, whose stage becomes the name of a file."""

    stage: Literal["segment", "classify", "joint"]
    epochs: int | None = added_later(None)
    best_epoch: int | None = added_later(None)
    ended: str | None = added_later(None)
    ended_code: str | None = added_later(None)
    sha256: str | None = added_later(None)
    history: tuple[dict[str, str | None], ...] | None = added_later(None)


class Ledger:
    """The results of the stages. An entry contains its stage's history too; history.csv is a copy for people."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "stages.json"
        self._history_file = folder / "history.csv"

    def entries(self) -> list[dict[str, Any]]:
        """One entry per finished stage, in the order of training.

        An entry contains the stage's epochs, best epoch and its scores, why the stage ended, how far every variable
        moved, the conditions of the training, and the history.

        Raises:
            RunError: The file is damaged, and so is its former version.
        """
        if not self._file.exists():
            return []
        stored = read_json(self._file)
        try:
            entries: list[dict[str, Any]] = stored["stages"]
            for entry in entries:
                from_json(_StoredEntry, entry, ignore_unknown=True)
        except (KeyError, TypeError, RecordError) as error:
            raise RunError(
                "The run's ledger is not valid.",
                case=self._file,
                found=f"{error.case}: {error.found}" if isinstance(error, RecordError) else type(error).__name__,
                expected="one entry per finished stage",
                remedy="Restore the file from a copy of the run, or train another run.",
            ) from error
        return entries

    def entry(self, stage: str) -> dict[str, Any] | None:
        """The entry of a stage; None if it is not finished."""
        return next((entry for entry in self.entries() if entry["stage"] == stage), None)

    def finished(self) -> tuple[str, ...]:
        """The names of the finished stages, in the order of training."""
        return tuple(entry["stage"] for entry in self.entries())

    def enter(self, entry: dict[str, Any]) -> None:
        """Enter a finished stage with its rows of history.csv, in place of a former entry of the same name."""
        former = self.entries()
        kept = [stage for stage in former if stage["stage"] != entry["stage"]]
        complete = {**entry, "history": self._written_history(entry["stage"])}
        write_json(self._file, {"stages": [*kept, complete]}, former={"stages": former})

    def history(self, stage: str) -> list[dict[str, str]]:
        """A stage's history: one mapping of texts per epoch; empty if the stage has not begun."""
        rows: list[dict[str, str]] | None = (self.entry(stage) or {}).get("history")
        return self._written_history(stage) if rows is None else rows

    def write_history(self, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        """Rewrite history.csv: the rows of the finished stages, then those of the current stage, one per epoch."""
        current = {row["stage"] for row in rows}
        kept = [row for stage in self.finished() if stage not in current for row in self.history(stage)]
        lines = [*kept, *rows]
        with atomic_file(self._history_file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in lines for name in row)))
            writer.writeheader()
            writer.writerows(lines)

    def refresh_history(self) -> None:
        """Rewrite history.csv if it differs from the entries of the finished stages."""
        if any(self._written_history(stage) != self.history(stage) for stage in self.finished()):
            self.write_history()

    def _written_history(self, stage: str) -> list[dict[str, str]]:
        return [row for row in read_history(self._history_file) if row["stage"] == stage]


def read_history(file: Path) -> list[dict[str, str]]:
    """The complete rows of a history.csv; none where it is missing or damaged, as it is a copy for people."""
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            # An incomplete last line, which is still being written, is left out.
            return [row for row in csv.DictReader(stream) if row.get("stage") and None not in (*row, *row.values())]
    except (FileNotFoundError, IsADirectoryError, ValueError, csv.Error):
        return []
