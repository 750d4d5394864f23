"""The runs of an export: whether they can be averaged, their models, and the origin of the whole."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from ggn_tf.dataset.dataset_json import DESCRIPTION, MOST_BYTES
from ggn_tf.errors import RunError
from ggn_tf.json_records import read_document
from ggn_tf.protocol import Protocol
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import STAGES
from ggn_tf.serving.contract.export_contract import Member
from ggn_tf.serving.export.export_card import Provenance
from ggn_tf.serving.export.version_writer import load_served_model, provenance_of
from ggn_tf.studies.crossval import cv_runs, is_crossval
from ggn_tf.tasks import Task

_Facts = dict[str, Any]
"""What all members must have in common, by the name that a message shows; without what is not known."""


@dataclass(frozen=True)
class ExportedRuns:
    """What `export_model` needs of one or several runs.

    Attributes:
        runs: The runs, those of a cross-validation each.
        members: One entry per run; none for a single run.
        protocol: That of the run with the smallest shifts in its training, which decides how safe recentring is.
    """

    runs: tuple[RunFolder, ...]
    models: tuple[keras.Model, ...]
    members: tuple[Member, ...]
    task: Task
    protocol: Protocol
    provenance: Provenance


def open_runs(folders: Sequence[Path]) -> ExportedRuns:
    """Open runs, check that their predictions can be averaged, and load their models.

    The folder of a cross-validation counts as all of its runs.

    Raises:
        RunError: There is no run, a folder is not a run or occurs twice, a run is not finished or cannot be served, or
            it differs from the first one in its task, patch, precision or dataset's schema.
    """
    if not folders:
        raise RunError("There is no run to export.", expected="at least one run", remedy="Name a run folder.")
    given = [(run, is_crossval(folder)) for folder in folders for run in _runs_of(folder)]
    runs = [RunFolder.open(folder) for folder, _ in given]
    for (first, expected), (run, found) in itertools.combinations([(run, _facts(run)) for run in runs], 2):
        _refuse_difference(first, expected, run, found)
    # A damaged model is reported as such before it counts as an unfinished stage.
    models = tuple(load_served_model(run) for run in runs)
    _refuse_unfinished(runs)
    _refuse_repetition(runs)
    protocols, origins = [run.description.protocol for run in runs], [provenance_of(run) for run in runs]
    return ExportedRuns(
        tuple(runs),
        models,
        tuple(_member(run, is_fold) for run, (_, is_fold) in zip(runs, given, strict=True)) if len(runs) > 1 else (),
        runs[0].description.task,
        min(protocols, key=lambda protocol: protocol.training.largest_shift_mm),
        _common(origins) if len(runs) > 1 else origins[0],
    )


def _runs_of(folder: Path) -> list[Path]:
    return cv_runs(folder) if is_crossval(folder) else [folder]


def _member(run: RunFolder, is_fold: bool) -> Member:
    description, stage = run.description, run.finished_stages()[-1]
    return Member(
        run=run.folder.resolve().name,
        stage=stage,
        split=description.split,
        seed=description.seed,
        model_sha256=str(_digest_of_model(run)),
        dataset_fingerprint=description.dataset_fingerprint,
        split_digest=description.split_digest,
        fold=description.split if is_fold else None,
    )


def _refuse_difference(first: RunFolder, expected: _Facts, run: RunFolder, found: _Facts) -> None:
    name = next((name for name in expected if name in found and found[name] != expected[name]), None)
    if name is not None:
        same_classes = len({frozenset(map(frozenset, each.description.task.classes)) for each in (first, run)}) == 1
        shown = "class order" if name == "task" and same_classes else name
        raise RunError(
            "The runs cannot be averaged.",
            case=run.folder,
            found=f"{shown} {found[name]}",
            expected=f"{shown} {expected[name]}, as in {first.folder}",
            remedy="Export runs of one task, patch and precision, trained on datasets of one schema.",
        )


def _facts(run: RunFolder) -> _Facts:
    schema = _dataset_schema(run)
    description = run.description
    # The margin is of the dataset; networks never see it.
    patch = dataclasses.asdict(dataclasses.replace(description.protocol.patch, margin_mm=0.0))
    return {
        "task": str(description.task),
        **{f"patch {name}": value for name, value in patch.items()},
        "precision": description.precision,
        **({} if schema is None else {"dataset schema": schema}),
    }


def _dataset_schema(run: RunFolder) -> object:
    """That of the dataset where the run was trained; None where it is not there any more."""
    try:
        return read_document(run.dataset / DESCRIPTION, most_bytes=MOST_BYTES)["schema"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _refuse_unfinished(runs: Sequence[RunFolder]) -> None:
    """Refuse a run that lacks a stage, or epochs of it, which another run has."""
    missing = [
        [stage.name for stage in STAGES[run.description.model] if not run.is_complete(stage.name)] for run in runs
    ]
    fewest = min(map(len, missing))
    for run, stages in zip(runs, missing, strict=True):
        if len(stages) > fewest:
            raise RunError(
                "A run of the ensemble is not finished.",
                case=run.folder,
                found=f"not finished: {', '.join(stages)}",
                expected="a run with as many finished stages as the others",
                remedy=f"Finish the run, or export the others alone. {run.resume_remedy()}",
            )


def _refuse_repetition(runs: Sequence[RunFolder]) -> None:
    """Refuse a run that would count twice: under another path, or as a copy."""
    seen: dict[object, RunFolder] = {}
    for run in runs:
        for key in (run.folder.resolve(), _digest_of_model(run)):
            other = seen.setdefault(key, run)
            if key is not None and other is not run:
                raise RunError(
                    "A run occurs twice in the ensemble.",
                    case=run.folder,
                    found=f"the same model as in {other.folder}",
                    expected="different runs",
                    remedy="Name each run once.",
                )


def _digest_of_model(run: RunFolder) -> str | None:
    finished = run.finished_stages()
    return (run.ledger.entry(finished[-1]) or {}).get("sha256") if finished else None


def _common(origins: Sequence[Provenance]) -> Provenance:
    """What origins have in common. Scores are of one member, and none of the ensemble's."""
    names = (
        "model",
        "stage",
        "split",
        "seed",
        "precision",
        "select_on",
        "select_by",
        "dataset_fingerprint",
        "versions",
    )
    values = {name: [getattr(origin, name) for origin in origins] for name in names}
    common = {name: found[0] for name, found in values.items() if found.count(found[0]) == len(found)}
    if "test" in values["select_on"]:
        common["select_on"] = "test"
    field_of_view = tuple(score for origin in origins for score in origin.field_of_view)
    started = [start for origin in origins for start in origin.start_from]
    different = tuple(start for index, start in enumerate(started) if start not in started[:index])
    return Provenance(**common, field_of_view=field_of_view, start_from=different)
