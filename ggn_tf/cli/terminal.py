"""Tables on stdout, progress on stderr (in a log only what is finished), and what a training command is about to do."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ggn_tf.cli.options import with_options
from ggn_tf.runs.stages import STAGES, Stage
from ggn_tf.shown_text import one_line

if TYPE_CHECKING:
    import ggn_tf
    from ggn_tf.api.crossval import CrossvalPlan
    from ggn_tf.api.fit import TrainingPlan
    from ggn_tf.api.study import StudyPlan
    from ggn_tf.dataset.records import Dataset
    from ggn_tf.runs.reproducibility import Exactness
    from ggn_tf.runs.run_description import RunDescription
    from ggn_tf.runs.started_from import StartedFrom


# Where the output is not a terminal, rich would fold the rows at 80 characters.
_WIDTH = 200


def print_table(heading: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    """Print rows as columns.

    `left` columns are aligned left; the others, numbers, are aligned right.
    """
    table = Table(box=None, pad_edge=False)
    for index, title in enumerate(heading):
        table.add_column(title, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(_as_shown, row))
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _as_shown(cell: str) -> str:
    """The text with the escapes that the output will contain, as the column's width depends on them."""
    encoding = sys.stdout.encoding or "utf-8"
    return one_line(cell).encode(encoding, "backslashreplace").decode(encoding)


# An item of a study takes minutes to hours; the rate of the last half minute says nothing about it.
_STUDY_RATE_S = 6 * 3600


class _Bars:
    """Bars that appear with the first progress, so that what is printed before stays above them."""

    def __init__(self, *columns: TextColumn | BarColumn | MofNCompleteColumn, rate_s: float = 30.0) -> None:
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self._bars = Progress(
            *columns, *times, speed_estimate_period=rate_s, transient=True, console=Console(stderr=True)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars.live.is_started:
            self._bars.stop()

    def _print(self, line: str) -> None:
        self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)


class CountBar(_Bars):
    """A bar that counts a step's units."""

    def __init__(self) -> None:
        super().__init__(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = self._bars.add_task("", total=None)

    def show(self, progress: "ggn_tf.Progress") -> None:
        """Draw a step's progress."""
        self._bars.start()
        step = progress.step.capitalize()
        self._bars.update(self._bar, description=step, completed=progress.done, total=progress.total)


class EpochBars(_Bars):
    """A bar within an epoch, and a line after it."""

    def __init__(self) -> None:
        loss = TextColumn("{task.fields[loss]}")
        super().__init__(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), loss)
        self._bar = self._bars.add_task("", total=None, loss="")
        self._stage = ""

    def show(self, progress: "ggn_tf.TrainingProgress") -> None:
        """Draw a training's progress."""
        self._bars.start()
        if progress.stage != self._stage:
            self._stage = progress.stage
            verb = "resumes" if progress.epoch > 1 or progress.step > 0 else "begins"
            self._print(f"{progress.stage:<9} {verb}: its first step builds the graph, which can take a minute")
        if progress.scores:
            scores = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in progress.scores.items())
            self._print(f"{progress.stage:<9} epoch {progress.epoch:>3}  {scores}")
            return
        if progress.loss is None:
            self._bars.reset(self._bar, total=progress.steps, description=f"{progress.stage} epoch {progress.epoch}")
        loss = "" if progress.loss is None else f"loss {progress.loss:.4f}"
        self._bars.update(self._bar, completed=progress.step, loss=loss)


class StudyBars(_Bars):
    """A bar for the study and one for each item at work; a line after each item."""

    def __init__(self) -> None:
        share, what = TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.fields[what]}")
        super().__init__(TextColumn("{task.description}"), BarColumn(), share, what, rate_s=_STUDY_RATE_S)
        self._whole = self._bars.add_task("study", total=1.0, what="")
        self._at_work: dict[str, TaskID] = {}

    def show(self, progress: "ggn_tf.StudyProgress") -> None:
        """Draw a study's progress."""
        from ggn_tf.api.study import REPORT_ITEM

        self._bars.start()
        if progress.item == REPORT_ITEM:
            self._print(progress.what)
            return
        if progress.share == 1.0 and progress.item not in self._at_work:
            # Finished by an earlier call, within no time: the first count is not part of the rate.
            self._bars.reset(self._whole)
        count = f"{progress.items_done} of {progress.items}"
        self._bars.update(self._whole, completed=progress.work_done, what=f"{count} done")
        if progress.share < 1.0:
            if progress.item not in self._at_work:
                self._at_work[progress.item] = self._bars.add_task(f"  {progress.item}", total=1.0, what="")
            self._bars.update(self._at_work[progress.item], completed=progress.share, what=progress.what)
        elif progress.item in self._at_work:
            self._bars.remove_task(self._at_work.pop(progress.item))
            self._print(f"{progress.items_done:>4} of {progress.items}  {progress.item}")


_UNCHECKED = {
    "run": "its dataset, or that of a run before it, is not available",
    "export": "an export does not name the patients of its training",
    "file": "a .keras file does not name the patients of its training",
}


