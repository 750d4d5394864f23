"""Train a run: every stage of a model up to the named one, in a folder from which it can be resumed."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from ggn_tf.api.arguments import PrecisionChoice, SegmentationSet, SelectionSet, check_choices, check_training, ignore
from ggn_tf.api.prepare import PreparedDataset, known_salt
from ggn_tf.api.start_from import open_source
from ggn_tf.api.training_numbers import check_margin, chosen_protocol, with_numbers
from ggn_tf.dataset.own_splits import read_own_splits
from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.dataset.splits import Split, digest_of, read_split
from ggn_tf.errors import GgnError, SplitError
from ggn_tf.machine import resolve_precision
from ggn_tf.models.names import CASCADE
from ggn_tf.protocol import Protocol, ProtocolName, SelectionScore, start_protocol
from ggn_tf.runs.reproducibility import Conditions, conditions_here, differences, keep_threads, request_determinism
from ggn_tf.runs.run_description import RunDescription, package_versions
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import STAGES, Stage
from ggn_tf.tasks import INDOLENT_INVASIVE, Task
from ggn_tf.tensorflow_import import keras_defaults
from ggn_tf.training.distributed.cluster import Rank, Strategy, connect_replicas, rank_of
from ggn_tf.training.monitor import EpochResult
from ggn_tf.training.replicas import Replicas
from ggn_tf.training.train_options import Observer, TrainOptions
from ggn_tf.training.trainer import Plan, plan_run, started_plan, train, train_run


@dataclass(frozen=True)
class Run:
    """A trained run.

    Attributes:
        folder: The run folder.
        stages: Names of the finished stages, in the order of training; none in a worker that is not the chief, as the
            run is on the chief's machine.
    """

    folder: Path
    stages: tuple[str, ...]

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch: `stage`, `epoch`, `learning_rate`, losses and scores."""
        return pd.read_csv(self.folder / "history.csv")


