"""`ggn-tf doctor`: what this machine has, and what is missing."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ggn_tf.cli.options import json_option
from ggn_tf.tensorflow_import import load_tensorflow

if TYPE_CHECKING:
    from ggn_tf.doctor import Installation


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Report versions, processor, memory, GPU, precision, TensorBoard and TensorFlow Serving, with remedies.

    The exit code is 1 where the product cannot work.
    """
    from ggn_tf.doctor import examine

    try:
        load_tensorflow()
    except Exception:
        # The cause is reported among the problems.
        click.echo("TensorFlow cannot be imported.", err=True)
    found = examine(Path.cwd())
    if as_json:
        problems = [dataclasses.asdict(problem) for problem in found.problems]
        click.echo(json.dumps({**found.facts, "problems": problems, "works": found.works}, indent=2))
    else:
        click.echo(_text(found))
    if not found.works:
        sys.exit(1)


def _text(found: "Installation") -> str:
    facts = found.facts
    packages, board, serving = facts["packages"], facts["tensorboard"], facts["serving"]
    lines = [
        ("python", facts["python"]),
        *((name, packages[name] or "not installed") for name in packages),
        ("processor", f"{facts['processor']}: {', '.join(facts['features']) or 'no known features'}"),
        ("cores", str(facts["cores"])),
        ("memory", f"{facts['memory_gib']} GiB"),
        ("disk", f"{facts['disk_free_gib']} GiB free here"),
    ]
    if "precision" in facts:
        lines += [
            ("gpu", ", ".join(facts["gpus"]) or "none"),
            ("precision", f"auto takes {facts['precision']['auto']}: {facts['precision']['why']}"),
        ]
    lines += [
        ("board", f"TensorBoard {'works' if board['works'] else 'does not work'}, {_plugin(board['profile_plugin'])}"),
        (
            "serving",
            f"protocol {serving['api']}, real server: {serving['real_server'] or 'none (the embedded one serves)'}",
        ),
    ]
    text = [f"{name:<13}{value}" for name, value in lines]
    for problem in found.problems:
        text.append(f"{'PROBLEM' if problem.fatal else 'note':<13}{problem.what}\n{'  remedy':<13}{problem.remedy}")
    return "\n".join([*text, *([] if found.problems else ["nothing is missing"])])


def _plugin(installed: bool) -> str:
    return "with the profile plugin" if installed else 'no profile plugin (pip install "ggn-tf[profile]")'
