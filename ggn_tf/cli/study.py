"""`ggn-tf study`: every system, task, split and repeat of the paper's tables, in one folder."""

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ggn_tf.cli.stop_signal import StopSignal
from ggn_tf.cli.training_options import MODELS, precision_option, select_on_option
from ggn_tf.models.names import RADIOMICS, TRANSFER
from ggn_tf.protocol import Protocol, quick_protocol
from ggn_tf.tasks import PAPER_TASKS, Task
from ggn_tf.tensorflow_import import load_tensorflow

if TYPE_CHECKING:
    from ggn_tf.dataset.records import Dataset
    from ggn_tf.study.grid import StudyDesign

DEFAULT_SYSTEMS = (*MODELS, TRANSFER)
SYSTEMS = (*DEFAULT_SYSTEMS, RADIOMICS)
JOINT_WEIGHTS = (0.5, 0.7, 1.0, 1.3, 1.5)


class _Several(click.ParamType):
    """Positive numbers, or some of the known names, with commas between."""

    name = "a,b,..."

    def __init__(self, kind: type[int] | type[float] | type[str], known: tuple[str, ...] = ()) -> None:
        self._kind, self._known = kind, known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        try:
            parts = tuple(self._kind(part.strip()) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not {self._kind.__name__}s with commas between", param, ctx)
        for part in parts:
            if isinstance(part, str) and part not in self._known:
                self.fail(f"{part!r} is none of {', '.join(self._known)}", param, ctx)
            if not isinstance(part, str) and not 0 < part < math.inf:
                self.fail(f"{part} is not a positive number", param, ctx)
        return tuple(dict.fromkeys(parts))


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("-o", "--out", "folder", type=click.Path(path_type=Path), required=True, help="The study's folder.")
@click.option("--tasks", help='With semicolons between, as "AAH+AIS,MIA+IAC;AIS,MIA".  [default: the paper\'s four]')
@click.option(
    "--models",
    type=_Several(str, SYSTEMS),
    default=",".join(DEFAULT_SYSTEMS),
    show_default=True,
    help="transfer: the reference classifier on automatic masks; radiomics, of a dataset prepared with --radiomics.",
)
@click.option("--splits", type=_Several(int), default="1,2", show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Trainings of each cell.")
@click.option(
    "--joint-weights",
    type=_Several(float),
    default=",".join(f"{weight:g}" for weight in JOINT_WEIGHTS),
    show_default=True,
    help="Lambdas of Table 5, on the second task and the first split.",
)
@click.option(
    "--protocol",
    type=click.Choice(["paper", "quick"]),
    default="paper",
    show_default=True,
    help="quick: a tenth of the epochs at ten times the learning rate.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the first repeat.")
@select_on_option
@precision_option
@click.option(
    "--gallery",
    type=click.IntRange(min=0),
    default=12,
    show_default=True,
    help="Nodules a task in the report, with slices of their CT; 0 leaves patients' images out.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Trainings at a time.")
def command(
    dataset: Path, folder: Path, tasks: str | None, protocol: str, gallery: int, jobs: int, **asked: Any
) -> None:
    """Train and compare every system on DATASET: the paper's Tables 2 to 6.

    What is done is not done again: the same command goes on after Ctrl-C or a crash, and more --repeats, --splits or
    --models add to what is there.
    """
    parsed = tuple(dict.fromkeys(map(Task.parse, tasks.split(";")))) if tasks else PAPER_TASKS
    load_tensorflow()
    from ggn_tf.cli.study_progress import StudyBars
    from ggn_tf.dataset.records import open_dataset
    from ggn_tf.evaluation.report.evaluation_folder import REPORT
    from ggn_tf.study.examples import collect_examples
    from ggn_tf.study.folder import TABLES, write_study
    from ggn_tf.study.grid import StudyDesign, items_of
    from ggn_tf.study.item import WorkFolder
    from ggn_tf.study.pool import run_items
    from ggn_tf.study.results import collect_results
    from ggn_tf.study.tables import tables_of
    from ggn_tf.training.precision import resolve_precision

    numbers = quick_protocol() if protocol == "quick" else Protocol()
    opened = open_dataset(dataset, numbers.patch)
    precision, reason = resolve_precision(asked["precision"])
    question = StudyDesign(
        tasks=parsed,
        models=asked["models"],
        splits=asked["splits"],
        repeats=asked["repeats"],
        joint_weights=asked["joint_weights"],
        seed=asked["seed"],
        precision=precision,
        select_on=asked["select_on"],
        protocol=numbers,
    )
    items = items_of(question, opened)
    place = WorkFolder(folder, opened, shlex.join(["ggn-tf", *sys.argv[1:]]))
    click.echo(_banner(question, opened, protocol, reason, len(items)))
    with StudyBars(items) as bars, StopSignal("stopping; the same command goes on from here") as stop:
        run_items(items, place, jobs, bars.tell, stop.requested)
    results = collect_results(question, items, place)
    examples = collect_examples(question, results, place, gallery, lambda line: click.echo(line, err=True))
    written = write_study(question, opened, results, tables_of(question, results), folder, examples)
    click.echo(f"\n{(written / TABLES).read_text(encoding='utf-8')}\nresults: {written}\nreport:  {written / REPORT}")


def _banner(question: "StudyDesign", dataset: "Dataset", protocol: str, precision_reason: str, items: int) -> str:
    """The whole plan, for a person to read before the first step."""
    optimistic = "" if question.select_on == "validation" else ": the paper's way; scores on it are optimistic"
    lines = [
        ("dataset", f"{dataset.folder}, {len(dataset.cases)} nodules, fingerprint {dataset.fingerprint[:12]}"),
        ("tasks", "; ".join(map(str, question.tasks))),
        ("models", ", ".join(question.models)),
        ("splits", ", ".join(map(str, question.splits))),
        ("repeats", str(question.repeats)),
        ("protocol", protocol),
        ("precision", f"{question.precision}: {precision_reason}"),
        ("select on", question.select_on + optimistic),
        ("work", f"{items} trainings and predictions"),
    ]
    return "\n".join(f"{name:<11}{text}" for name, text in lines)
