"""`ggn-tf runs`: the runs of a folder as a table."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ggn_tf.cli.options import PATH, json_option

if TYPE_CHECKING:
    from ggn_tf.evaluation.run_list import RunOverview

_HEADING = ("run", "model", "task", "split", "seed", "precision", "reached", "best", "test")
_TEST_SCORES = ("accuracy", "auc", "dice")


@click.command()
@click.argument("folder", type=PATH, default=Path("runs"))
@json_option
def command(folder: Path, as_json: bool) -> None:
    """List the runs under FOLDER (default: runs) and how far they got.

    A star marks a run that a process trains right now. `best` is the best score of its last stage on the set that
    selects the weights: Dice of segment, accuracy of the others, or what fit --select-by names. `test` is shown for
    runs that were evaluated.
    """
    from ggn_tf.cli.terminal import print_table
    from ggn_tf.evaluation.run_list import list_runs

    runs = list_runs(folder)
    if as_json:
        click.echo(json.dumps([{**dataclasses.asdict(run), "folder": str(run.folder)} for run in runs], indent=2))
        return
    print_table(_HEADING, [_row(run, folder) for run in runs], left=len(_HEADING))
    for run in runs:
        if run.problem is not None:
            click.echo(f"{_name(run, folder)}: {run.problem}", err=True)


def _row(run: "RunOverview", folder: Path) -> tuple[str, ...]:
    if run.problem is not None:
        return (_name(run, folder), *("-" for _ in _HEADING[1:-1]), "cannot be read")
    reached = "-" if run.stage is None else f"{run.stage} {run.epoch}{' done' if run.stage in run.finished else ''}"
    best = "-" if run.best is None else f"{run.select_on} {str(run.selected_by).replace('_', ' ')} {run.best:.3f}"
    scores = run.test or {}
    test = ", ".join(f"{name} {scores[name]:.3f}" for name in _TEST_SCORES if scores.get(name) is not None)
    settings = (run.model, run.task, run.split, run.seed, run.precision)
    row = (*map(str, settings), reached + (" *" if run.training else ""), best)
    return (_name(run, folder), *row, test if run.test is not None else "-")


def _name(run: "RunOverview", folder: Path) -> str:
    return run.folder.name if run.folder == folder else str(run.folder.relative_to(folder))
