"""The run folder: what was asked (`run.json`), which stages are finished (`stages.json`), and their models."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

import ggn_tf.models.fast.layers  # noqa: F401 - registers the classes that a .keras file names
from ggn_tf.errors import RecordError, RunError, TaskError
from ggn_tf.files import atomic_file, sha256
from ggn_tf.runs.checkpoints import CheckpointStore
from ggn_tf.runs.json_files import read_json, write_json
from ggn_tf.runs.ledger import Ledger
from ggn_tf.runs.more_epochs import check_extension
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.stages import STAGES

SCHEMA = 1


class RunFolder:
    """A run on disk.

    Layout: `run.json`, `stages.json` (both with the version before them, hidden), `history.csv`, `checkpoints/`,
    `stages/<stage>.keras`, `model.keras` (the last finished stage's), `tensorboard/`, `evaluation/`. `history.csv` and
    `model.keras` are copies for people; what the product reads lies in the others.

    Args:
        folder: The run folder.
        description: What `run.json` holds.
        dataset: The dataset's folder, as last seen.
        versions: Of the packages that the run was begun with.
        conditions: How exactly its numbers can be had again, as `conditions_here` told at its beginning.
    """

    def __init__(
        self,
        folder: Path,
        description: RunDescription,
        dataset: Path,
        versions: dict[str, str],
        conditions: dict[str, Any] | None = None,
    ) -> None:
        """Use `create` or `open`."""
        self.folder = folder
        self.description = description
        self.dataset = dataset
        self.versions = versions
        self.conditions = conditions or {}
        self._ledger = Ledger(folder)

    @classmethod
    def create(
        cls,
        folder: Path,
        description: RunDescription,
        dataset: Path,
        versions: dict[str, str],
        command: str,
        conditions: dict[str, Any] | None = None,
    ) -> "RunFolder":
        """Begin a run, or come back to one with the same description, or with more epochs.

        Args:
            folder: Made where it does not exist. The caller holds its lock (`lock_run`).
            description: What is asked.
            dataset: The dataset's folder; `run.json` names it relative to the run.
            versions: Package versions, for the record.
            command: The command line, for the record.
            conditions: From `conditions_here`, for the record.

        Raises:
            RunError: The folder holds a run with other settings, or one whose stages are past extending.
        """
        if (folder / "run.json").exists() and not _only_begun(folder):
            run = cls.open(folder)
            if check_extension(folder, run.description, description, run._closed_stages()):
                run._extend(description, command)
            return run
        stored = {
            "schema": SCHEMA,
            **description.to_dict(),
            "dataset": os.path.relpath(dataset.resolve(), folder.resolve()),
            "versions": versions,
            "conditions": conditions or {},
            "command": command,
        }
        write_json(folder / "run.json", stored)
        return cls(folder, description, dataset, versions, conditions)

    @classmethod
    def open(cls, folder: Path) -> "RunFolder":
        """Open a run that `fit` began.

        Raises:
            RunError: There is no run, or it was written by another version of ggn-tf.
        """
        stored = read_json(folder / "run.json")
        try:
            if stored["schema"] != SCHEMA:
                raise KeyError("schema")
            description = RunDescription.from_dict(stored)
            dataset = (folder / stored["dataset"]).resolve()
            return cls(folder, description, dataset, stored["versions"], stored.get("conditions"))
        except (KeyError, TypeError, RecordError, TaskError) as error:
            raise RunError(
                "The run's run.json cannot be understood.",
                case=folder / "run.json",
                found=f"{type(error).__name__}: {error}",
                expected=f"run.json of schema {SCHEMA}",
                remedy="Use the version of ggn-tf that began the run, or begin another.",
            ) from error

    def finished_stages(self) -> tuple[str, ...]:
        """The names of the stages whose models are saved, in the order of training."""
        return self._ledger.finished()

    def ledger(self) -> list[dict[str, Any]]:
        """An entry a finished stage: epochs, best epoch and scores, why it ended, what moved, its history."""
        return self._ledger.entries()

    def is_complete(self, stage: str) -> bool:
        """Whether a stage is finished, its model is whole, and no epochs were added since."""
        entry = next((entry for entry in self.ledger() if entry["stage"] == stage), None)
        if entry is None:
            return False
        file = self.folder / "stages" / f"{stage}.keras"
        if "sha256" in entry and (not file.exists() or sha256(file) != entry["sha256"]):
            # Only the last stage is made again, from its kept checkpoint; of an earlier one `load_model` complains.
            return self.finished_stages()[-1] != stage
        return not self._wants_epochs(entry)

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
        """A stage's history, a mapping of text an epoch; none where it has not begun."""
        return self._ledger.history(stage)

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write history.csv anew: the finished stages' lines, then those of the stage under way.

        Args:
            rows: A mapping an epoch, all with the same keys, `stage` among them. Floats are written to the last bit.
        """
        self._ledger.write_history(rows)

    def finish_stage(self, model: keras.Model, entry: dict[str, Any]) -> None:
        """Save a finished stage's model, then enter it in the ledger, with its lines of history.csv.

        The ledger's entry makes the stage finished: a kill before it repeats the end of the stage, after it nothing.
        The stage's last checkpoint stays, for more epochs; those of earlier stages go.

        Args:
            model: With the best weights.
            entry: Its line of the ledger, with the key `stage`.
        """
        stage = entry["stage"]
        file = self.folder / "stages" / f"{stage}.keras"
        with atomic_file(file) as temporary:
            model.save(temporary)
        self._copy_model(file)
        self._ledger.enter({**entry, "sha256": sha256(file)})
        self.checkpoints(stage).keep_newest()
        for other in self.finished_stages():
            if other != stage:
                self.checkpoints(other).clear()

    def refresh_copies(self) -> None:
        """Write history.csv and model.keras again where they are not what the finished stages say."""
        self._ledger.refresh_history()
        finished = self.finished_stages()
        if not finished:
            return
        file, copy = self.folder / "stages" / f"{finished[-1]}.keras", self.folder / "model.keras"
        if file.exists() and (not copy.exists() or sha256(copy) != sha256(file)):
            self._copy_model(file)

    def _copy_model(self, file: Path) -> None:
        with atomic_file(self.folder / "model.keras") as temporary:
            shutil.copyfile(file, temporary)

    def _wants_epochs(self, entry: dict[str, Any]) -> bool:
        """Whether the number of epochs ended a stage, and is larger now."""
        epochs = entry.get("epochs")
        numbers = getattr(self.description.protocol.training, entry["stage"])
        return str(entry.get("ended")) == f"all {epochs} epochs done" and numbers.max_epochs > epochs

    def _closed_stages(self) -> tuple[str, ...]:
        """The stages that their number of epochs ended, and from whose weights another stage has started."""
        finished = self.ledger()
        names = [str(stage.name) for stage in STAGES[self.description.model]]
        begun = [name for name in names if name in self.finished_stages() or self.checkpoints(name).exists()]
        ended = [entry["stage"] for entry in finished if str(entry.get("ended", "")).startswith("all ")]
        taken = [entry["stage"] for entry in finished if "taken_from" in entry]
        return tuple(stage for stage in ended if stage != begun[-1] or stage in taken)

    def _extend(self, asked: RunDescription, command: str) -> None:
        stored = read_json(self.folder / "run.json")
        extended = {**stored, **asked.to_dict(), "extended_by": [*stored.get("extended_by", []), command]}
        write_json(self.folder / "run.json", extended, former=stored)
        self.description = asked


def _only_begun(folder: Path) -> bool:
    """Whether all that was ever written is a run.json that is damaged: then there is nothing to lose."""
    try:
        read_json(folder / "run.json")
    except RunError:
        return not (folder / "checkpoints").exists() and not (folder / "stages").exists()
    return False
