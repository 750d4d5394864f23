"""`ggn-tf profile`: where a run's training step spends its time."""

import dataclasses
import json
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import click

from ggn_tf.cli.options import AT_LEAST_1, PATH, json_option
from ggn_tf.tensorflow_import import load_tensorflow

if TYPE_CHECKING:
    from ggn_tf.training.profile import Profile

_SLOWEST = 10


@click.command()
@click.argument("run", type=PATH)
@click.option("--steps", type=AT_LEAST_1, default=10, help="Number of steps to trace.")
@click.option("--warm-up", type=AT_LEAST_1, default=5, help="Number of steps before the traced ones.")
@click.option(
    "--dataset",
    "--own-dataset",
    "own_dataset",
    type=PATH,
    help="Folder of the run's own dataset, where it was moved since the training.",
)
@click.option("-o", "--output", type=PATH, help="Folder of the trace.  [default: RUN/tensorboard/profile]")
@json_option
def command(run: Path, steps: int, warm_up: int, own_dataset: Path | None, output: Path | None, as_json: bool) -> None:
    """Trace training steps of RUN's last stage, on its own data, and list the slowest operations.

    The trace opens in TensorBoard with its profile plugin (the extra [profile]). The run itself stays as it is.
    """
    load_tensorflow()
    from ggn_tf.files import refuse_read_only
    from ggn_tf.runs.run_folder import RunFolder, open_run_dataset, read_run_split
    from ggn_tf.training.profile import profile_run

    opened = RunFolder.open(run)
    dataset = open_run_dataset(opened, own_dataset)
    split = read_run_split(opened, dataset)
    folder = output or run / "tensorboard" / "profile"
    refuse_read_only(folder)
    profile = profile_run(opened, dataset, split, folder, steps=steps, warm_up=warm_up)
    if as_json:
        click.echo(json.dumps(_document(profile), indent=2))
    else:
        _print(profile, folder)


def _document(profile: "Profile") -> dict[str, object]:
    return {
        "stage": profile.stage,
        "trace": str(profile.trace),
        "step_ms": profile.step_ms,
        "waited_ms": profile.waited_ms,
        "input_share": profile.input_share,
        "slowest_ops": [dataclasses.asdict(op) for op in profile.ops[:_SLOWEST]],
    }


def _print(profile: "Profile", folder: Path) -> None:
    from ggn_tf.cli.terminal import print_table

    steps, slowest = profile.step_ms, profile.ops[:_SLOWEST]
    click.echo(
        f"stage      {profile.stage}, {len(steps)} steps of {mean(steps):.1f} ms (from {min(steps):.1f} to "
        f"{max(steps):.1f})\n"
        f"input      a step waits {mean(profile.waited_ms):.1f} ms for its batch, {profile.input_share:.1%} of it\n"
    )
    rows = [
        (op.kind, op.name, f"{op.share:.1%}", f"{op.self_ms / len(steps):.2f}", f"{op.calls / len(steps):.1f}")
        for op in slowest
    ]
    print_table(("kind", "operation", "share", "ms per step", "calls per step"), rows, left=2)
    click.echo(
        f"{sum(op.share for op in slowest):.1%} of the self time of {len(profile.ops)} operations, summed over threads"
        f"\n\ntrace      {profile.trace}\n"
        f'to open    pip install "ggn-tf[profile]" && tensorboard --logdir {folder}'
    )