@dataclass(frozen=True)
class TrainingPlan:
    """What a call of `fit` is about to do.

    Attributes:
        run: The run's folder; None in a worker that is not the chief.
        rank: This process among those that train together.
        dataset: The opened dataset.
        plan: Description of the run, stages, and number of nodules per set and class.
        precision_reason: Why the precision was chosen.
        conditions: What the process trains with, and how exactly its numbers can be reproduced.
        changed: What differs from the conditions under which the run was begun.
        lowered_rates: Whether the learning rates are a tenth of the protocol's, as the run starts from trained weights.
    """

    run: RunFolder | None
    rank: Rank
    dataset: Dataset
    plan: Plan
    precision_reason: str
    conditions: Conditions
    changed: tuple[str, ...] = ()
    lowered_rates: bool = False


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is.

    Attributes:
        stage: Name of the stage.
        epoch: Number of the epoch, from 1.
        step: Number of steps done in this epoch.
        steps: Number of steps in an epoch.
        loss: Loss of the last step; None before the first.
        scores: At the end of an epoch, its losses and scores by name; else empty.
    """

    stage: str
    epoch: int
    step: int
    steps: int
    loss: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


@keras_defaults()
def fit(
    dataset: PreparedDataset | str | Path = "dataset",
    *,
    task: str | Task = INDOLENT_INVASIVE,
    model: str = CASCADE,
    stage: str | None = None,
    split: int = 1,
    splits: str | Path | None = None,
    seed: int = 0,
    start_from: "Run | str | Path | None" = None,
    freeze: int = 0,
    protocol: ProtocolName | Protocol | None = "paper",
    epochs: Sequence[int] | None = None,
    learning_rates: Sequence[float] | None = None,
    patience: Sequence[int] | None = None,
    batch_size: int | None = None,
    joint_weight: float | None = None,
    shift_mm: float | Sequence[float] | None = None,
    select_by: SelectionScore | None = None,
    segment_on: SegmentationSet = "all",
    select_on: SelectionSet = "validation",
    precision: PrecisionChoice = "auto",
    checkpoint_minutes: float = 10.0,
    histograms: bool = False,
    deterministic: bool = False,
    strategy: Strategy = "one",
    run: str | Path | None = None,
    run_threads: bool = False,
    shared: bool = False,
    command: str = "ggn_tf.fit",
    on_start: Callable[[TrainingPlan], None] = ignore,
    on_progress: Callable[[TrainingProgress], None] = ignore,
    stop: Callable[[], bool] = lambda: False,
    connecting: AbstractContextManager[object] | None = None,
) -> Run:
    """Train every stage of a model up to `stage`. A run that was stopped, or is given more epochs, is resumed.

    Example:
        >>> run = ggn_tf.fit("dataset", task="AAH+AIS,MIA+IAC", run="runs/a")  # doctest: +SKIP
        >>> run.stages  # doctest: +SKIP
        ('segment', 'classify', 'joint')
        >>> list(run.history.columns[:4])  # doctest: +SKIP
        ['stage', 'epoch', 'learning_rate', 'loss']

    Args:
        dataset: The dataset from `prepare`, or its folder.
        task: Classes with commas between them; a plus merges labels (section 3.3).
        model: `raw`, `reference`, `cascade` or `multitask` (Fig. 3 a, b, c and d, e).
        stage: The last stage to train; None for the model's last.
        split: Number of the dataset's split, or of the file's.
        splits: A file with your own splits, for example by date or by centre: a table with `case_id` or `patient_id`,
            `set` (train, validation or test) and optionally `split`, or JSON; None for the dataset's splits.
        seed: Seed of the initial weights, the order of the cases, augmentation and dropout.
        start_from: A run, the folder of an export, or a `.keras` file, whose weights are taken layer by layer instead
            of the initial ones; the last layer of the classifier only where the classes are the same.
        freeze: Number of convolution blocks that stay fixed, from the input of each part of the network (U-Net,
            classifier) whose weights are taken from `start_from`.
        protocol: All numbers of the method. `quick` is a tenth of the paper's epochs at three to ten times the learning
            rate; `robust` shifts centres, selects by AUC and has 70 epochs at most; None is `paper`.
        epochs: Largest number of epochs of `segment`, `classify` and `joint`; None for the protocol's, like the
            following four.
        learning_rates: First learning rate of each of the three stages; with `start_from`, None is a tenth of the
            protocol's.
        patience: Number of epochs without a better score after which each of the three stages stops.
        batch_size: Patches per step.
        joint_weight: Lambda of eq. 4.
        shift_mm: How far the centre of each patch is shifted at most, drawn again in each epoch: one number, or one for
            each of the three stages. Not more than the dataset's margin; None for the protocol's, 0 in the paper.
        select_by: Score of the set `select_on` that selects the weights of classify and joint: `accuracy`, `auc` (the
            area under the ROC curve; with more than two classes the mean over the classes, each against the rest) or
            `loss` (the classification loss, eq. 1); None for the protocol's, `accuracy` in the paper.
        segment_on: Nodules on which the stage `segment` trains: `all` of the training set, whatever their label, or
            those of the `task`.
        select_on: The set whose score selects the weights; `test` is the paper's way, and optimistic.
        precision: Arithmetic of the convolutions; `auto` takes bfloat16 where the hardware is faster with it.
        checkpoint_minutes: Minutes between checkpoints within an epoch.
        histograms: Whether TensorBoard shows every weight's histogram.
        deterministic: Whether to make a GPU reproducible to the bit, which is slower. A CPU always is.
        strategy: Devices that share a batch: `one`, the GPUs of this machine (`mirrored`), or those of all machines in
            `TF_CONFIG` (`multiworker`).
        run: The run folder; None for `runs/` and a name made of model, task, split and seed.
        run_threads: Whether a resumed run sets TensorFlow's number of threads per operation to the number that it was
            begun with, on which the last bits depend; only possible before TensorFlow's first operation.
        shared: Whether the umask decides who may enter a new run folder, and not its owner alone.
        command: The command, for the record in run.json.
        on_start: Called once, before anything is trained.
        on_progress: Called at every step and at the end of every epoch.
        stop: Called after every step; where it returns true a checkpoint is written and KeyboardInterrupt raised.
        connecting: Entered while the processes of several machines connect; TensorFlow then keeps Python's signal
            handlers from running.

    Raises:
        KeyboardInterrupt: `stop` returned true; the same call resumes the run.
        DatasetError: There is no dataset, or it was made by another protocol.
        TaskError, SplitError: The task or the split does not suit the dataset, or the file of splits is not one.
        GgnError: An argument is out of its range.
        RunError: The folder contains another run, the loss is no longer finite, or the run cannot start from the
            weights: the reasons are those of `start_weights`.
        ExportError: The export to start from is damaged.
    """
    parsed = task if isinstance(task, Task) else Task.parse(task)
    check_choices("model", [model], STAGES)
    check_training(segment_on, select_on, precision)
    check_choices("strategy", [strategy], get_args(Strategy))
    rank = rank_of(strategy, os.environ)
    if deterministic:
        request_determinism()
    numbers = _for_start(chosen_protocol(protocol or "paper"), start_from, freeze)
    numbers = with_numbers(numbers, epochs, learning_rates, patience, batch_size, joint_weight, shift_mm, select_by)
    opened = open_dataset(dataset_folder(dataset), numbers.patch)
    check_margin(numbers, opened)
    chosen = read_split(opened, split) if splits is None else _own_split(opened, Path(splits), split)
    resolved, reason = resolve_precision(precision)
    description = RunDescription(
        task=parsed,
        model=model,
        split=split,
        seed=seed,
        precision=resolved,
        select_on=select_on,
        protocol=numbers,
        dataset_fingerprint=opened.fingerprint,
        segment_on=segment_on,
        split_digest=digest_of(chosen),
    )
    plan = plan_run(description, opened, chosen, stage)
    folder = Path(run) if run else Path("runs") / _run_name(description)
    if start_from is not None:
        source = run_folder(start_from)
        plan = started_plan(plan, folder, source, partial(open_source, source, opened), opened, freeze)
        description = plan.description

    def begin(opened_run: RunFolder | None) -> Replicas:
        if opened_run is not None and run_threads:
            keep_threads(opened_run.conditions)
        conditions = conditions_here(deterministic, rank.expected_replicas)
        changed = () if opened_run is None else tuple(_changed(opened_run, conditions))
        lowered = start_from is not None and learning_rates is None
        on_start(TrainingPlan(opened_run, rank, opened, plan, reason, conditions, changed, lowered))
        with connecting or nullcontext():
            return connect_replicas(rank, numbers.training.batch_size)

    if not rank.is_chief:
        options = TrainOptions(stop_requested=stop, deterministic=deterministic)
        train(RunFolder(folder, description, opened.folder, {}), opened, plan, options, begin(None))
        return Run(folder, ())
    finished = train_run(
        folder,
        opened,
        plan,
        TrainOptions((_Reporter(on_progress),), stop, checkpoint_minutes, deterministic),
        command=command,
        conditions=conditions_here(deterministic, rank.expected_replicas),
        begin=begin,
        histograms=histograms,
        shared=shared,
        own_split=None if splits is None else chosen,
    )
    return Run(folder, finished.finished_stages())


def _own_split(dataset: Dataset, file: Path, number: int) -> Split:
    splits = read_own_splits(file, dataset, known_salt())
    if number not in splits:
        raise SplitError(
            f"The file has no split {number}.",
            case=file,
            found=f"splits {', '.join(map(str, splits))}",
            expected="one of them",
            remedy="Name one of them.",
            arguments=("split",),
        )
    return splits[number]


def dataset_folder(dataset: PreparedDataset | str | Path) -> Path:
    """The folder of a dataset, however it was given."""
    return dataset.folder if isinstance(dataset, PreparedDataset) else Path(dataset)


def run_folder(run: Run | str | Path) -> Path:
    """The folder of a run, however it was given."""
    return run.folder if isinstance(run, Run) else Path(run)


class _Reporter(Observer):
    def __init__(self, on_progress: Callable[[TrainingProgress], None]) -> None:
        self._on_progress = on_progress
        self._last = TrainingProgress("", 0, 0, 0)

    def epoch_started(self, stage: Stage, epoch: int, steps: int, done: int) -> None:
        self._report(TrainingProgress(stage.name, epoch, done, steps))

    def step_done(self, loss: float) -> None:
        self._report(dataclasses.replace(self._last, step=self._last.step + 1, loss=loss))

    def epoch_done(self, stage: Stage, row: dict[str, Any], result: EpochResult) -> None:
        scores = {name: value for name, value in row.items() if isinstance(value, float) and name != "learning_rate"}
        self._report(dataclasses.replace(self._last, scores=scores))

    def _report(self, progress: TrainingProgress) -> None:
        self._last = progress
        self._on_progress(progress)


def _for_start(protocol: Protocol, start_from: object | None, freeze: int) -> Protocol:
    if start_from is None:
        if freeze:
            raise GgnError(
                "Only weights that were taken from a source can stay fixed.",
                found=f"{freeze} blocks, and no source",
                expected="a source of the first weights",
                remedy="Name a source, or freeze nothing.",
                arguments=("freeze", "start_from"),
            )
        return protocol
    return start_protocol(protocol)


def _changed(run: RunFolder, conditions: Conditions) -> list[str]:
    """What differs from the conditions of the run's beginning: the resumed run is then not the same to the bit."""
    now = package_versions()
    versions = [f"{name} {old} -> {now.get(name)}" for name, old in run.versions.items() if now.get(name) != old]
    return versions + [str(difference) for difference in differences(run.conditions, conditions)]


def _run_name(description: RunDescription) -> str:
    return f"{description.model}-{description.task.file_name}-split{description.split}-seed{description.seed}"
