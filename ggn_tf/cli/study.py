"""`ggn-tf study`: every system, task, split and repeat of the paper's tables, in one folder."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from ggn_tf.api.arguments import DEFAULT_SYSTEMS, STUDY_GALLERY, SYSTEMS
from ggn_tf.cli.options import (
    AT_LEAST_0,
    AT_LEAST_1,
    PATH,
    CommaList,
    FiniteRange,
    NumbersOrFile,
    by_option,
    folds_from_option,
    precision_option,
    protocol_option,
    segment_on_option,
    select_on_option,
    sensitivity_option,
    shared_option,
    text_of,
    workers_options,
)
from ggn_tf.cli.stop_signal import StopSignal
from ggn_tf.models.names import ABLATIONS
from ggn_tf.protocol import TABLE_5_JOINT_WEIGHTS
from ggn_tf.tasks import PAPER_TASKS
from ggn_tf.tensorflow_import import load_tensorflow


@click.command()
@click.argument("dataset", type=PATH)
@click.option("-o", "--out", "folder", type=PATH, required=True, help="Folder of the study.")
@click.option(
    "--tasks",
    default=";".join(map(str, PAPER_TASKS)),
    help="Tasks with semicolons between them; by default the paper's four.",
)
@click.option(
    "--models",
    type=CommaList(str, SYSTEMS),
    default=text_of(DEFAULT_SYSTEMS),
    help="Systems to compare. transfer is the reference classifier on automatic masks; radiomics needs a dataset that "
    "was prepared with --radiomics; MODEL@RUN starts from the weights of a run, as fit --start-from does.",
)
@click.option(
    "--splits",
    type=NumbersOrFile(),
    help="Numbers of the dataset's splits; or a file with your own splits, for example by date or by centre, all of "
    "which are used: a table with case_id or patient_id, set (train, validation or test) and optionally split, its "
    "number; or JSON.  [default: 1,2]",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    help="Number of folds in place of splits, as in crossval: every system is trained on each, and out-of-fold "
    "predictions are scored and compared.",
)
@folds_from_option
@click.option("--repeats", type=AT_LEAST_1, default=5, help="Number of trainings per system, task and split.")
@click.option(
    "--joint-weights",
    type=CommaList(float),
    default=text_of(TABLE_5_JOINT_WEIGHTS),
    help="Values of lambda for the paper's Table 5, on the second task and the first split.",
)
@protocol_option
@click.option("--seed", type=AT_LEAST_0, default=0, help="Seed of the first repeat; the others count on.")
@segment_on_option
@select_on_option
@click.option(
    "--ablations",
    type=CommaList(str, ABLATIONS),
    default=(),
    help=f"Variants of the method to train and compare as well ({', '.join(ABLATIONS)}): the masked background as air "
    "or as 0 HU, the U-Net frozen for as long as joint training lasts, binary masks in Table 4.",
)
@precision_option
@click.option(
    "--gallery",
    type=AT_LEAST_0,
    default=STUDY_GALLERY,
    help="Number of nodules per task that the report shows with slices of their CT; 0 for none.",
)
@click.option(
    "--primary",
    type=click.Choice(["accuracy", "average_f1", "mcc", "auc", "dice"]),
    default="auc",
    help="Score about which claims are made: Holm's correction covers it alone, and the others are secondary.",
)
@click.option(
    "--pairs",
    multiple=True,
    metavar="A:B",
    help="Pair of systems to compare instead of the paper's pairs, chosen before the scores are known, for example "
    "cascade/joint:raw; may be repeated.",
)
@click.option(
    "--equivalence",
    type=FiniteRange(0, 1, min_open=True),
    help="Largest difference of two systems that is irrelevant; every comparison is then inside, outside or undecided.",
)
@sensitivity_option
@by_option
@workers_options
@shared_option
def command(dataset: Path, folder: Path, tasks: str, protocol: Any, **arguments: Any) -> None:
    """Train and compare every system on DATASET: the paper's Tables 2 to 6.

    What is finished is not repeated: the same command resumes after Ctrl-C or a crash, and more --repeats, --splits or
    --models add to it.
    """
    from ggn_tf.dataset.dataset_json import refuse_missing_dataset

    # Before TensorFlow is loaded, which takes seconds.
    refuse_missing_dataset(dataset)
    load_tensorflow()
    from ggn_tf.api.study import study
    from ggn_tf.cli.terminal import StudyBars, study_text
    from ggn_tf.evaluation.report.run_report import REPORT
    from ggn_tf.studies.study_report import TABLES

    with StudyBars() as bars, StopSignal("stopping; the same command resumes the study") as stop:
        results = study(
            dataset,
            folder,
            tasks=tasks.split(";"),
            protocol=protocol,
            command=shlex.join(["ggn-tf", *sys.argv[1:]]),
            on_start=lambda plan: click.echo(study_text(plan, protocol)),
            on_progress=bars.show,
            stop=stop.requested,
            **arguments,
        ).folder
    click.echo(f"\n{(results / TABLES).read_text(encoding='utf-8')}\nresults: {results}\nreport:  {results / REPORT}")
