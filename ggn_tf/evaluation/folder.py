"""The evaluation folder of a run: predictions, scores, figures and report, which exist together or not at all."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from ggn_tf.evaluation.figures import write_figures
from ggn_tf.evaluation.report import write_report
from ggn_tf.evaluation.table import write_predictions
from ggn_tf.files import whole_folder

PREDICTIONS, SCORES, REPORT, FIGURES = "predictions.csv", "scores.json", "report.html", "figures"


def write_evaluation(frame: pd.DataFrame, document: dict[str, Any], folder: Path) -> None:
    """Write a run's evaluation in place of a former one.

    Args:
        frame: The run's predictions, checked.
        document: The scores of them, from `score_predictions`, and `run`, which says what was trained.
        folder: For example `runs/NAME/evaluation`.
    """
    with replaced_folder(folder) as new:
        write_predictions(frame, new / PREDICTIONS)
        (new / SCORES).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        figures = write_figures(frame, new / FIGURES, document["run"]["select_on"])
        write_report(document, figures, new / REPORT)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Give a new folder; on leaving without an error it takes the place of `path`, else `path` stays as it was.

    Between the two renames that swap them a kill leaves no `path`, but the former one beside it, which the next call
    puts back before it begins.
    """
    new, former = path.with_name(f".{path.name}-new"), path.with_name(f".{path.name}-former")
    if former.exists() and not path.exists():
        former.rename(path)
    for left_over in (new, former):
        shutil.rmtree(left_over, ignore_errors=True)
    with whole_folder(new) as temporary:
        yield temporary
    if path.exists():
        path.rename(former)
    new.rename(path)
    shutil.rmtree(former, ignore_errors=True)
