"""The scores of one run in words: a summary for the terminal, and the rows and remarks that the report shows."""

import pandas as pd

from ggn_tf.evaluation.statistics.estimate import format_estimate
from ggn_tf.evaluation.statistics.predictions_table import EXTERNAL, table_classes
from ggn_tf.evaluation.statistics.predictions_table import SETS as TABLE_SETS
from ggn_tf.evaluation.statistics.run_scores import Evaluation, Scores, SetScores, TrainedRun

NAMES = {"accuracy": "accuracy", "average_f1": "average F1", "mcc": "MCC", "auc": "AUC", "dice": "Dice"}
SETS = ("test", EXTERNAL, "validation")
SITES_TITLE = "test set against the external set; in brackets the percentile interval over both sites' patients"
NOT_GIVEN = "-"
OPTIMISTIC = "WEIGHTS SELECTED ON THE TEST SET, as in the paper: the test scores are optimistic."


def summarise(evaluation: Evaluation) -> str:
    """The scores as plain text: one table per set, one row per stage, one column per score."""
    run = evaluation.run
    blocks = [
        f"{run.model}, task {run.task}, split {run.split}, seed {run.seed}\n{selection(run)}",
        *(_text_block(evaluation, name) for name in SETS if name in evaluation.scores.by_set),
        *(["\n".join([SITES_TITLE, *_aligned(*site_rows(evaluation))])] if evaluation.external_dataset else []),
        "\n".join([intervals(evaluation.scores), *notes(evaluation.scores)]),
    ]
    return "\n\n".join(blocks)


def selection(run: TrainedRun) -> str:
    """How the weights were selected, and what that makes of the scores."""
    if run.select_on == "test":
        return OPTIMISTIC
    return f"Weights selected on the {run.select_on} set; no test case took part."


def set_title(evaluation: Evaluation, set_name: str) -> str:
    """The name of a set, its numbers of nodules and patients, and whether it selected the weights."""
    part = evaluation.scores.by_set[set_name]
    classes = ", ".join(f"{name} {count}" for name, count in part.nodules_by_class.items())
    chosen = ", weights selected on it" if evaluation.run.select_on == set_name else ""
    return f"{set_name}: {part.nodules} nodules of {part.patients} patients ({classes}){chosen}"


def partition_rows(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """What each set holds, the training set too.

    Args:
        frame: A checked predictions table of one run.

    Returns:
        The heading, and a row a set: nodules, patients, nodules of each class.
    """
    classes = table_classes(frame)
    rows = []
    for name in (name for name in TABLE_SETS if bool((frame["set"] == name).any())):
        nodules = frame[frame["set"] == name].drop_duplicates("case")
        counts = [len(nodules), nodules["patient"].nunique(), *((nodules["label"] == label).sum() for label in classes)]
        rows.append([name, *map(str, counts)])
    return ["set", "nodules", "patients", *classes], rows


def score_rows(scores: SetScores) -> tuple[list[str], list[list[str]]]:
    """A set's scores as text.

    Returns:
        The heading, and one row per stage; a score that a stage does not have is `-`.
    """
    by_stage = {stage: part.by_metric() for stage, part in scores.stages.items()}
    shown = [name for name in NAMES if any(name in part for part in by_stage.values())]
    rows = [
        [stage, *(format_estimate(part[name]) if name in part else NOT_GIVEN for name in shown)]
        for stage, part in by_stage.items()
    ]
    return ["stage", *(NAMES[name] for name in shown)], rows


def intervals(scores: Scores) -> str:
    """What the brackets mean."""
    return (
        f"In brackets the {scores.level:.0%} BCa interval over {scores.replicates} bootstrap replicates "
        f"of the patients, seed {scores.seed}."
    )


def notes(scores: Scores) -> list[str]:
    """What is undefined and why, and how many replicates an interval leaves out."""
    lines, left_out = [], dict[tuple[str, int], list[str]]()
    for set_name in (name for name in SETS if name in scores.by_set):
        for stage, part in scores.by_set[set_name].stages.items():
            for name, estimate in part.by_metric().items():
                if estimate.reason:
                    lines.append(f"{NAMES[name]} of stage {stage} on the {set_name} set: {estimate.reason}.")
                elif estimate.left_out:
                    left_out.setdefault((set_name, estimate.left_out), []).append(NAMES[name])
    for (set_name, count), names in left_out.items():
        concerned = " and ".join(dict.fromkeys(names))
        lines.append(f"On the {set_name} set {count} replicates drew one class only and are left out of {concerned}.")
    return lines


def facts(run: TrainedRun) -> list[tuple[str, str]]:
    """What was trained on what: name and text."""
    return [
        ("Task", run.task),
        ("Model", run.model),
        ("Selection of the weights", selection(run)),
        ("Split", str(run.split)),
        ("Seed of the training", str(run.seed)),
        ("Precision", run.precision),
        ("Dataset", run.dataset),
        ("Dataset fingerprint", run.dataset_fingerprint),
        ("Versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
    ]


def site_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """The scores of both sites side by side, of a run that was scored on another dataset.

    Returns:
        The heading, and one row per stage and score.
    """
    rows = [
        [
            site.stage,
            NAMES[site.metric],
            f"{site.test:.3f}",
            f"{site.external:.3f}",
            format_estimate(site.estimate, signed=True),
        ]
        for site in evaluation.sites
    ]
    return ["stage", "score", "test", "external", "external - test"], rows


def _text_block(evaluation: Evaluation, set_name: str) -> str:
    rows = score_rows(evaluation.scores.by_set[set_name])
    return "\n".join([set_title(evaluation, set_name), *_aligned(*rows)])


def _aligned(heading: list[str], rows: list[list[str]]) -> list[str]:
    table = [heading, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(heading))]
    return ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]


def training_rows(run: TrainedRun) -> tuple[list[str], list[list[str]]]:
    """How every stage was trained: the heading, and one row per stage."""
    rows = [
        [str(value) for value in (stage.stage, stage.epochs, stage.best_epoch, stage.ended)] for stage in run.stages
    ]
    return ["stage", "epochs", "best epoch", "ended by"], rows
