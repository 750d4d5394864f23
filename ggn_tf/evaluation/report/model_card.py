"""The model card of a run or a study: what it is, is for, how it scored, and what it is not for.

What any card says stands here once; an export's card adds what its model takes and gives.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ggn_tf.evaluation.report.markdown import fact_lines, section, table
from ggn_tf.evaluation.report.summary import (
    SETS,
    facts,
    intervals,
    notes,
    partition_rows,
    score_rows,
    set_title,
    training_rows,
)
from ggn_tf.evaluation.statistics.estimate import UNDEFINED, format_value
from ggn_tf.evaluation.statistics.run_scores import Evaluation, StageScores, TrainedRun

METHOD = "Wang et al. 2021, doi:10.1016/j.compmedimag.2020.101814"
TRAINING = ("Task", "Model", "Selection of the weights", "Seed of the training", "Precision", "Versions")

LIMITS = (
    "It does not find nodules: a radiologist has found them, and their centres are given.",
    "It answers for any patch, a vessel or a solid nodule included.",
    "It knows the classes of its task alone; a nodule of another kind gets one of them all the same.",
    "Its probabilities follow the frequencies of the training data and are not calibrated; the report says how far off "
    "they are.",
    "The scores are of nodules like those of the dataset: its scanners, its patients, its readers. Nothing is known of "
    "others until they are tested.",
    "Small groups of nodules are tested by few: see the report's table by size, texture and slice spacing.",
)


def run_card(evaluation: Evaluation, frame: pd.DataFrame) -> str:
    """The card of an evaluated run.

    Args:
        evaluation: Its scores, and what was trained.
        frame: The run's predictions, of which the sets are counted.

    Returns:
        Markdown.
    """
    run = evaluation.run
    lines = [
        *heading(run.task.split(",")),
        "",
        *intended_use(),
        "",
        *section(
            "Data", [*_facts(run, ("Dataset", "Dataset fingerprint", "Split")), "", *table(*partition_rows(frame))]
        ),
        *section("Training", [*_facts(run, TRAINING), "", *table(*training_rows(run))]),
        *section("Scores", _scores(evaluation)),
        *section("Limits", [f"- {limit}" for limit in LIMITS]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def study_card(description: Mapping[str, Any], tables: str) -> str:
    """The card of a study: not of one model, but of what was compared.

    Args:
        description: As `study.json` holds it.
        tables: Its tables as Markdown, with headings of the second level.

    Returns:
        Markdown.
    """
    data = [("dataset", description["dataset"]), ("dataset fingerprint", description["dataset_fingerprint"])]
    asked = [
        ("tasks", "; ".join(description["tasks"])),
        ("models", ", ".join(description["models"])),
        ("splits", ", ".join(map(str, description["splits"]))),
        ("repeats", description["repeats"]),
        ("weights selected on", description["select_on"]),
        ("precision", description["precision"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in description["versions"].items())),
    ]
    lines = [
        "# Study of classifiers of pulmonary ground-glass nodules",
        "",
        f"Method: {METHOD}.",
        "",
        *intended_use(),
        "",
        *section("Data", fact_lines(data)),
        *section("What was compared", [*fact_lines(asked), *(["", *caution(description["select_on"])])]),
        *section("Limits", [f"- {limit}" for limit in LIMITS]),
        tables.strip(),
    ]
    return "\n".join(lines).rstrip() + "\n"


def heading(class_names: Sequence[str]) -> list[str]:
    """Title and method."""
    return [f"# Classifier of pulmonary ground-glass nodules: {', '.join(class_names)}", "", f"Method: {METHOD}."]


def intended_use() -> list[str]:
    """What it is for, and what not."""
    return [
        "## Intended use",
        "",
        "Research on ground-glass nodules that a radiologist has already found on non-contrast chest CT.",
        "",
        "**Not a medical device.** Not for diagnosis, not for a decision on a patient.",
    ]


def score_lines(scores: StageScores) -> list[str]:
    """One line per score, with its interval."""
    return [
        f"{name}: {format_value(score)} ({_end(score.low)} to {_end(score.high)})"
        for name, score in scores.by_metric().items()
    ]


def caution(select_on: str | None) -> list[str]:
    """What selection on the test set makes of its scores; nothing where it did not take part."""
    if select_on != "test":
        return []
    return ["The weights were selected on the test set, as in the paper: these scores are optimistic."]


def _facts(run: TrainedRun, names: Sequence[str]) -> list[str]:
    known = dict(facts(run))
    return fact_lines([(name.lower(), known.get(name) or None) for name in names])


def _scores(evaluation: Evaluation) -> list[str]:
    lines, scores = [], evaluation.scores
    for name in (name for name in SETS if name in scores.by_set):
        lines += [f"{set_title(evaluation, name)}:", "", *table(*score_rows(scores.by_set[name])), ""]
    alarm = [f"**{line}**" for line in caution(evaluation.run.select_on)]
    return [*lines, " ".join([*alarm, intervals(scores), *notes(scores)])]


def _end(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.3f}"
