"""The ledger of a run: an entry a finished stage (`stages.json`), and the history of every epoch (`history.csv`)."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ggn_tf.files import atomic_file
from ggn_tf.runs.json_files import read_json, write_json


class Ledger:
    """What the stages of a run came to. An entry holds its stage's history too; history.csv is a copy for people.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        """See the class."""
        self._file = folder / "stages.json"
        self._history_file = folder / "history.csv"

    def entries(self) -> list[dict[str, Any]]:
        """An entry a finished stage, in the order of training.

        Raises:
            RunError: The file is damaged, and so is what it said before.
        """
        entries: list[dict[str, Any]] = read_json(self._file)["stages"] if self._file.exists() else []
        return entries

    def finished(self) -> tuple[str, ...]:
        """The names of the finished stages."""
        return tuple(entry["stage"] for entry in self.entries())

    def enter(self, entry: dict[str, Any]) -> None:
        """Enter a finished stage, in place of a former entry of the same name, with its lines of history.csv."""
        former = self.entries()
        others = [other for other in former if other["stage"] != entry["stage"]]
        whole = {**entry, "history": self._written_history(entry["stage"])}
        write_json(self._file, {"stages": [*others, whole]}, former={"stages": former})

    def history(self, stage: str) -> list[dict[str, str]]:
        """A stage's history, a mapping of text an epoch; none where it has not begun."""
        for entry in self.entries():
            if entry["stage"] == stage and "history" in entry:
                rows: list[dict[str, str]] = entry["history"]
                return rows
        return self._written_history(stage)

    def write_history(self, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write history.csv anew: the finished stages' lines, then those of the stage under way.

        Args:
            rows: A mapping an epoch, all with the same keys, `stage` among them. Floats are written to the last bit.
        """
        under_way = {row["stage"] for row in rows}
        kept = [row for stage in self.finished() if stage not in under_way for row in self.history(stage)]
        lines = [*kept, *rows]
        with (
            atomic_file(self._history_file) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.DictWriter(stream, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)

    def refresh_history(self) -> None:
        """Write history.csv again where it is not what the finished stages say."""
        if any(self._written_history(stage) != self.history(stage) for stage in self.finished()):
            self.write_history()

    def _written_history(self, stage: str) -> list[dict[str, str]]:
        if not self._history_file.exists():
            return []
        with self._history_file.open(newline="", encoding="utf-8") as stream:
            return [row for row in csv.DictReader(stream) if row.get("stage") == stage]
