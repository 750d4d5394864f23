"""The evaluation folder of a run: predictions, scores, model card, figures and report, all together or not at all."""

from pathlib import Path

import pandas as pd

from ggn_tf.evaluation.report.model_card import run_card
from ggn_tf.evaluation.report.page import write_page
from ggn_tf.evaluation.report.run import run_page
from ggn_tf.evaluation.report_inputs import ReportInputs
from ggn_tf.evaluation.statistics.predictions_table import write_predictions
from ggn_tf.evaluation.statistics.run_scores import Evaluation
from ggn_tf.evaluation.statistics.scores_file import SCORES_FILE, write_scores_file
from ggn_tf.files import replaced_folder

PREDICTIONS, SCORES, REPORT, FIGURES = "predictions.csv", SCORES_FILE, "report.html", "figures"
MODEL_CARD = "model_card.md"


def write_evaluation(
    frame: pd.DataFrame, evaluation: Evaluation, folder: Path, inputs: ReportInputs | None = None
) -> None:
    """Write a run's evaluation in place of a former one.

    Args:
        frame: The run's predictions, checked.
        evaluation: Their scores, and what was trained.
        folder: For example `runs/NAME/evaluation`.
        inputs: What the report shows beyond the predictions; None for the predictions alone.
    """
    with replaced_folder(folder) as new:
        write_predictions(frame, new / PREDICTIONS)
        write_scores_file(evaluation, new / SCORES)
        (new / MODEL_CARD).write_text(run_card(evaluation, frame), encoding="utf-8")
        write_page(run_page(frame, evaluation, inputs), new / REPORT, new / FIGURES)
