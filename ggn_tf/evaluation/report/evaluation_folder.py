"""The evaluation folder of a run: predictions, scores, model card, figures and report, all together or not at all."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from ggn_tf.evaluation.report.model_card import run_card
from ggn_tf.evaluation.report.page import write_page
from ggn_tf.evaluation.report.run import run_page
from ggn_tf.evaluation.report_inputs import ReportInputs
from ggn_tf.evaluation.statistics.predictions_table import write_predictions
from ggn_tf.files import replaced_folder

PREDICTIONS, SCORES, REPORT, FIGURES = "predictions.csv", "scores.json", "report.html", "figures"
MODEL_CARD = "model_card.md"


def write_evaluation(
    frame: pd.DataFrame, document: dict[str, Any], folder: Path, inputs: ReportInputs | None = None
) -> None:
    """Write a run's evaluation in place of a former one.

    Args:
        frame: The run's predictions, checked.
        document: The scores of them, from `score_predictions`, and `run`, which says what was trained.
        folder: For example `runs/NAME/evaluation`.
        inputs: What the report shows beyond the predictions; None shows what they alone hold.
    """
    with replaced_folder(folder) as new:
        write_predictions(frame, new / PREDICTIONS)
        (new / SCORES).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (new / MODEL_CARD).write_text(run_card(document, frame), encoding="utf-8")
        write_page(run_page(frame, document, inputs), new / REPORT, new / FIGURES)
