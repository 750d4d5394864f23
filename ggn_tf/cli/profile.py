"""`ggn-tf profile`: where a run's training step spends its time."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ggn_tf.tensorflow_import import load_tensorflow

if TYPE_CHECKING:
    from ggn_tf.training.profile import Profile

_DEAREST = 10


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(min=1), default=10, show_default=True, help="How many are traced.")
@click.option("--warm-up", type=click.IntRange(min=1), default=5, show_default=True, help="Steps before them.")
@click.option("--dataset", type=click.Path(path_type=Path), help="Where the run's dataset lies, if it was moved.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Where the trace goes.  [default: RUN/tensorboard/profile]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else there.")
def command(run: Path, steps: int, warm_up: int, dataset: Path | None, output: Path | None, as_json: bool) -> None:
    """Trace training steps of RUN's last stage, on its own data, and tell the dearest operations.

    The trace opens in TensorBoard with its profile plugin (the extra [profile]). The run itself stays as it is.
    """
    load_tensorflow()
    from ggn_tf.dataset.splits import read_split
    from ggn_tf.runs.run_dataset import open_run_dataset
    from ggn_tf.runs.run_folder import RunFolder
    from ggn_tf.training.profile import profile_run

    opened = RunFolder.open(run)
    own_dataset = open_run_dataset(opened, dataset)
    split = read_split(own_dataset, opened.description.split)
    folder = output or run / "tensorboard" / "profile"
    profile = profile_run(opened, own_dataset, split, folder, steps=steps, warm_up=warm_up)
    click.echo(json.dumps(_document(profile), indent=2) if as_json else _text(profile, folder))


def _document(profile: "Profile") -> dict[str, object]:
    return {
        "stage": profile.stage,
        "trace": str(profile.trace),
        "step_ms": profile.step_ms,
        "waited_ms": profile.waited_ms,
        "input_share": profile.input_share,
        "slowest_ops": [dataclasses.asdict(op) for op in profile.ops[:_DEAREST]],
    }


def _text(profile: "Profile", folder: Path) -> str:
    steps = len(profile.step_ms)
    lines = [
        f"stage      {profile.stage}, {steps} steps of {_mean(profile.step_ms):.1f} ms "
        f"(from {min(profile.step_ms):.1f} to {max(profile.step_ms):.1f})",
        f"input      a step waits {_mean(profile.waited_ms):.1f} ms for its batch, {profile.input_share:.1%} of it",
        "",
        f"{'share':>6} {'ms a step':>10} {'calls a step':>13}  operation",
    ]
    for op in profile.ops[:_DEAREST]:
        lines.append(f"{op.share:6.1%} {op.self_ms / steps:10.2f} {op.calls / steps:13.1f}  {op.kind}  {op.name}")
    dearest = sum(op.share for op in profile.ops[:_DEAREST])
    lines += [
        f"{dearest:6.1%} of the self time of {len(profile.ops)} operations, summed over threads",
        "",
        f'trace      {profile.trace}\nto open    pip install "ggn-tf[profile]" && tensorboard --logdir {folder}',
    ]
    return "\n".join(lines)


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)
