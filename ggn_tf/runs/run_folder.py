"""The run folder: its settings (`run.json`), the finished stages (`stages.json`), their models, and its dataset."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import ggn_tf.models.fast  # noqa: F401 - registers the classes that a .keras file names
from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.dataset.splits import Split, digest_of, read_split
from ggn_tf.errors import RecordError, RunError, SplitError
from ggn_tf.files import atomic_file, sha256
from ggn_tf.json_records import from_json, to_json
from ggn_tf.runs.checkpoints import CheckpointStore
from ggn_tf.runs.ledger import Ledger, StopReason, read_json, stop_reason_of, write_json
from ggn_tf.runs.lock import refuse_run_links
from ggn_tf.runs.model_file import UNREADABLE, check_model_file
from ggn_tf.runs.run_description import (
    RunDescription,
    StoredBeginning,
    StoredConditions,
    check_extension,
    resume_remedy,
)
from ggn_tf.runs.stages import STAGES
from ggn_tf.runs.started_from import UNTRAINED, TrainedOn

# 2: the axes of patches are those of the CT nearest to L, P and S; before, those of the file.
SCHEMA = 2
OWN_SPLIT, SOURCE_CASES, START = "split.json", "source_cases.json", "start.keras"


class RunFolder:
    """A run on disk.

    Layout: `run.json`, `stages.json` (both with a hidden copy of their former version), `history.csv`, `checkpoints/`,
    `stages/<stage>.keras`, `model.keras` (the last finished stage's), `tensorboard/`, `evaluation/`, `split.json` where
    the split is the user's own, and where the run started from existing weights `start.keras` and `source_cases.json`.
    `history.csv` and `model.keras` are copies for people, which the product does not read.
    """

    def __init__(
        self,
        folder: Path,
        description: RunDescription,
        dataset: Path,
        versions: Mapping[str, str],
        conditions: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.description = description
        self.dataset = dataset
        self.versions = versions
        self.conditions = conditions or {}
        self.ledger = Ledger(folder)
        self._kept: dict[str | None, keras.Model] | None = None

    @classmethod
    def create(
        cls,
        folder: Path,
        description: RunDescription,
        dataset: Path,
        versions: Mapping[str, str],
        command: str,
        conditions: Mapping[str, Any] | None = None,
    ) -> "RunFolder":
        """Begin a run, or open one that has the same settings or fewer epochs.

        The caller has the folder's lock (`lock_run`). `run.json` names the dataset's folder relative to the run;
        versions, command and conditions (`Conditions.to_dict`) are for the record.

        Raises:
            RunError: The folder contains a run with other settings, or one whose stages can no longer be extended.
        """
        if (folder / "run.json").exists() and not _only_begun(folder):
            run = cls.open(folder)
            if check_extension(folder, run.description, description, run._closed_stages()):
                run._extend(description, command)
            return run
        stored = {
            "schema": SCHEMA,
            **to_json(description),
            "dataset": os.path.relpath(dataset.resolve(), folder.resolve()),
            "versions": dict(versions),
            "conditions": conditions or {},
            "command": command,
        }
        write_json(folder / "run.json", stored)
        return cls(folder, description, dataset, versions, conditions)

    @classmethod
    def check(cls, folder: Path, description: RunDescription) -> None:
        """Verify that `create` would accept these settings; writes nothing.

        Raises:
            RunError: As in `create`.
        """
        if (folder / "run.json").exists() and not _only_begun(folder):
            run = cls.open(folder)
            check_extension(folder, run.description, description, run._closed_stages())

    @classmethod
    def open(cls, folder: Path) -> "RunFolder":
        """Open an existing run.

        Raises:
            RunError: There is no run, it was written by another version of ggn-tf, or a file of it is a link.
        """
        refuse_run_links(folder)
        stored = read_json(folder / "run.json")
        try:
            if stored["schema"] != SCHEMA:
                raise KeyError("schema")
            description = from_json(RunDescription, stored, ignore_unknown=True)
            begun = from_json(StoredBeginning, stored, ignore_unknown=True)
            from_json(StoredConditions, begun.conditions or {}, ignore_unknown=True)
            dataset = (folder / begun.dataset).resolve()
            return cls(folder, description, dataset, begun.versions, begun.conditions)
        except (KeyError, ValueError, RuntimeError, RecordError) as error:
            raise RunError(
                "The run's run.json is not valid.",
                case=folder / "run.json",
                found=f"{type(error).__name__}: {error}",
                expected=f"run.json of schema {SCHEMA}",
                remedy="Use the version of ggn-tf that began the run, or train another run.",
            ) from error

    def keep_split(self, split: Split) -> None:
        """Store the user's own split, which the dataset does not contain."""
        write_json(self.folder / OWN_SPLIT, to_json(split))

    def keep_source_cases(self, cases: TrainedOn) -> None:
        """Store of whom the source of the first weights has learned, for runs that start from this one."""
        write_json(self.folder / SOURCE_CASES, to_json(cases))

    def source_cases(self) -> TrainedOn:
        """Of whom the source of the first weights has learned, as far as known; raises RunError where it is damaged."""
        if self.description.start_from is None:
            return UNTRAINED
        try:
            return from_json(TrainedOn, read_json(self.folder / SOURCE_CASES))
        except RecordError as error:
            raise RunError(
                "The run's record of its source's patients is not valid.",
                case=self.folder / SOURCE_CASES,
                found=f"{error.case}: {error.found}",
                expected="the file that the training wrote",
                remedy="Restore the file from a copy of the run.",
            ) from error

    def finished_stages(self) -> tuple[str, ...]:
        """The names of the stages whose models are saved, in the order of training."""
        return self.ledger.finished()

    def is_complete(self, stage: str) -> bool:
        """Whether a stage is finished, its model is intact, and no epochs were added since."""
        entry = self.ledger.entry(stage)
        if entry is None:
            return False
        file = self.folder / "stages" / f"{stage}.keras"
        if not _is_intact(file, entry):
            # Only the last stage is repeated, from its kept checkpoint; for an earlier one `load_model` raises.
            return self.finished_stages()[-1] != stage
        return not self._wants_epochs(entry)

    def checkpoints(self, stage: str) -> CheckpointStore:
        """The checkpoints of a stage."""
        return CheckpointStore(self.folder / "checkpoints", stage)

    def load_model(self, stage: str | None = None) -> keras.Model:
        """The model with the best weights of a stage (None: the last finished one), as its builder describes it.

        Raises:
            RunError: As `model_file`, or the file cannot be read.
        """
        chosen = stage or next(reversed(self.finished_stages()), None)
        if self._kept is None:
            return self._read_model(chosen)
        if chosen not in self._kept:
            self._kept[chosen] = self._read_model(chosen)
        return self._kept[chosen]

    def keep_models(self) -> None:
        """Read the model of each stage once, for a caller that changes none."""
        self._kept = {}

    def _read_model(self, stage: str | None) -> keras.Model:
        file = self.model_file(stage)
        try:
            check_model_file(file)
            return keras.saving.load_model(file, compile=False)
        except (*UNREADABLE, MemoryError, tf.errors.OpError) as error:
            raise RunError(
                "A stage's model cannot be read.",
                case=file,
                found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                expected="the .keras file that the training wrote",
                remedy="Train the run again in another folder; run.json contains its command.",
            ) from error

    def model_file(self, stage: str | None = None) -> Path:
        """The `.keras` file of a stage (None: the last finished one), which is the one that was saved.

        Raises:
            RunError: The stage is not finished, or its file is damaged or is not the one that was saved.
        """
        finished = self.finished_stages()
        chosen = stage or (finished[-1] if finished else None)
        if chosen not in finished:
            raise RunError(
                "The run has not finished that stage." if chosen else "The run has not finished any stage.",
                case=self.folder,
                found=f"finished: {', '.join(finished) or 'none'}",
                expected=chosen or "at least one finished stage",
                remedy=self.resume_remedy(),
            )
        file = self.folder / "stages" / f"{chosen}.keras"
        if not _is_intact(file, self.ledger.entry(chosen) or {}):
            raise RunError(
                "A stage's model is not the one that was trained.",
                case=file,
                found="a file with another SHA-256" if file.exists() else "no file",
                expected="the file whose SHA-256 is in stages.json",
                remedy="Restore the file from a copy of the run, or train the run again in another folder.",
            )
        return file

    def resume_remedy(self) -> str:
        """The remedy where the run is not finished: the last command that began or extended it."""
        stored = read_json(self.folder / "run.json")
        extensions = stored.get("extended_by")
        commands = [stored.get("command"), *(extensions if isinstance(extensions, list) else [])]
        return resume_remedy(commands[-1], "run.json")

    def finish_stage(self, model: keras.Model, entry: dict[str, Any], rows: Sequence[Mapping[str, Any]] = ()) -> None:
        """Save a finished stage's model, then enter the stage in the ledger, with its rows of history.csv.

        The ledger's entry makes the stage finished: a kill before it repeats the end of the stage, after it nothing.
        The stage's last checkpoint is kept, for more epochs; those of earlier stages are deleted. Without rows
        history.csv contains them already.
        """
        stage = entry["stage"]
        if rows:
            self.ledger.write_history(rows)
        file = self.folder / "stages" / f"{stage}.keras"
        with atomic_file(file) as temporary:
            model.save(temporary)
        self._copy_model(file)
        self.ledger.enter({**entry, "sha256": sha256(file)})
        self.checkpoints(stage).keep_newest()
        for other in self.finished_stages():
            if other != stage:
                self.checkpoints(other).clear()

    def refresh_copies(self) -> None:
        """Rewrite history.csv and model.keras if they differ from the finished stages."""
        self.ledger.refresh_history()
        finished = self.finished_stages()
        if not finished:
            return
        file, copy = self.folder / "stages" / f"{finished[-1]}.keras", self.folder / "model.keras"
        intact = _is_intact(file, self.ledger.entry(finished[-1]) or {})
        if intact and (not copy.exists() or sha256(copy) != sha256(file)):
            self._copy_model(file)

    def _copy_model(self, file: Path) -> None:
        with atomic_file(self.folder / "model.keras") as temporary:
            shutil.copyfile(file, temporary)

    def _wants_epochs(self, entry: dict[str, Any]) -> bool:
        numbers = getattr(self.description.protocol.training, entry["stage"])
        return stop_reason_of(entry) is StopReason.ALL_EPOCHS and numbers.max_epochs > entry["epochs"]

    def _closed_stages(self) -> tuple[str, ...]:
        """The stages that their number of epochs ended, and from whose weights another stage has started."""
        finished = self.ledger.entries()
        names = [str(stage.name) for stage in STAGES[self.description.model]]
        begun = [name for name in names if name in self.finished_stages() or self.checkpoints(name).exists()]
        ended = [entry["stage"] for entry in finished if stop_reason_of(entry) is StopReason.ALL_EPOCHS]
        taken = [entry["stage"] for entry in finished if "taken_from" in entry]
        return tuple(stage for stage in ended if stage != begun[-1] or stage in taken)

    def _extend(self, requested: RunDescription, command: str) -> None:
        stored = read_json(self.folder / "run.json")
        extended = {**stored, **to_json(requested), "extended_by": [*stored.get("extended_by", []), command]}
        write_json(self.folder / "run.json", extended, former=stored)
        self.description = requested


def _is_intact(file: Path, entry: Mapping[str, Any]) -> bool:
    return file.exists() and sha256(file) == entry.get("sha256")


def _only_begun(folder: Path) -> bool:
    """Whether a damaged run.json is all that was ever written: then there is nothing to lose."""
    try:
        read_json(folder / "run.json")
    except RunError:
        return not (folder / "checkpoints").exists() and not (folder / "stages").exists()
    return False


def open_run_dataset(run: RunFolder, moved: Path | None = None) -> Dataset:
    """Open the dataset that a run was trained on, at the path in `run.json` or where it was moved.

    Raises:
        RunError: There is no dataset, or it is another one.
        DatasetError: The dataset is damaged.
    """
    folder = moved or run.dataset
    if not folder.is_dir():
        raise RunError(
            "The run's dataset was not found.",
            case=run.folder,
            found=f"no folder {folder}",
            expected="the dataset that the run was trained on",
            remedy="Name the folder where it is now.",
            arguments=("own_dataset",),
        )
    dataset = open_dataset(folder, run.description.protocol.patch)
    if dataset.fingerprint != run.description.dataset_fingerprint:
        raise RunError(
            "The dataset is not the one that the run was trained on.",
            case=folder,
            found=f"fingerprint {dataset.fingerprint}",
            expected=f"fingerprint {run.description.dataset_fingerprint}",
            remedy="Name the run's own dataset. Another site's dataset is for external validation.",
            arguments=("own_dataset", "dataset"),
        )
    return dataset


def read_run_split(run: RunFolder, dataset: Dataset) -> Split:
    """Read the split that a run was trained on: the user's own from the run, else the dataset's.

    Raises:
        SplitError: The split is missing, damaged, or not the one that the run was trained on.
    """
    file, expected = run.folder / OWN_SPLIT, run.description.split_digest
    split = _own_split(file) if file.exists() else read_split(dataset, run.description.split)
    if expected not in (None, digest_of(split)):
        raise _other_split(file if file.exists() else dataset.folder, f"SHA-256 {digest_of(split)}", expected)
    return split


def _own_split(file: Path) -> Split:
    try:
        return from_json(Split, read_json(file))
    except (RunError, RecordError) as error:
        raise _other_split(file, f"{error.what} {error.found}", None) from error


def _other_split(path: Path, found: str, expected: str | None) -> SplitError:
    return SplitError(
        "The split is not the one that the run was trained on: cases of its training could be scored as test cases.",
        case=path,
        found=found,
        expected=f"SHA-256 {expected}" if expected else "the file that the training wrote",
        remedy="Restore the run and its dataset from a copy of the same time.",
    )
