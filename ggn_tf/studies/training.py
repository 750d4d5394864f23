"""A training of a study: a run folder, and the predictions of its stages."""

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from ggn_tf.evaluation.run_predictions import predict_run
from ggn_tf.evaluation.statistics.paper_systems import FROZEN, JOINT, MULTITASK, RAW, REFERENCE
from ggn_tf.evaluation.statistics.scores import score_values
from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.models.names import CASCADE
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import SEGMENT, Stage, stages_up_to
from ggn_tf.studies.item import WorkerChannel, WorkFolder
from ggn_tf.tasks import Task
from ggn_tf.training.initial_model import reuse_stage
from ggn_tf.training.replicas import ONE_REPLICA, Replicas
from ggn_tf.training.start_weights import may_be_source, run_source
from ggn_tf.training.tensorboard import write_scores
from ggn_tf.training.train_options import Observer, TrainOptions
from ggn_tf.training.trainer import Plan, plan_run, started_plan, train_run

# Measured on a CPU in bfloat16: an epoch of each stage, relative to one of the joint training.
EPOCH_COST = {RAW: 0.2, REFERENCE: 0.2, System(CASCADE, SEGMENT.name): 0.6, FROZEN: 0.45, JOINT: 1.0, MULTITASK: 0.7}

# After a kill the processes of the former study take one more step before they see that their parent is gone.
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Training:
    """Train a system on one task, split and repeat.

    Attributes:
        name: Name of its run folder.
        system: The model's name in the predictions table.
        last_stage: The last stage to train; None for all stages of the model.
        reused: Stages that are not trained, each with the name of the training that it is taken from.
        predicted_stages: The stages whose predictions are kept; None for all.
        source: The run to start from; None for initial weights.
    """

    name: str
    description: RunDescription
    repeat: int
    system: str
    last_stage: str | None = None
    reused: tuple[tuple[str, str], ...] = ()
    predicted_stages: tuple[str, ...] | None = None
    source: Path | None = None

    @property
    def task(self) -> Task:
        """The task of the run."""
        return self.description.task

    @property
    def split(self) -> int:
        """Number of the run's split."""
        return self.description.split

    @property
    def needs(self) -> tuple[str, ...]:
        """The trainings from which stages are reused."""
        return tuple(dict.fromkeys(donor for _, donor in self.reused))

    @property
    def stage_costs(self) -> dict[str, float]:
        """Expected duration of each stage that is trained, in epochs of joint training."""
        return {
            stage.name: EPOCH_COST[System(self.description.model, stage.name)] * self.max_epochs(stage)
            for stage in self._stages()
            if stage.name not in dict(self.reused)
        }

    @property
    def cost(self) -> float:
        """Expected duration in epochs of joint training."""
        return sum(self.stage_costs.values())

    def max_epochs(self, stage: Stage) -> int:
        """The largest number of epochs of a stage."""
        return stage.numbers(self.description.protocol.training).max_epochs

    def is_done(self, folder: WorkFolder) -> bool:
        """Whether every stage is finished and predicted; only reads."""
        path = folder.run(self.name)
        if not (path / "run.json").exists():
            return False
        run = RunFolder.open(path)
        # A run with other settings is not done: `run` then raises an error that says what differs.
        same = dataclasses.replace(run.description, start_from=None) == self.description
        start = run.description.start_from
        same = same and (
            start is None if self.source is None else start is not None and may_be_source(self.source, start)
        )
        finished = same and all(run.is_complete(stage.name) for stage in self._stages())
        return finished and (self.predicted_stages == () or folder.has_predictions(self.name))

    def run(self, folder: WorkFolder, channel: WorkerChannel) -> None:
        """Reuse stages, train the others, and write the predictions."""
        split = folder.split(self.description.split)
        run = train_run(
            folder.run(self.name),
            folder.dataset,
            self.plan(folder),
            TrainOptions((_ProgressReporter(self, channel),), channel.stop_requested, keep_last_checkpoint=False),
            command=folder.command,
            begin=partial(self._reuse_stages, folder),
            patience_s=_PATIENCE_S,
            shared=folder.shared,
            own_split=split if folder.own_splits else None,
        )
        if self.predicted_stages == ():
            return
        frame = predict_run(run, folder.dataset, split, repeat=self.repeat).assign(model=self.system)
        write_scores(run.folder / "tensorboard", _test_scores(frame))
        if self.predicted_stages is not None:
            frame = frame[frame["stage"].isin(self.predicted_stages)]
        folder.write_predictions(self.name, frame)

    def plan(self, folder: WorkFolder) -> Plan:
        """What the training will do; raises the errors of `started_plan` where it cannot start from its source."""
        plan = plan_run(self.description, folder.dataset, folder.split(self.description.split), self.last_stage)
        if self.source is None:
            return plan
        opened = partial(run_source, self.source, folder.dataset)
        return started_plan(plan, folder.run(self.name), self.source, opened, folder.dataset)

    def _reuse_stages(self, folder: WorkFolder, run: RunFolder) -> Replicas:
        for stage, donor in self.reused:
            if stage not in run.finished_stages():
                reuse_stage(run, RunFolder.open(folder.run(donor)), stage)
        return ONE_REPLICA

    def _stages(self) -> tuple[Stage, ...]:
        return stages_up_to(self.description.model, self.last_stage)


class _ProgressReporter(Observer):
    def __init__(self, training: Training, channel: WorkerChannel) -> None:
        self._training, self._channel = training, channel

    def epoch_started(self, stage: Stage, epoch: int, steps: int, done: int) -> None:
        costs = self._training.stage_costs
        names = list(costs)
        before = sum(costs[name] for name in names[: names.index(stage.name)])
        current = costs[stage.name] * (epoch - 1) / self._training.max_epochs(stage)
        self._channel.report(min(1.0, (before + current) / self._training.cost), f"{stage.name} epoch {epoch}")


def _test_scores(frame: pd.DataFrame) -> dict[str, float]:
    """For TensorBoard's HParams page, which lists the trainings of a study."""
    test = frame[frame["set"] == "test"]
    return {
        f"test {stage}/{name}": value
        for stage in test["stage"].unique()
        for name, (value, _) in score_values(test[test["stage"] == stage]).items()
        if value is not None
    }


def with_joint_weight(description: RunDescription, weight: float) -> RunDescription:
    """The same run with another lambda in eq. 4."""
    training = dataclasses.replace(description.protocol.training, joint_weight=weight)
    return dataclasses.replace(description, protocol=dataclasses.replace(description.protocol, training=training))
