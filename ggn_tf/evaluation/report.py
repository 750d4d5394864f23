"""What a person reads: a summary for the terminal and a web page in one file, both from `scores.json` alone."""

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from ggn_tf.evaluation.scores import stage_scores

NAMES = {"accuracy": "accuracy", "average_f1": "average F1", "mcc": "MCC", "auc": "AUC", "dice": "Dice"}
SETS = ("test", "validation")
NOT_GIVEN, UNDEFINED = "-", "undefined"
NOT_A_DEVICE = "For research. This is not a medical device: no output may guide the care of a patient."


def summarise(document: dict[str, Any]) -> str:
    """The scores as plain text: a table a set, a row a stage, a column a score.

    Args:
        document: What `scores.json` holds.
    """
    run = document["run"]
    blocks = [
        f"{run['model']}, task {run['task']}, split {run['split']}, seed {run['seed']}\n{selection(run)}",
        *(_text_block(document, name) for name in SETS if name in document),
        "\n".join([intervals(document), *notes(document)]),
    ]
    return "\n\n".join(blocks)


def selection(run: dict[str, Any]) -> str:
    """How the weights were selected, and what that makes of the scores."""
    if run["select_on"] == "test":
        return "WEIGHTS SELECTED ON THE TEST SET, as in the paper: the test scores are optimistic."
    return f"Weights selected on the {run['select_on']} set; no test case took part."


def set_title(document: dict[str, Any], set_name: str) -> str:
    """The name of a set, how many nodules and patients it holds, and whether it selected the weights."""
    counts = document["counts"][set_name]
    classes = ", ".join(f"{name} {count}" for name, count in counts["classes"].items())
    chosen = ", weights selected on it" if document["run"]["select_on"] == set_name else ""
    return f"{set_name}: {counts['nodules']} nodules of {counts['patients']} patients ({classes}){chosen}"


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
        f"In brackets the {bootstrap['level']:.0%} interval over {bootstrap['replicates']} bootstrap replicates "
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


def write_report(document: dict[str, Any], figures: dict[str, Path], path: Path) -> None:
    """Write the report: one HTML file that needs no network and no other file.

    Args:
        document: What `scores.json` holds.
        figures: Captions and SVG files, from `write_figures`.
        path: The file.
    """
    run = document["run"]
    warning = f'<p class="warning">{escape(selection(run))}</p>' if run["select_on"] == "test" else ""
    page = _PAGE.substitute(
        title=escape(f"{run['model']}, {run['task']}, split {run['split']}"),
        warning=warning,
        scores="\n".join(_html_scores(document, name) for name in SETS if name in document),
        notes="\n".join(f"<p>{escape(line)}</p>" for line in (intervals(document), *notes(document))),
        figures="\n".join(_html_figure(caption, svg) for caption, svg in figures.items()),
        facts="\n".join(_html_row([name, text], heading=False) for name, text in facts(run)),
        training=_html_table(*_training_rows(run)),
        not_a_device=escape(NOT_A_DEVICE),
    )
    path.write_text(page, encoding="utf-8")


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


def _text_block(document: dict[str, Any], set_name: str) -> str:
    heading, rows = score_rows(document, set_name)
    table = [heading, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(heading))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([set_title(document, set_name), *(f"  {line}" for line in lines)])


def _training_rows(run: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [str(entry.get(key, NOT_GIVEN)) for key in ("stage", "epochs", "best_epoch", "ended")]
        for entry in run["stages"]
    ]
    return ["stage", "epochs", "best epoch", "ended by"], rows


def _html_scores(document: dict[str, Any], set_name: str) -> str:
    return f"<h3>{escape(set_title(document, set_name))}</h3>\n{_html_table(*score_rows(document, set_name))}"


def _html_table(heading: list[str], rows: list[list[str]]) -> str:
    body = "\n".join(_html_row(row, heading=False) for row in rows)
    return f"<table>\n<thead>{_html_row(heading, heading=True)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _html_row(cells: Iterable[str], *, heading: bool) -> str:
    first, *rest = (escape(cell) for cell in cells)
    tag, scope = ("th", "col") if heading else ("td", "row")
    return f'<tr><th scope="{scope}">{first}</th>' + "".join(f"<{tag}>{cell}</{tag}>" for cell in rest) + "</tr>"


def _html_figure(caption: str, svg: Path) -> str:
    """As an image, not as inline SVG: two matplotlib figures in one document share element ids."""
    data = base64.b64encode(svg.read_bytes()).decode("ascii")
    text = escape(caption)
    return f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{data}"><figcaption>{text}</figcaption></figure>'


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ggn-tf: $title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }
thead th { border-bottom: 2px solid #222; }
th[scope=row] { font-weight: 600; white-space: nowrap; vertical-align: top; }
.figures { display: flex; flex-wrap: wrap; gap: 1.5rem; }
figure { margin: 0; flex: 1 1 26rem; max-width: 40rem; }
figure img { width: 100%; height: auto; }
.warning { border-left: 6px solid #D55E00; background: #fdf1e8; padding: .7rem 1rem; font-weight: 600; }
footer { margin-top: 2rem; border-top: 1px solid #ddd; color: #555; }
</style>
</head>
<body>
<h1>$title</h1>
$warning
<h2>Scores</h2>
$scores
$notes
<h2>Figures, test set</h2>
<div class="figures">
$figures
</div>
<h2>What was trained</h2>
<table>
<tbody>
$facts
</tbody>
</table>
$training
<footer><p>$not_a_device</p></footer>
</body>
</html>
""")
