"""`ggn-tf fit`: train every stage up to the named one, in a run folder that can be gone on with."""

import dataclasses
import math
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ggn_tf.cli.banner import banner
from ggn_tf.cli.finite import FiniteRange
from ggn_tf.cli.stop_signal import StopSignal, ended_by_ctrl_c
from ggn_tf.cli.training_options import MODELS, precision_option, select_on_option
from ggn_tf.models.names import CASCADE
from ggn_tf.protocol import Protocol, StageProtocol, TrainingProtocol
from ggn_tf.runs.stages import STAGES
from ggn_tf.tasks import INDOLENT_INVASIVE, Task
from ggn_tf.tensorflow_import import load_tensorflow

if TYPE_CHECKING:
    from ggn_tf.dataset.records import Dataset
    from ggn_tf.runs.run_description import RunDescription
    from ggn_tf.training.distributed.cluster import Rank, Strategy
    from ggn_tf.training.trainer import Plan

STAGE_NAMES = tuple(stage.name for stage in STAGES[CASCADE])
_STOPPING = "stopping after this step; the same command goes on from there"


class _PerStage(click.ParamType):
    """Up to three numbers, for segment, classify and joint."""

    name = "a,b,c"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            numbers = tuple(self._kind(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != len(STAGE_NAMES) or not all(0 < number < math.inf for number in numbers):
            self.fail(f"{value!r} is not three positive numbers for {', '.join(STAGE_NAMES)}", param, ctx)
        return numbers


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path), default=Path("dataset"))
@click.option("--task", default=str(INDOLENT_INVASIVE), show_default=True, help="Classes; a plus merges labels.")
@click.option(
    "--model",
    type=click.Choice(MODELS),
    default=CASCADE,
    show_default=True,
    help="The systems of the paper's Fig. 3: (a), (b), (c and d), (e).",
)
@click.option("--stage", type=click.Choice(STAGE_NAMES), help="The last to train.  [default: the model's last]")
@click.option("--split", type=click.IntRange(min=1), default=1, show_default=True, help="The dataset's split.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--epochs", type=_PerStage(int), help="Most epochs of each stage.  [default: 150,120,120, the paper's]")
@click.option("--learning-rates", type=_PerStage(float), help="Of each stage.  [default: 1e-4,1e-4,1e-5, the paper's]")
@click.option("--patience", type=_PerStage(int), help="Epochs without a better score that end a stage.  [default: 50]")
@click.option("--batch-size", type=click.IntRange(min=1), default=24, show_default=True)
@click.option(
    "--joint-weight",
    type=FiniteRange(min=0),
    default=1.0,
    show_default=True,
    help="Lambda of the paper's eq. 4.",
)
@select_on_option
@precision_option
@click.option(
    "--checkpoint-minutes",
    type=FiniteRange(min=0),
    default=10.0,
    show_default=True,
    help="Within a long epoch.",
)
@click.option("--histograms", is_flag=True, help="Show every weight's histogram in TensorBoard, some 10 MB an epoch.")
@click.option(
    "--deterministic",
    is_flag=True,
    help="Have a GPU repeat its bits, at the cost of speed; a CPU does without being asked.",
)
@click.option(
    "--strategy",
    type=click.Choice(["one", "mirrored", "multiworker"]),
    default="one",
    show_default=True,
    help="Who shares a batch: one device; this machine's GPUs; all machines in TF_CONFIG, each of which runs this.",
)
@click.option("-o", "--run", "run_path", type=click.Path(path_type=Path), help="The run folder.  [default: runs/...]")
def command(
    dataset: Path,
    task: str,
    stage: str | None,
    checkpoint_minutes: float,
    histograms: bool,
    deterministic: bool,
    strategy: "Strategy",
    run_path: Path | None,
    **asked: Any,
) -> None:
    """Train every stage up to --stage on DATASET, going on where an earlier call stopped.

    DATASET is what `ggn-tf prepare` wrote (default: dataset). Ctrl-C leaves a run that the same command continues; with
    larger --epochs, its last stage too. With --strategy multiworker the first machine alone has the run folder.
    """
    parsed = Task.parse(task)
    load_tensorflow()
    from ggn_tf.dataset.records import open_dataset
    from ggn_tf.dataset.splits import read_split
    from ggn_tf.runs.reproducibility import ask_determinism
    from ggn_tf.runs.run_description import RunDescription
    from ggn_tf.training.distributed.cluster import rank_of
    from ggn_tf.training.precision import resolve_precision
    from ggn_tf.training.trainer import plan_run

    place = rank_of(strategy, os.environ)
    if deterministic:
        ask_determinism()
    protocol = _protocol(asked)
    opened = open_dataset(dataset, protocol.patch)
    precision, reason = resolve_precision(asked["precision"])
    description = RunDescription(
        task=parsed,
        model=asked["model"],
        split=asked["split"],
        seed=asked["seed"],
        precision=precision,
        select_on=asked["select_on"],
        protocol=protocol,
        dataset_fingerprint=opened.fingerprint,
    )
    split = read_split(opened, description.split)
    plan = plan_run(description, opened, split, stage)
    if not place.is_chief:
        _follow(opened, plan, place)
        return
    folder = run_path or Path("runs") / _run_name(description)
    _lead(folder, opened, plan, reason, place, checkpoint_minutes, deterministic, histograms)


