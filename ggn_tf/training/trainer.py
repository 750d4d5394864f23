"""A run from its first stage to its last: the plan, then stage after stage in one model, in its run folder."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.pipeline import CaseStream
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import Split
from ggn_tf.errors import RunError, SplitError
from ggn_tf.json_records import to_json
from ggn_tf.models.named_layers import named_layers
from ggn_tf.protocol import SETS
from ggn_tf.runs.ledger import StopReason
from ggn_tf.runs.lock import lock_run
from ggn_tf.runs.reproducibility import Conditions, conditions_here
from ggn_tf.runs.run_description import RunDescription, frozen_layers, package_versions
from ggn_tf.runs.run_folder import START, RunFolder
from ggn_tf.runs.stages import SEGMENT, STAGES, Stage, trained_stages
from ggn_tf.runs.started_from import StartedFrom
from ggn_tf.tasks import Task
from ggn_tf.training.audit import audit_stage, snapshot, summarise
from ggn_tf.training.initial_model import initial_model
from ggn_tf.training.loop import Progress, StageLoop, StageSetup
from ggn_tf.training.monitor import best_epoch
from ggn_tf.training.replicas import ONE_REPLICA, Replicas
from ggn_tf.training.start_weights import (
    Source,
    StartWeights,
    hash_weights,
    keep_start,
    may_be_source,
    start_weights,
    stored_start,
)
from ggn_tf.training.tensorboard import EventWriter
from ggn_tf.training.train_options import TrainOptions


@dataclass(frozen=True)
class Plan:
    """What a call of `train` will do: its stages, and by set the ids and class counts of the cases.

    Attributes:
        description: The run.
        stages: The stages to train.
        cases: The ids of the task's cases in each set.
        class_counts: Their number per class.
        segment_cases: The ids of the cases of the stage `segment` in each set.
        start: The weights to take; None for the initial ones, or where the run has stored what it took.
    """

    description: RunDescription
    stages: tuple[Stage, ...]
    cases: dict[str, tuple[str, ...]]
    class_counts: dict[str, tuple[int, ...]]
    segment_cases: dict[str, tuple[str, ...]]
    start: StartWeights | None = None

    def stream(self, dataset: Dataset, stage: Stage, set_name: str) -> CaseStream:
        """The cases of a set that a stage trains on or is monitored by; those of `segment` may have no class."""
        shifted = set_name == "train" and stage.numbers(self.description.protocol.training).shift_mm > 0
        if stage == SEGMENT and self.description.segment_on == "all":
            return CaseStream(dataset, self.segment_cases[set_name], None, shifted=shifted)
        return CaseStream(dataset, self.cases[set_name], self.description.task, shifted=shifted)


def plan_run(description: RunDescription, dataset: Dataset, split: Split, last_stage: str | None = None) -> Plan:
    """Work out cases and stages, up to the last to train, from the dataset's list of cases alone.

    Raises:
        TaskError: The task names labels that the dataset does not contain.
        SplitError: A set has no nodule of one of the task's classes, or a nodule of the task is in no set.
        RunError: The model has no such stage.
    """
    task = description.task
    task.check_labels(case.label for case in dataset.cases)
    records = {case.case_id: case for case in dataset.cases}
    cases = {
        name: tuple(case for case in getattr(split, name) if task.class_of(records[case].label) is not None)
        for name in SETS
    }
    counts = {name: _class_counts(task, [records[case] for case in ids]) for name, ids in cases.items()}
    for name in ("train", description.select_on):
        if 0 in counts[name]:
            raise SplitError(
                f"The {name} set has no nodule of a class.",
                case=f"split {split.number}",
                found=", ".join(f"{count} {c}" for count, c in zip(counts[name], task.class_names, strict=True)),
                expected="at least one nodule of each class",
                remedy="Choose another split, merge classes, or prepare more cases.",
                arguments=("split", "task"),
            )
    _check_assigned(split, (case.case_id for case in dataset.cases if task.class_of(case.label) is not None))
    segment_cases = {name: getattr(split, name) for name in SETS} if description.segment_on == "all" else cases
    return Plan(
        description,
        trained_stages(description.model, last_stage, description.protocol.training),
        cases,
        counts,
        segment_cases,
    )


def started_plan(
    plan: Plan, folder: Path, path: Path, source: Callable[[], Source], dataset: Dataset, freeze: int = 0
) -> Plan:
    """The plan of a run that starts from existing weights, from its plan without them.

    A run that has stored the weights of a source of this name needs it no more. Where another run or file has this path
    now, the plan is of that one, and `RunFolder.create` refuses it. `freeze` is as in `start_weights`.

    Raises:
        RunError, GgnError: As in `start_weights`, or the source cannot be opened.
    """
    begun = _taken_before(folder)
    if begun is not None and may_be_source(path, begun):
        start, record = None, dataclasses.replace(begun, freeze=freeze)
    else:
        validating = plan.segment_cases if SEGMENT in plan.stages else plan.cases
        start = start_weights(source(), plan.description, dataset, plan.cases["test"], validating["validation"], freeze)
        record = start.record
    return dataclasses.replace(plan, description=dataclasses.replace(plan.description, start_from=record), start=start)


def _taken_before(folder: Path) -> StartedFrom | None:
    try:
        return RunFolder.open(folder).description.start_from if (folder / START).is_file() else None
    except RunError:
        # Opening it for the training decides whether it can be begun again.
        return None


def _check_assigned(split: Split, case_ids: Iterable[str]) -> None:
    assigned = {case_id for name in SETS for case_id in getattr(split, name)}
    left_out = [case_id for case_id in case_ids if case_id not in assigned]
    if left_out:
        raise SplitError(
            "The split leaves out nodules of the task.",
            case=f"split {split.number}",
            found=f"{len(left_out)} nodules in no set, for example {', '.join(left_out[:5])}",
            expected="each nodule of the task in one set",
            remedy="Assign them to sets, or choose a task without their labels.",
            arguments=("splits", "task"),
        )


def train(
    run: RunFolder, dataset: Dataset, plan: Plan, options: TrainOptions | None = None, replicas: Replicas = ONE_REPLICA
) -> None:
    """Train every stage of the plan that is not finished, and the epochs that were added to finished stages.

    The caller has the run folder's lock. Only the chief's process reads or writes the folder; every process calls this
    with the same plan.

    Raises:
        KeyboardInterrupt: A stop was requested, here or in another process. The next call resumes from here.
        RunError: The loss diverged, a stage changed what it must not, the processes have different plans, or a process
            has ended.
    """
    options, description = options or TrainOptions(), plan.description
    replicas.require_same({**to_json(description), "stages": [stage.name for stage in plan.stages]})
    monitored_set = description.select_on
    if replicas.is_chief:
        run.refresh_copies()
    for stage, former in zip(plan.stages, (None, *plan.stages), strict=False):
        if replicas.any(replicas.is_chief and run.is_complete(stage.name)):
            continue
        # Read back even what was just saved: a run that was stopped in between starts from the same bits.
        if former is not None:
            load: Callable[[], keras.Model] | None = partial(run.load_model, former.name)
        else:
            load = None if description.start_from is None else partial(stored_start, run)
        model = replicas.model(partial(initial_model, description), load)
        seed = _stage_seed(description.seed, description.model, stage)
        training, monitored = (plan.stream(dataset, stage, name) for name in ("train", monitored_set))
        frozen = frozen_layers(description)
        setup = StageSetup(stage, description.protocol, training, monitored, monitored_set, seed, frozen)
        _train_stage(run, model, setup, options, replicas)
    if replicas.is_chief and not options.keep_last_checkpoint:
        run.checkpoints(plan.stages[-1].name).clear()
    # Workers wait until the chief has written, so that all can resume together.
    replicas.any(False)


def _train_stage(
    run: RunFolder, model: keras.Model, setup: StageSetup, options: TrainOptions, replicas: Replicas
) -> None:
    stage, before = setup.stage, snapshot(model)
    for observer in options.observers:
        observer.stage_started(stage, model)
    loop = StageLoop(model, setup, run.checkpoints(stage.name), run.ledger.write_history, options, replicas)
    reason = loop.run()
    entry = {
        **_outcome(setup, loop.progress, reason),
        **summarise(audit_stage(model, stage, before, setup.frozen)),
        **_frozen(model, setup.frozen),
        "conditions": conditions_here(options.deterministic, replicas.count).to_dict(),
    }
    if replicas.is_chief:
        run.finish_stage(model, entry, loop.progress.rows)
    for observer in options.observers:
        observer.stage_done(stage, entry["best"])


def _frozen(model: keras.Model, names: tuple[str, ...]) -> dict[str, Any]:
    layers = named_layers(model)
    return {"frozen": {name: hash_weights(layers[name].get_weights()) for name in names}} if names else {}


def _class_counts(task: Task, cases: list[CaseRecord]) -> tuple[int, ...]:
    classes = [task.class_of(case.label) for case in cases]
    return tuple(classes.count(index) for index in range(len(task.classes)))


def _stage_seed(seed: int, model: str, stage: Stage) -> int:
    """A seed of the stage's own, so that no two stages have the same order and augmentation."""
    number = [other.name for other in STAGES[model]].index(stage.name)
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)


