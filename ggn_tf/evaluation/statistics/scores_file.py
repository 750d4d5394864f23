"""`scores.json`: the only module that knows its format.

The level of the stages is absent where a run has one stage.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ggn_tf.errors import RecordError, RunError
from ggn_tf.evaluation.statistics.estimate import Estimate
from ggn_tf.evaluation.statistics.run_scores import (
    Evaluation,
    Scores,
    SetScores,
    SiteDifference,
    StageScores,
    TrainedRun,
)
from ggn_tf.json_records import from_json

SCORES_FILE = "scores.json"


def write_scores_file(evaluation: Evaluation, path: Path) -> None:
    """Write an evaluation as `scores.json`."""
    text = json.dumps(evaluation_document(evaluation), indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_scores_file(path: Path) -> Evaluation:
    """Read a `scores.json`.

    Raises:
        RunError: The file cannot be read, or is not a `scores.json`.
    """
    try:
        return _evaluation(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecordError) as error:
        raise RunError(
            "The run's scores cannot be read.",
            case=path,
            found=f"{type(error).__name__}: {error}",
            expected="the scores.json of an evaluation",
            remedy="Evaluate the run again, or delete the file.",
        ) from error


def evaluation_document(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON types, in the order of the file."""
    document = scores_document(evaluation.scores)
    if evaluation.external_dataset is not None:
        document["sites"] = [asdict(site) for site in evaluation.sites]
        document["external_dataset"] = evaluation.external_dataset
    return {**document, "run": asdict(evaluation.run)}


def scores_document(scores: Scores) -> dict[str, Any]:
    """Scores as JSON types."""
    document: dict[str, Any] = {}
    for name, part in scores.by_set.items():
        stages = {stage: stage_document(score) for stage, score in part.stages.items()}
        document[name] = stages if len(stages) > 1 else next(iter(stages.values()))
    document["counts"] = {
        name: {"nodules": part.nodules, "patients": part.patients, "classes": dict(part.nodules_by_class)}
        for name, part in scores.by_set.items()
    }
    document["bootstrap"] = {
        "unit": "patient",
        "interval": "BCa",
        "replicates": scores.replicates,
        "seed": scores.seed,
        "level": scores.level,
    }
    return document


def stage_document(scores: StageScores) -> dict[str, Any]:
    """The scores of one stage as JSON types; `reason` and `left_out` only where there is something to report."""
    return {name: _entry(estimate) for name, estimate in scores.by_metric().items()}


def _entry(estimate: Estimate) -> dict[str, Any]:
    entry = asdict(estimate)
    always = ("value", "low", "high")
    return {name: value for name, value in entry.items() if name in always or value}


def _evaluation(document: Mapping[str, Any]) -> Evaluation:
    run, bootstrap = from_json(TrainedRun, document["run"]), document["bootstrap"]
    sets = {name: _set_scores(document, name, [part.stage for part in run.stages]) for name in document["counts"]}
    sites = tuple(from_json(SiteDifference, site) for site in document.get("sites", ()))
    scores = Scores(sets, bootstrap["replicates"], bootstrap["seed"], bootstrap["level"])
    return Evaluation(scores, run, sites, document.get("external_dataset"))


def _set_scores(document: Mapping[str, Any], name: str, stages: Sequence[str]) -> SetScores:
    counts, part = document["counts"][name], document[name]
    by_stage = part if len(stages) > 1 else {stages[0]: part}
    scores = {
        stage: StageScores(**{metric: from_json(Estimate, entry) for metric, entry in entries.items()})
        for stage, entries in by_stage.items()
    }
    return SetScores(counts["nodules"], counts["patients"], counts["classes"], scores)
