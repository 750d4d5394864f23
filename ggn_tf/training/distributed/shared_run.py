"""A run folder as every process of a training sees it: it lies with the chief, who tells the others what it holds."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from ggn_tf.errors import RunError
from ggn_tf.runs.checkpoints import Checkpoint, CheckpointStore, from_bytes, to_bytes
from ggn_tf.runs.reproducibility import threads_of_an_operation
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import Stage
from ggn_tf.training.distributed.replicas import Replicas
from ggn_tf.training.initial_model import initial_model


class SharedStore:
    """The checkpoints of a stage: the chief writes them, everyone goes on from them.

    Args:
        store: The chief's; None in the others.
        replicas: Who trains.
    """

    def __init__(self, store: CheckpointStore | None, replicas: Replicas) -> None:
        """See the class."""
        self._store = store
        self._replicas = replicas

    @property
    def writes(self) -> bool:
        """Whether `write` does anything in this process."""
        return self._store is not None

    def write(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint, in the chief."""
        if self._store is not None:
            self._store.write(checkpoint)

    def latest(self) -> Checkpoint | None:
        """The chief's newest whole checkpoint; all processes must call it."""
        checkpoint = self._store.latest() if self._store is not None else None
        if self._replicas.workers == 1:
            return checkpoint
        content = self._replicas.from_chief(to_bytes(checkpoint) if checkpoint else b"")
        return from_bytes(content) if content else None


class SharedRun:
    """What training asks of a run folder; only the chief has one.

    Args:
        run: None in a process that is not the chief.
        asked: The run.
        stages: Names of the stages that the call goes through; with other ones the processes would wait for each other.
        replicas: Who trains.

    Raises:
        RunError: The processes were not asked for the same.
    """

    def __init__(self, run: RunFolder | None, asked: RunDescription, stages: Sequence[str], replicas: Replicas) -> None:
        """See the class."""
        self._run = run
        self._asked = asked
        self._replicas = replicas
        if replicas.workers > 1:
            self._compare({**asked.to_dict(), "stages": list(stages), "threads": threads_of_an_operation()})

    def is_complete(self, stage: str) -> bool:
        """Whether the chief has finished a stage; all processes must call it."""
        return self._replicas.any(self._run is not None and self._run.is_complete(stage))

    def model_before(self, former: Stage | None) -> keras.Model:
        """The model that a stage starts from; all processes must call it.

        Read back even what the chief has just saved: a run that was stopped in between starts from the same bits.

        Args:
            former: The stage before, or None for the initial weights.
        """
        stored = self._run.load_model(former.name) if self._run is not None and former else None
        if self._replicas.count == 1:
            return stored or initial_model(self._asked)
        with self._replicas.scope():
            model = initial_model(self._asked)
        content = b""
        if self._run is not None:
            weights = (stored or model).variables
            content = to_bytes(Checkpoint({}, {str(index): weight.numpy() for index, weight in enumerate(weights)}))
        chiefs = from_bytes(self._replicas.from_chief(content))
        for index, variable in enumerate(model.variables):
            variable.assign(chiefs.arrays[str(index)])
        return model

    def checkpoints(self, stage: str) -> SharedStore:
        """The checkpoints of a stage."""
        return SharedStore(self._run.checkpoints(stage) if self._run is not None else None, self._replicas)

    def refresh_copies(self) -> None:
        """See `RunFolder`."""
        if self._run is not None:
            self._run.refresh_copies()

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `RunFolder`."""
        if self._run is not None:
            self._run.write_history(rows)

    def finish_stage(self, model: keras.Model, rows: Sequence[Mapping[str, Any]], entry: dict[str, Any]) -> None:
        """See `RunFolder`; `rows` are the stage's lines of history.csv."""
        if self._run is not None:
            self._run.write_history(rows)
            self._run.finish_stage(model, entry)

    def close(self, past_extending: str | None = None) -> None:
        """End together: a worker that left before the chief has written could not help it to go on.

        Args:
            past_extending: A stage that will not be given more epochs: its checkpoints go.
        """
        if self._run is not None and past_extending:
            self._run.checkpoints(past_extending).clear()
        self._replicas.any(False)

    def _compare(self, ours: dict[str, Any]) -> None:
        chiefs = json.loads(self._replicas.from_chief(json.dumps(ours).encode()))
        others = [name for name, value in json.loads(json.dumps(ours)).items() if chiefs.get(name) != value]
        if self._replicas.any(bool(others)):
            raise RunError(
                "The workers were not asked for the same run.",
                case=f"worker {self._replicas.worker} of {self._replicas.workers}",
                found=f"other than the chief's: {', '.join(others)}" if others else "another worker differs",
                expected="the same dataset, task, model, stages, split, seed, precision, numbers and threads",
                remedy="Give all the same command, dataset and --precision; TF_NUM_INTRAOP_THREADS sets the threads.",
            )