def _outcome(setup: StageSetup, progress: Progress, reason: StopReason) -> Mapping[str, Any]:
    best = best_epoch(progress.scores)
    return {
        "stage": setup.stage.name,
        "epochs": len(progress.rows),
        "ended": reason.text(setup.stage.numbers(setup.protocol.training)),
        "ended_code": reason.value,
        "best_epoch": best + 1,
        "best": progress.rows[best],
    }


def train_run(
    folder: Path,
    dataset: Dataset,
    plan: Plan,
    options: TrainOptions | None = None,
    *,
    command: str = "",
    conditions: Conditions | None = None,
    begin: Callable[[RunFolder], Replicas] = lambda run: ONE_REPLICA,
    histograms: bool = False,
    patience_s: float = 0.0,
    shared: bool = False,
    own_split: Split | None = None,
) -> RunFolder:
    """Train a run in its folder, which is locked, with TensorBoard's events. A run that exists is resumed.

    `begin` is called with the run before anything is trained, and returns who trains. `patience_s` is the time in
    seconds to wait for another process to leave the folder. The umask decides who may enter a new folder that is
    `shared`; else only its owner may. The user's own split is stored in the run.

    Raises:
        KeyboardInterrupt: A stop was requested; the same call resumes the run.
        RunError: The folder contains something else or another run, or the training cannot continue.
    """
    options = options or TrainOptions()
    stored = conditions.to_dict() if conditions else {}
    with lock_run(folder, patience_s, shared=shared):
        run = RunFolder.create(folder, plan.description, dataset.folder, package_versions(), command, stored)
        if own_split is not None:
            run.keep_split(own_split)
        if plan.start is not None:
            run.keep_source_cases(plan.start.trained_on)
            keep_start(run, plan.start)
        replicas = begin(run)
        events = EventWriter(folder / "tensorboard", plan.description, histograms=histograms)
        observed = dataclasses.replace(options, observers=(events, *options.observers))
        train(run, dataset, plan, observed, replicas)
    return run
