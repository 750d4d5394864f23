"""The runs of a folder and their progress, read without TensorFlow."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ggn_tf.errors import RecordError, RunError
from ggn_tf.evaluation.statistics.run_scores import SCORES_FILE, read_scores_file
from ggn_tf.json_records import added_later, from_json
from ggn_tf.runs.ledger import Ledger, read_history, read_json
from ggn_tf.runs.lock import is_locked, refuse_run_links

# The history has one of the first two only where it selects the weights; a mask's Dice selects where nothing else does.
_SELECTING = {"classification_loss": min, "auc": max, "accuracy": max, "dice": max}


@dataclass(frozen=True)
class RunOverview:
    """One run of the list; its settings are as in run.json.

    Attributes:
        stage: The stage of the last finished epoch; None before the first.
        epoch: That epoch's number in its stage.
        training: Whether a process is training it.
        selected_by: The score of `best`, as the columns of history.csv name it; None without one.
        best: The stage's best score on the set `select_on`: Dice of `segment`; of the others accuracy, or the AUC or
            classification loss where this selects the weights.
        test: Test scores of the last evaluated stage, by name; None without an evaluation.
        problem: Why the run cannot be read; the other fields are then None.
    """

    folder: Path
    model: str | None = None
    task: str | None = None
    split: int | None = None
    seed: int | None = None
    precision: str | None = None
    finished: tuple[str, ...] = ()
    stage: str | None = None
    epoch: int | None = None
    training: bool = False
    select_on: str | None = None
    selected_by: str | None = None
    best: float | None = None
    test: Mapping[str, float | None] | None = None
    problem: str | None = None


@dataclass(frozen=True)
class _Settings:
    """What is read of run.json."""

    model: str | None = added_later(None)
    task: str | None = added_later(None)
    split: int | None = added_later(None)
    seed: int | None = added_later(None)
    precision: str | None = added_later(None)
    select_on: str | None = added_later(None)


def list_runs(folder: Path) -> list[RunOverview]:
    """Every run in a folder, sorted by name; raises RunError where there is no such folder. A run is not searched."""
    if not folder.is_dir():
        raise RunError(
            "There is no such folder.",
            case=folder,
            found="a file" if folder.exists() else "nothing",
            expected="a folder with runs",
            remedy="Name the folder of the runs.",
        )
    return [describe(run) for run in _run_folders(folder)]


def describe(folder: Path) -> RunOverview:
    """One run, as its files are now."""
    try:
        refuse_run_links(folder)
        settings = from_json(_Settings, read_json(folder / "run.json"), ignore_unknown=True)
        finished = Ledger(folder).finished()
    except (RunError, RecordError) as error:
        return RunOverview(folder, problem=error.found)
    except OSError as error:
        return RunOverview(folder, problem=error.strerror or type(error).__name__)
    rows = read_history(folder / "history.csv")
    stage = rows[-1]["stage"] if rows else None
    current = [row for row in rows if row["stage"] == stage]
    selected_by, best = _best(current, str(settings.select_on))
    return RunOverview(
        folder,
        **dataclasses.asdict(settings),
        finished=finished,
        stage=stage,
        epoch=len(current) or None,
        training=is_locked(folder),
        selected_by=selected_by,
        best=best,
        test=_test_scores(folder / "evaluation" / SCORES_FILE, finished),
    )


def _run_folders(folder: Path) -> list[Path]:
    """The folders with a run, and those that cannot be read."""
    found, waiting = [], [folder]
    while waiting:
        current = waiting.pop()
        try:
            if (current / "run.json").exists():
                found.append(current)
            else:
                waiting += [path for path in current.iterdir() if path.is_dir() and not path.is_symlink()]
        except OSError:
            found.append(current)
    return sorted(found)


def _best(rows: Sequence[Mapping[str, str]], set_name: str) -> tuple[str | None, float | None]:
    """The score that selects the weights, and its best value."""
    for name, best in _SELECTING.items():
        texts = [row.get(f"{set_name}_{name}") for row in rows]
        try:
            values = [value for value in (float(text) for text in texts if text) if math.isfinite(value)]
        except ValueError:
            # The history is a copy for people, who may have changed it.
            return None, None
        if values:
            return name, best(values)
    return None, None


def _test_scores(file: Path, finished: Sequence[str]) -> dict[str, float | None] | None:
    try:
        test = read_scores_file(file).scores.test
    except RunError:
        return None
    scored = [] if test is None else [scores for stage, scores in test.stages.items() if stage in finished]
    return {name: score.value for name, score in scored[-1].by_metric().items()} if scored else None
