"""The run folder: what was asked (`run.json`), which stages are finished (`stages.json`), and their models."""

import csv
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

import ggn_tf.models.layers  # noqa: F401 - registers the classes that a .keras file names
from ggn_tf.errors import ProtocolError, RunError, TaskError
from ggn_tf.files import whole_file
from ggn_tf.training.checkpoints import CheckpointStore
from ggn_tf.training.description import RunDescription

SCHEMA = 1


class RunFolder:
    """A run on disk.

    Layout: `run.json`, `stages.json`, `history.csv`, `checkpoints/`, `stages/<stage>.keras`, `model.keras` (the last
    finished stage's), `tensorboard/`, `evaluation/`.

    Args:
        folder: The run folder.
        description: What `run.json` holds.
        dataset: The dataset's folder, as last seen.
        versions: Of the packages that the run was begun with.
    """

    def __init__(self, folder: Path, description: RunDescription, dataset: Path, versions: dict[str, str]) -> None:
        """Use `create` or `open`."""
        self.folder = folder
        self.description = description
        self.dataset = dataset
        self.versions = versions

    @classmethod
    def create(
        cls, folder: Path, description: RunDescription, dataset: Path, versions: dict[str, str], command: str
    ) -> "RunFolder":
        """Begin a run, or come back to one with the same description.

        Args:
            folder: Made where it does not exist. The caller holds its lock (`lock_run`).
            description: What is asked.
            dataset: The dataset's folder; `run.json` names it relative to the run.
            versions: Package versions, for the record.
            command: The command line, for the record.

        Raises:
            RunError: The folder holds a run with other settings.
        """
        if (folder / "run.json").exists():
            run = cls.open(folder)
            run._check_same(description)
            return run
        stored = {
            "schema": SCHEMA,
            **description.to_dict(),
            "dataset": os.path.relpath(dataset.resolve(), folder.resolve()),
            "versions": versions,
            "command": command,
        }
        _write_json(folder / "run.json", stored)
        return cls(folder, description, dataset, versions)

    @classmethod
    def open(cls, folder: Path) -> "RunFolder":
        """Open a run that `fit` began.

        Raises:
            RunError: There is no run, or it was written by another version of ggn-tf.
        """
        stored = _read_json(folder / "run.json", folder)
        try:
            if stored["schema"] != SCHEMA:
                raise KeyError("schema")
            description = RunDescription.from_dict(stored)
            dataset = (folder / stored["dataset"]).resolve()
            return cls(folder, description, dataset, stored["versions"])
        except (KeyError, TypeError, ProtocolError, TaskError) as error:
            raise RunError(
                "The run's run.json cannot be understood.",
                case=folder / "run.json",
                found=f"{type(error).__name__}: {error}",
                expected=f"run.json of schema {SCHEMA}",
                remedy="Use the version of ggn-tf that began the run, or begin another.",
            ) from error

    def finished_stages(self) -> tuple[str, ...]:
        """The names of the stages whose models are saved, in the order of training."""
        return tuple(entry["stage"] for entry in self.ledger())

    def ledger(self) -> list[dict[str, Any]]:
        """An entry a finished stage: epochs, best epoch and scores, why it ended, what moved."""
        file = self.folder / "stages.json"
        entries: list[dict[str, Any]] = _read_json(file, self.folder)["stages"] if file.exists() else []
        return entries

    def checkpoints(self, stage: str) -> CheckpointStore:
        """The checkpoints of a stage."""
        return CheckpointStore(self.folder / "checkpoints", stage)

    def load_model(self, stage: str | None = None) -> keras.Model:
        """The model with a stage's best weights.

        Args:
            stage: None for the last finished one.

        Returns:
            As the model's builder describes it.

        Raises:
            RunError: The stage is not finished, or its file is damaged.
        """
        finished = self.finished_stages()
        wanted = stage or (finished[-1] if finished else None)
        if wanted not in finished:
            raise RunError(
                "The run has not finished that stage." if wanted else "The run has not finished any stage.",
                case=self.folder,
                found=f"finished: {', '.join(finished) or 'none'}",
                expected=wanted or "at least one finished stage",
                remedy="Repeat the same ggn-tf fit command; it goes on where it stopped.",
            )
        file = self.folder / "stages" / f"{wanted}.keras"
        try:
            return keras.saving.load_model(file, compile=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                "A stage's model cannot be read.",
                case=file,
                found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                expected="the .keras file that fit wrote",
                remedy="Train the run again in another folder; run.json holds its command.",
            ) from error

    def history(self, stage: str) -> list[dict[str, str]]:
        """A stage's lines of history.csv, an epoch each, as text; none where it has not begun."""
        file = self.folder / "history.csv"
        if not file.exists():
            return []
        with file.open(newline="", encoding="utf-8") as stream:
            return [row for row in csv.DictReader(stream) if row["stage"] == stage]

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write history.csv anew: the finished stages' lines as they stand, then those of the stage under way.

        Args:
            rows: A mapping an epoch, all with the same keys, `stage` among them. Floats are written to the last bit.
        """
        kept = [row for stage in self.finished_stages() for row in self.history(stage)]
        with (
            whole_file(self.folder / "history.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows([*kept, *rows])

    def finish_stage(self, model: keras.Model, entry: dict[str, Any]) -> None:
        """Save a finished stage's model, then enter it in the ledger, then drop its checkpoints.

        The ledger's entry makes the stage finished: a kill before it repeats the end of the stage, after it nothing.

        Args:
            model: With the best weights.
            entry: Its line of the ledger, with the key `stage`.
        """
        with whole_file(self.folder / "stages" / f"{entry['stage']}.keras") as temporary:
            model.save(temporary)
        with whole_file(self.folder / "model.keras") as temporary:
            shutil.copyfile(self.folder / "stages" / f"{entry['stage']}.keras", temporary)
        _write_json(self.folder / "stages.json", {"stages": [*self.ledger(), entry]})
        self.checkpoints(entry["stage"]).clear()

    def _check_same(self, asked: RunDescription) -> None:
        ours, theirs = _flat(self.description.to_dict()), _flat(asked.to_dict())
        different = [name for name in ours if ours[name] != theirs.get(name)]
        if different:
            raise RunError(
                "The run folder holds a run with other settings.",
                case=self.folder,
                found="; ".join(f"{name} = {ours[name]}" for name in different),
                expected="; ".join(f"{name} = {theirs.get(name)}" for name in different),
                remedy="Repeat the run's own command, which run.json holds, or name another folder with -o.",
            )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _write_json(file: Path, content: dict[str, Any]) -> None:
    with whole_file(file) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _read_json(file: Path, run: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return content
    except (OSError, ValueError) as error:
        raise RunError(
            "This is not a run folder that can be read.",
            case=run,
            found=f"{file.name}: {type(error).__name__}",
            expected="the folder that ggn-tf fit wrote, with a whole run.json and stages.json",
            remedy="Name the run folder, for example runs/NAME, or begin a run with ggn-tf fit.",
        ) from error
