"""A run from its first stage to its last: the plan, then stage after stage in one model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.pipeline import CaseStream
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import Split
from ggn_tf.errors import SplitError
from ggn_tf.runs.reproducibility import conditions_here
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import STAGES, Stage, stages_up_to
from ggn_tf.tasks import Task
from ggn_tf.training.audit import Change, audit_stage, snapshot, summarise
from ggn_tf.training.distributed.replicas import ONE_REPLICA, Replicas
from ggn_tf.training.distributed.shared_run import SharedRun
from ggn_tf.training.loop import StageLoop
from ggn_tf.training.observers import Observer
from ggn_tf.training.schedule import best_epoch


@dataclass(frozen=True)
class Plan:
    """What a call of `train` will do, known before the first step.

    Attributes:
        asked: The run.
        stages: Every stage up to the asked one.
        cases: Case ids of the task, by set.
        class_counts: For each set, the number of nodules a class.
    """

    asked: RunDescription
    stages: tuple[Stage, ...]
    cases: dict[str, tuple[str, ...]]
    class_counts: dict[str, tuple[int, ...]]


def plan_run(asked: RunDescription, dataset: Dataset, split: Split, last_stage: str | None = None) -> Plan:
    """Work out stages and cases; nothing is read but the dataset's list, nothing written.

    Args:
        asked: The run.
        dataset: Its dataset.
        split: Its split.
        last_stage: The last to train; None for all of the model's.

    Raises:
        TaskError: The task names labels that the dataset does not hold.
        SplitError: A set has no nodule of one of the task's classes.
        RunError: The model has no such stage.
    """
    task = asked.task
    task.check_labels(case.label for case in dataset.cases)
    records = {case.case_id: case for case in dataset.cases}
    sets = {"train": split.train, "validation": split.validation, "test": split.test}
    cases = {
        name: tuple(case for case in ids if task.class_of(records[case].label) is not None)
        for name, ids in sets.items()
    }
    counts = {name: _class_counts(task, [records[case] for case in ids]) for name, ids in cases.items()}
    for name in ("train", asked.select_on):
        if 0 in counts[name]:
            raise SplitError(
                f"The {name} set has no nodule of a class.",
                case=f"split {split.number}",
                found=", ".join(f"{count} {c}" for count, c in zip(counts[name], task.class_names, strict=True)),
                expected="at least one nodule of each class",
                remedy="Take another split (--split), merge classes (--task), or prepare more cases.",
            )
    return Plan(asked, stages_up_to(asked.model, last_stage), cases, counts)


def train(
    run: RunFolder | None,
    dataset: Dataset,
    plan: Plan,
    observer: Observer,
    stop_requested: Callable[[], bool] = lambda: False,
    checkpoint_minutes: float = 10.0,
    *,
    deterministic: bool = False,
    keep_last_checkpoint: bool = True,
    replicas: Replicas = ONE_REPLICA,
) -> None:
    """Train every stage of the plan that the run folder does not hold finished, and finished stages' added epochs.

    Args:
        run: The run folder; the caller holds its lock. None in a process that is not the chief.
        dataset: The run's dataset.
        plan: From `plan_run`.
        observer: Told of every step.
        stop_requested: Asked after every step.
        checkpoint_minutes: Longest time between checkpoints within an epoch.
        deterministic: Whether the caller asked TensorFlow for determinism, for the record.
        keep_last_checkpoint: Whether the last stage can be given more epochs later: some 160 MB.
        replicas: Who trains, together; every process calls this with the same plan.

    Raises:
        KeyboardInterrupt: Asked to stop, here or in another process; the run goes on from here when called again.
        RunError: A stage moved what it must not, the processes were not asked for the same, or one is gone.
    """
    asked = plan.asked
    shared = SharedRun(run, asked, [stage.name for stage in plan.stages], replicas)
    streams = {name: CaseStream(dataset, plan.cases[name], asked.task) for name in ("train", asked.select_on)}
    shared.refresh_copies()
    for stage, former in zip(plan.stages, (None, *plan.stages), strict=False):
        if shared.is_complete(stage.name):
            continue
        model = shared.model_before(former)
        before = snapshot(model)
        observer.stage_started(stage, model)
        loop = StageLoop(
            model,
            stage,
            asked.protocol.training,
            asked.protocol.augmentation,
            streams["train"],
            streams[asked.select_on],
            monitored_set=asked.select_on,
            seed=_stage_seed(asked.seed, asked.model, stage),
            store=shared.checkpoints(stage.name),
            observer=observer,
            record=shared.write_history,
            stop_requested=stop_requested,
            checkpoint_minutes=checkpoint_minutes,
            replicas=replicas,
        )
        reason, conditions = loop.run(), conditions_here(deterministic, replicas.count)
        entry = _ledger_entry(stage, loop, reason, conditions, audit_stage(model, stage, before))
        shared.finish_stage(model, loop.progress.rows, entry)
        observer.stage_done(stage, entry["best"])
    shared.close(None if keep_last_checkpoint else plan.stages[-1].name)


def _class_counts(task: Task, cases: list[CaseRecord]) -> tuple[int, ...]:
    classes = [task.class_of(case.label) for case in cases]
    return tuple(classes.count(index) for index in range(len(task.classes)))


def _stage_seed(seed: int, model: str, stage: Stage) -> int:
    """A seed of the stage's own, so that no two stages see one order and one augmentation."""
    return int(np.random.SeedSequence([seed, STAGES[model].index(stage)]).generate_state(1)[0] >> 1)


def _ledger_entry(
    stage: Stage, loop: StageLoop, reason: str, conditions: Mapping[str, Any], changes: list[Change]
) -> dict[str, Any]:
    progress = loop.progress
    best = best_epoch(progress.scores)
    return {
        "stage": stage.name,
        "epochs": len(progress.rows),
        "ended": reason,
        "best_epoch": best + 1,
        "best": progress.rows[best],
        **summarise(changes),
        "conditions": conditions,
    }