def _lead(
    folder: Path,
    opened: "Dataset",
    plan: "Plan",
    precision_reason: str,
    place: "Rank",
    checkpoint_minutes: float,
    deterministic: bool,
    histograms: bool,
) -> None:
    """Train in the run folder: alone, or as the chief of several processes."""
    from ggn_tf.cli.progress import EpochBars
    from ggn_tf.runs.lock import lock_run
    from ggn_tf.runs.package_versions import package_versions
    from ggn_tf.runs.reproducibility import conditions_here, keep_threads
    from ggn_tf.runs.run_folder import RunFolder
    from ggn_tf.training.distributed.cluster import connect_replicas
    from ggn_tf.training.observers import Observers
    from ggn_tf.training.tensorboard import EventWriter
    from ggn_tf.training.trainer import train

    with lock_run(folder):
        command_line = shlex.join(["ggn-tf", *sys.argv[1:]])
        conditions = conditions_here(deterministic, place.expected_replicas)
        run = RunFolder.create(folder, plan.asked, opened.folder, package_versions(), command_line, conditions)
        keep_threads(run.conditions)
        click.echo(banner(run, opened, plan, precision_reason, conditions_here(deterministic, place.expected_replicas)))
        with ended_by_ctrl_c():
            replicas = connect_replicas(place, plan.asked.protocol.training.batch_size)
        # Not before: TensorFlow takes SIGTERM for itself when it starts a cluster.
        with EpochBars() as bars, StopSignal(_STOPPING) as stop:
            train(
                run,
                opened,
                plan,
                Observers([EventWriter(folder / "tensorboard", plan.asked, histograms=histograms), bars]),
                stop.requested,
                checkpoint_minutes,
                deterministic=deterministic,
                replicas=replicas,
            )
    click.echo(f"finished   {', '.join(run.finished_stages())}\nnext       ggn-tf evaluate {folder}")


def _follow(opened: "Dataset", plan: "Plan", place: "Rank") -> None:
    """Train as the chief says; what comes of it is the chief's to write."""
    from ggn_tf.training.distributed.cluster import connect_replicas
    from ggn_tf.training.observers import Observer
    from ggn_tf.training.trainer import train

    click.echo(f"worker {place.worker} of {place.workers}: the chief, worker 0, writes the run and tells how it goes")
    with ended_by_ctrl_c():
        replicas = connect_replicas(place, plan.asked.protocol.training.batch_size)
    with StopSignal(_STOPPING) as stop:
        train(None, opened, plan, Observer(), stop.requested, replicas=replicas)
    click.echo("finished")


def _protocol(asked: dict[str, Any]) -> Protocol:
    training = TrainingProtocol(batch_size=asked["batch_size"], joint_weight=asked["joint_weight"])
    fields = {"epochs": "max_epochs", "learning_rates": "learning_rate", "patience": "patience"}
    stages: dict[str, Any] = {}
    for index, name in enumerate(STAGE_NAMES):
        numbers: StageProtocol = getattr(training, name)
        changes = {field: asked[option][index] for option, field in fields.items() if asked[option] is not None}
        stages[name] = dataclasses.replace(numbers, **changes)
    return dataclasses.replace(Protocol(), training=dataclasses.replace(training, **stages))


def _run_name(description: "RunDescription") -> str:
    return f"{description.model}-{description.task.file_name}-split{description.split}-seed{description.seed}"
