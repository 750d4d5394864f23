"""`ggn-tf fit`: train every stage up to the named one, in a run folder from which training can be resumed."""

import shlex
import sys
from pathlib import Path
from typing import Any, get_args

import click

import ggn_tf
from ggn_tf.cli.options import (
    AT_LEAST_0,
    AT_LEAST_1,
    FILE,
    PATH,
    CommaList,
    FiniteRange,
    precision_option,
    protocol_option,
    segment_on_option,
    select_on_option,
    shared_option,
    text_of,
    together,
)
from ggn_tf.cli.stop_signal import StopSignal
from ggn_tf.models.names import CASCADE
from ggn_tf.protocol import SelectionScore, TrainingProtocol
from ggn_tf.runs.stages import STAGE_NAMES, STAGES
from ggn_tf.tasks import INDOLENT_INVASIVE
from ggn_tf.tensorflow_import import load_tensorflow

PAPER = TrainingProtocol()
PER_STAGE = ", ".join(STAGE_NAMES)


def _paper(attribute: str) -> str:
    numbers = text_of(getattr(getattr(PAPER, stage), attribute) for stage in STAGE_NAMES)
    return f"{PER_STAGE}.  [default: {numbers}, the paper's, or those of --protocol]"


training_options = together(
    click.option(
        "--epochs", type=CommaList(int, example="12,20,6"), help=f"Largest number of epochs of {_paper('max_epochs')}"
    ),
    click.option(
        "--learning-rates",
        type=CommaList(float, example="0.001,0.0003,0.0001"),
        help=f"First learning rate of {_paper('learning_rate')}",
    ),
    click.option(
        "--patience",
        type=CommaList(int, example="10,10,10"),
        help=f"Number of epochs without a better score that end {_paper('patience')}",
    ),
    click.option("--batch-size", type=AT_LEAST_1, default=PAPER.batch_size, help="Number of patches per step."),
    click.option(
        "--joint-weight",
        type=FiniteRange(min=0),
        default=PAPER.joint_weight,
        help="Weight lambda of the Dice loss in the paper's eq. 4.",
    ),
    click.option(
        "--shift-mm",
        type=CommaList(float, zero=True),
        help="How far the centre of each patch is shifted at most, drawn again in each epoch: one number, or one for "
        f"each of {PER_STAGE}. At most the dataset's margin.  [default: 0, the paper's, or those of --protocol]",
    ),
    click.option(
        "--select-by",
        type=click.Choice(get_args(SelectionScore)),
        help="Score that selects the weights of classify and joint: accuracy, area under the ROC curve, or "
        f"classification loss.  [default: {PAPER.select_by}, or that of --protocol]",
    ),
)


@click.command()
@click.argument("dataset", type=PATH, default=Path("dataset"))
@click.option("--task", default=str(INDOLENT_INVASIVE), help="Classes of the task; a plus merges labels.")
@click.option(
    "--model",
    type=click.Choice(tuple(STAGES)),
    default=CASCADE,
    help="System of the paper's Fig. 3: raw (a), reference (b), cascade (c and d) or multitask (e).",
)
@click.option("--stage", type=click.Choice(STAGE_NAMES), help="Last stage to train.  [default: the model's last]")
@click.option("--split", type=AT_LEAST_1, default=1, help="Number of the split.")
@click.option(
    "--splits",
    type=FILE,
    metavar="FILE",
    help="File with your own splits, for example by date or by centre: a table with case_id or patient_id, set (train, "
    "validation or test) and optionally split, its number; or JSON.  [default: the dataset's splits]",
)
@click.option("--seed", type=AT_LEAST_0, default=0, help="Seed of initial weights, order and augmentation.")
@click.option(
    "--start-from",
    type=PATH,
    metavar="RUN|EXPORT|FILE.keras",
    help="Run, export or .keras file whose weights are taken layer by layer. Default learning rates are then divided "
    "by ten.  [default: the initial weights of the seed]",
)
@click.option(
    "--freeze",
    type=AT_LEAST_0,
    default=0,
    help="Number of convolution blocks that stay fixed, from the input of U-Net and classifier, where their weights "
    "are taken.",
)
@protocol_option
@training_options
@segment_on_option
@select_on_option
@precision_option
@click.option(
    "--checkpoint-minutes", type=FiniteRange(min=0), default=10.0, help="Minutes between checkpoints within an epoch."
)
@click.option("--histograms", is_flag=True, help="Write every weight's histogram for TensorBoard: 10 MB per epoch.")
@click.option(
    "--deterministic",
    is_flag=True,
    help="Make training on a GPU reproducible to the bit, which is slower. On a CPU it always is.",
)
@click.option(
    "--strategy",
    type=click.Choice(["one", "mirrored", "multiworker"]),
    default="one",
    help="Devices that share a batch: one; all GPUs of this machine; those of all machines in TF_CONFIG, each of which "
    "runs this command.",
)
@click.option("-o", "--run", type=PATH, help="Run folder.  [default: runs/MODEL-TASK-splitN-seedN]")
@shared_option
def command(dataset: Path, **arguments: Any) -> None:
    """Train every stage up to --stage on DATASET, resuming where an earlier call stopped.

    DATASET is a folder written by `ggn-tf prepare` (default: dataset). After Ctrl-C the same command resumes the run;
    with larger --epochs it extends the last stage. With --strategy multiworker only the first machine has the run
    folder.
    """
    from ggn_tf.cli.terminal import EpochBars, training_text
    from ggn_tf.dataset.dataset_json import refuse_missing_dataset

    # Before TensorFlow is loaded, which takes seconds.
    refuse_missing_dataset(dataset)
    load_tensorflow()
    with EpochBars() as bars, StopSignal("stopping after this step; the same command resumes training") as stop:
        run = ggn_tf.fit(
            dataset,
            run_threads=True,
            command=shlex.join(["ggn-tf", *sys.argv[1:]]),
            on_start=lambda plan: click.echo(training_text(plan)),
            on_progress=bars.show,
            stop=stop.requested,
            connecting=stop.suspended(),
            **arguments,
        )
    click.echo(
        f"finished   {', '.join(run.stages)}\nnext       ggn-tf evaluate {run.folder}" if run.stages else "finished"
    )
