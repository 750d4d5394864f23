"""The scores of one run in words: a summary for the terminal, and the rows and remarks that the report shows."""

from typing import Any

import pandas as pd

from ggn_tf.evaluation.statistics.predictions_table import EXTERNAL, table_classes
from ggn_tf.evaluation.statistics.predictions_table import SETS as TABLE_SETS
from ggn_tf.evaluation.statistics.scores import stage_scores

NAMES = {"accuracy": "accuracy", "average_f1": "average F1", "mcc": "MCC", "auc": "AUC", "dice": "Dice"}
SETS = ("test", EXTERNAL, "validation")
SITES_TITLE = "test set against the external set; in brackets the percentile interval over both sites' patients"
NOT_GIVEN, UNDEFINED = "-", "undefined"
OPTIMISTIC = "WEIGHTS SELECTED ON THE TEST SET, as in the paper: the test scores are optimistic."


def summarise(document: dict[str, Any]) -> str:
    """The scores as plain text: a table a set, a row a stage, a column a score.

    Args:
        document: What `scores.json` holds.
    """
    run = document["run"]
    blocks = [
        f"{run['model']}, task {run['task']}, split {run['split']}, seed {run['seed']}\n{selection(run)}",
        *(_text_block(document, name) for name in SETS if name in document),
        *(["\n".join([SITES_TITLE, *_aligned(*site_rows(document))])] if "sites" in document else []),
        "\n".join([intervals(document), *notes(document)]),
    ]
    return "\n\n".join(blocks)


def selection(run: dict[str, Any]) -> str:
    """How the weights were selected, and what that makes of the scores."""
    if run["select_on"] == "test":
        return OPTIMISTIC
    return f"Weights selected on the {run['select_on']} set; no test case took part."


def set_title(document: dict[str, Any], set_name: str) -> str:
    """The name of a set, how many nodules and patients it holds, and whether it selected the weights."""
    counts = document["counts"][set_name]
    classes = ", ".join(f"{name} {count}" for name, count in counts["classes"].items())
    chosen = ", weights selected on it" if document["run"]["select_on"] == set_name else ""
    return f"{set_name}: {counts['nodules']} nodules of {counts['patients']} patients ({classes}){chosen}"


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


def score_rows(document: dict[str, Any], set_name: str) -> tuple[list[str], list[list[str]]]:
    """A set's scores as text.

    Returns:
        The heading, and a row a stage; a score that a stage has no part in is `-`.
    """
    by_stage = stage_scores(document, set_name, tuple(entry["stage"] for entry in document["run"]["stages"]))
    shown = [name for name in NAMES if any(name in scores for scores in by_stage.values())]
    rows = [[stage, *(_cell(scores.get(name)) for name in shown)] for stage, scores in by_stage.items()]
    return ["stage", *(NAMES[name] for name in shown)], rows


def intervals(document: dict[str, Any]) -> str:
    """What the brackets mean."""
    bootstrap = document["bootstrap"]
    return (
        f"In brackets the {bootstrap['level']:.0%} BCa interval over {bootstrap['replicates']} bootstrap replicates "
        f"of the patients, seed {bootstrap['seed']}."
    )


def notes(document: dict[str, Any]) -> list[str]:
    """What is undefined and why, and how many replicates an interval leaves out."""
    stages = tuple(entry["stage"] for entry in document["run"]["stages"])
    lines, left_out = [], dict[tuple[str, int], list[str]]()
    for set_name in (name for name in SETS if name in document):
        for stage, scores in stage_scores(document, set_name, stages).items():
            for name, entry in scores.items():
                if "reason" in entry:
                    lines.append(f"{NAMES[name]} of stage {stage} on the {set_name} set: {entry['reason']}.")
                elif "left_out" in entry:
                    left_out.setdefault((set_name, entry["left_out"]), []).append(NAMES[name])
    for (set_name, count), names in left_out.items():
        concerned = " and ".join(dict.fromkeys(names))
        lines.append(f"On the {set_name} set {count} replicates drew one class only and are left out of {concerned}.")
    return lines


def facts(run: dict[str, Any]) -> list[tuple[str, str]]:
    """What was trained on what: name and text."""
    return [
        ("Task", run["task"]),
        ("Model", run["model"]),
        ("Selection of the weights", selection(run)),
        ("Split", str(run["split"])),
        ("Seed of the training", str(run["seed"])),
        ("Precision", run["precision"]),
        ("Dataset", run["dataset"]),
        ("Dataset fingerprint", run["dataset_fingerprint"]),
        ("Versions", ", ".join(f"{name} {version}" for name, version in run["versions"].items())),
    ]


def _cell(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return NOT_GIVEN
    if entry["value"] is None:
        return UNDEFINED
    value = f"{entry['value']:.3f}"
    return value if entry["low"] is None else f"{value} [{entry['low']:.3f}, {entry['high']:.3f}]"


def site_rows(document: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The scores of both sites side by side, of a run that was scored on another dataset.

    Returns:
        The heading, and a row a stage and score.
    """
    rows = [
        [
            site["stage"],
            NAMES[site["metric"]],
            f"{site['test']:.3f}",
            f"{site['external']:.3f}",
            f"{site['difference']:+.3f} [{site['low']:+.3f}, {site['high']:+.3f}]",
        ]
        for site in document["sites"]
    ]
    return ["stage", "score", "test", "external", "external - test"], rows


def _text_block(document: dict[str, Any], set_name: str) -> str:
    return "\n".join([set_title(document, set_name), *_aligned(*score_rows(document, set_name))])


def _aligned(heading: list[str], rows: list[list[str]]) -> list[str]:
    table = [heading, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(heading))]
    return ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]


def training_rows(run: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """How every stage was trained: the heading, and a row a stage."""
    rows = [
        [str(entry.get(key, NOT_GIVEN)) for key in ("stage", "epochs", "best_epoch", "ended")]
        for entry in run["stages"]
    ]
    return ["stage", "epochs", "best epoch", "ended by"], rows
