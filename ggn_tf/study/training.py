"""A training of a study: a run folder, and the predictions of its stages."""

import dataclasses
from dataclasses import dataclass

import pandas as pd

from ggn_tf.dataset.splits import read_split
from ggn_tf.evaluation.run_predictions import predict_run
from ggn_tf.evaluation.statistics.paper_systems import FROZEN, JOINT, MULTITASK, RAW, REFERENCE
from ggn_tf.evaluation.statistics.predictions_table import write_predictions
from ggn_tf.evaluation.statistics.scores import score_values
from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.models.names import CASCADE
from ggn_tf.runs.lock import lock_run
from ggn_tf.runs.package_versions import package_versions
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import SEGMENT, STAGES, Stage, stages_up_to
from ggn_tf.study.item import WorkerChannel, WorkFolder
from ggn_tf.tasks import Task
from ggn_tf.training.observers import Observer, Observers
from ggn_tf.training.stage_reuse import reuse_stage
from ggn_tf.training.tensorboard import EventWriter, write_scores
from ggn_tf.training.trainer import plan_run, train

# Measured on a CPU in bfloat16: an epoch of each stage against one of the joint training.
EPOCH_COST = {
    RAW: 0.2,
    REFERENCE: 0.2,
    System(CASCADE, SEGMENT.name): 0.6,
    FROZEN: 0.45,
    JOINT: 1.0,
    MULTITASK: 0.7,
}

# After a kill the processes of the former study still take a step before they see that they are alone.
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Training:
    """Train a system on one task, split and repeat.

    Attributes:
        name: Of its run folder.
        asked: The run.
        repeat: Number of the repeat.
        system: What its rows say under `model`.
        last_stage: None for all of the model's stages.
        takes: Stages that are taken over, each with the name of the training that they come from.
        told: The stages whose answers count; None for all.
    """

    name: str
    asked: RunDescription
    repeat: int
    system: str
    last_stage: str | None = None
    takes: tuple[tuple[str, str], ...] = ()
    told: tuple[str, ...] | None = None

    @property
    def task(self) -> Task:
        """The run's."""
        return self.asked.task

    @property
    def needs(self) -> tuple[str, ...]:
        """The trainings that stages are taken from."""
        return tuple(dict.fromkeys(donor for _, donor in self.takes))

    @property
    def cost(self) -> float:
        """In epochs of joint training."""
        return sum(self._stage_cost(stage) for stage in self._stages() if stage.name not in dict(self.takes))

    def is_done(self, place: WorkFolder) -> bool:
        """Whether every stage is finished and predicted; only reads."""
        folder = place.run(self.name)
        if not (folder / "run.json").exists():
            return False
        run = RunFolder.open(folder)
        # With other settings it is not done: `run` then says what differs.
        finished = run.description == self.asked and all(run.is_complete(stage.name) for stage in self._stages())
        return finished and (self.told == () or place.predictions(self.name).exists())

    def run(self, place: WorkFolder, line: WorkerChannel) -> None:
        """Take stages over, train the others, and predict."""
        split = read_split(place.dataset, self.asked.split)
        plan = plan_run(self.asked, place.dataset, split, self.last_stage)
        with lock_run(place.run(self.name), _PATIENCE_S):
            run = self._open(place)
            for stage, donor in self.takes:
                if stage not in run.finished_stages():
                    reuse_stage(run, RunFolder.open(place.run(donor)), stage)
            seen = Observers([_Watch(self, line), EventWriter(run.folder / "tensorboard", self.asked)])
            train(run, place.dataset, plan, seen, line.stop_requested, keep_last_checkpoint=False)
        if self.told == ():
            return
        frame = predict_run(run, place.dataset, split, repeat=self.repeat).assign(model=self.system)
        write_scores(run.folder / "tensorboard", _test_scores(frame))
        counts = frame if self.told is None else frame[frame["stage"].isin(self.told)]
        write_predictions(counts, place.predictions(self.name))

    def _open(self, place: WorkFolder) -> RunFolder:
        versions = package_versions()
        return RunFolder.create(place.run(self.name), self.asked, place.dataset.folder, versions, place.command)

    def _stages(self) -> tuple[Stage, ...]:
        return stages_up_to(self.asked.model, self.last_stage)

    def _stage_cost(self, stage: Stage) -> float:
        epochs = stage.numbers(self.asked.protocol.training).max_epochs
        return EPOCH_COST[System(self.asked.model, stage.name)] * epochs


class _Watch(Observer):
    """An observer of the loop that tells how far a training is."""

    def __init__(self, training: Training, line: WorkerChannel) -> None:
        self._training, self._line = training, line
        costs = {stage.name: training._stage_cost(stage) for stage in STAGES[training.asked.model]}
        self._costs = {name: cost for name, cost in costs.items() if name not in dict(training.takes)}

    def epoch_started(self, stage: Stage, epoch: int, steps: int, done: int) -> None:
        names = list(self._costs)
        before = sum(self._costs[name] for name in names[: names.index(stage.name)])
        epochs = stage.numbers(self._training.asked.protocol.training).max_epochs
        done_share = (before + self._costs[stage.name] * (epoch - 1) / epochs) / self._training.cost
        self._line.tell(min(1.0, done_share), f"{stage.name} epoch {epoch}")


def _test_scores(frame: pd.DataFrame) -> dict[str, float]:
    """For TensorBoard's HParams page, where the trainings of a study stand beside one another."""
    test = frame[frame["set"] == "test"]
    return {
        f"test {stage}/{name}": value
        for stage in test["stage"].unique()
        for name, (value, _) in score_values(test[test["stage"] == stage]).items()
        if value is not None
    }


def with_joint_weight(asked: RunDescription, weight: float) -> RunDescription:
    """The same run with another lambda of eq. 4."""
    training = dataclasses.replace(asked.protocol.training, joint_weight=weight)
    return dataclasses.replace(asked, protocol=dataclasses.replace(asked.protocol, training=training))
