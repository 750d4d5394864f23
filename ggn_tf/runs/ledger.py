"""The ledger of a run: one entry per finished stage (`stages.json`), and the history of every epoch (`history.csv`)."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ggn_tf.files import atomic_file
from ggn_tf.runs.json_files import read_json, write_json


class Ledger:
    """The results of the stages. An entry contains its stage's history too; history.csv is a copy for people.

    Args:
        folder: The run folder.
    """

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
        entries: list[dict[str, Any]] = read_json(self._file)["stages"] if self._file.exists() else []
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
        """Rewrite history.csv: the rows of the finished stages, then those of the current stage.

        Args:
            rows: One mapping per epoch, all with the same keys, `stage` among them. Floats are written to the last bit.
        """
        current = {row["stage"] for row in rows}
        kept = [row for stage in self.finished() if stage not in current for row in self.history(stage)]
        lines = [*kept, *rows]
        with (
            atomic_file(self._history_file) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.DictWriter(stream, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)

    def refresh_history(self) -> None:
        """Rewrite history.csv if it differs from the entries of the finished stages."""
        if any(self._written_history(stage) != self.history(stage) for stage in self.finished()):
            self.write_history()

    def _written_history(self, stage: str) -> list[dict[str, str]]:
        if not self._history_file.exists():
            return []
        with self._history_file.open(newline="", encoding="utf-8") as stream:
            return [row for row in csv.DictReader(stream) if row.get("stage") == stage]