def training_text(plan: "TrainingPlan") -> str:
    """The plan of a training."""
    if plan.run is None:
        rank = plan.rank
        return f"worker {rank.worker} of {rank.workers}: the chief, worker 0, writes the run and reports its progress"
    description, conditions, finished = plan.plan.description, plan.conditions, plan.run.finished_stages()
    lines = [
        ("dataset", _dataset(plan.dataset)),
        ("task", str(description.task)),
        ("model", f"{description.model}, split {description.split}, seed {description.seed}"),
        *(_start(description.start_from, plan.lowered_rates) if description.start_from else []),
        ("device", _device()),
        *([("replicas", f"{conditions.replicas} devices share every batch")] if conditions.replicas > 1 else []),
        ("precision", f"{description.precision}: {plan.precision_reason}"),
        ("select on", _selection(description.select_on)),
        ("run", str(plan.run.folder)),
        ("exact", _exactness(conditions.exactness)),
    ]
    if plan.changed:
        changed = ", ".join(plan.changed)
        lines.append(("note", f"begun under other conditions, so not the same to the bit: {changed}"))
    for name, counts in plan.plan.class_counts.items():
        classes = ", ".join(
            f"{count} {label}" for count, label in zip(counts, description.task.class_names, strict=True)
        )
        lines.append((name, f"{sum(counts)} nodules: {classes}"))
    left_out = {label: plan.dataset.label_counts[label] for label in plan.dataset.labels}
    left_out = {label: number for label, number in left_out.items() if description.task.class_of(label) is None}
    if left_out:
        labels = ", ".join(f"{number} {label}" for label, number in left_out.items())
        total = sum(left_out.values())
        lines.append(("left out", f"{total} nodules, whose labels are in no class of the task: {labels}"))
    lines += [
        (stage.name, "finished" if stage.name in finished else _stage(stage, description)) for stage in plan.plan.stages
    ]
    return _aligned(lines)


def study_text(plan: "StudyPlan", protocol: str) -> str:
    """The plan of a study."""
    design = plan.design
    lines = [
        ("dataset", _dataset(plan.dataset)),
        ("tasks", "; ".join(map(str, design.tasks))),
        ("models", ", ".join(design.models)),
        ("folds", str(design.folds)) if design.folds else ("splits", ", ".join(map(str, design.splits))),
        ("repeats", str(design.repeats)),
        ("protocol", protocol),
        ("precision", f"{design.precision}: {plan.precision_reason}"),
        ("select on", _selection(design.select_on)),
        ("work", f"{plan.items} trainings and predictions"),
    ]
    return _aligned(lines)


def crossval_text(plan: "CrossvalPlan", protocol: str) -> str:
    """The plan of a cross-validation."""
    run, folds = plan.design.run, plan.folds
    drawn = f"seed {folds.random_state}" if folds.request.list_digest is None else "from the list"
    sizes = ", ".join(str(len(split.test)) for split in folds.splits)
    lines = [
        ("dataset", _dataset(plan.dataset)),
        ("task", str(run.task)),
        ("model", f"{run.model}, seed {run.seed}"),
        ("folds", f"{len(folds.splits)} by patient, {drawn}, of {sizes} nodules"),
        ("members", f"{plan.design.members} per fold"),
        ("protocol", protocol),
        *((stage.name, _stage(stage, run)) for stage in STAGES[run.model]),
        ("precision", f"{run.precision}: {plan.precision_reason}"),
        ("select on", "validation, drawn from each fold's training part"),
        ("work", f"{plan.trainings} trainings"),
    ]
    return _aligned(lines)


def _aligned(lines: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<11}{text}" for name, text in lines)


def _dataset(dataset: "Dataset") -> str:
    return f"{dataset.folder}, {len(dataset.cases)} nodules, fingerprint {dataset.fingerprint[:12]}"


def _start(start: "StartedFrom", lowered_rates: bool) -> list[tuple[str, str]]:
    source = f"{start.kind} {start.name} ({start.model}{f', task {start.task}' if start.task else ''})"
    new = f"; with initial weights: {', '.join(start.initialised)}" if start.initialised else ""
    lines = [("start from", f"{source}: {len(start.taken)} layers{new}")]
    if start.frozen:
        lines.append(("frozen", ", ".join(start.frozen)))
    if lowered_rates:
        lines.append(("rates", "a tenth of the default learning rates, as the run starts from trained weights"))
    if not start.patients_checked:
        lines.append(
            ("note", f"whether the source was trained on test patients cannot be checked: {_UNCHECKED[start.kind]}")
        )
    return lines


def _selection(select_on: str) -> str:
    return select_on + ("" if select_on == "validation" else ": the paper's way; scores on it are optimistic")


def _device() -> str:
    from ggn_tf.machine import gpus

    names = ", ".join(str(gpu["device_name"]) for gpu in gpus())
    return names or "CPU: TensorFlow finds no GPU (the extra [gpu] installs what NVIDIA's need)"


def _exactness(exactness: "Exactness") -> str:
    reproducible = "to the bit" if exactness.bit_for_bit else "no"
    return f"{reproducible}: {with_options(exactness.text, exactness.arguments)}"


def _stage(stage: Stage, description: "RunDescription") -> str:
    numbers = stage.numbers(description.protocol.training)
    selected_by = stage.selected_by(description.protocol.training).replace("_", " ")
    return (
        f"up to {numbers.max_epochs} epochs from learning rate {numbers.learning_rate:g}, trains "
        f"{' and '.join(stage.trains)}, keeps the best {description.select_on} {selected_by}"
        + (f", centres shifted up to {numbers.shift_mm:g} mm" if numbers.shift_mm else "")
        + (", on every annotated nodule" if stage.name == "segment" and description.segment_on == "all" else "")
    )
