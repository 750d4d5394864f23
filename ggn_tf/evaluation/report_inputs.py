"""Inputs of a run's report beyond its predictions table, from its models and its dataset."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.records import Dataset
from ggn_tf.evaluation.gallery_slides import CASES, Slides, choose_cases, collect_slides
from ggn_tf.evaluation.reference_masks import predict_with_reference
from ggn_tf.runs.run_folder import RunFolder


@dataclass(frozen=True)
class ReportInputs:
    """What is not given is left out of the report.

    Attributes:
        nodules: Records of the dataset's nodules, by case id.
        external: Records of another site's nodules.
        reference: Predictions with the reference masks, from `predict_with_reference`.
        slides: The gallery's nodules, from `collect_slides`.
    """

    nodules: Mapping[str, CaseRecord] | None = None
    external: Mapping[str, CaseRecord] | None = None
    reference: pd.DataFrame | None = None
    slides: Sequence[Slides] = ()


def collect_report_inputs(
    run: RunFolder,
    dataset: Dataset,
    frame: pd.DataFrame,
    gallery: int = CASES,
    announce: Callable[[str], None] = lambda line: None,
) -> ReportInputs:
    """Compute the inputs of a run's report with its models.

    Args:
        run: The run.
        dataset: Its dataset.
        frame: Its predictions.
        gallery: Largest number of nodules in the gallery.
        announce: Called with a line of text before every step.

    Raises:
        RunError: A model cannot be read.
        DatasetError: A patch is damaged.
    """
    rows = frame[frame["set"] == "test"]
    if rows.empty:
        return ReportInputs(dataset.case_by_id)
    announce(f"predicting: reference masks, test set, {rows['case'].nunique()} nodules")
    reference = predict_with_reference(run, dataset, rows)
    chosen = choose_cases(rows, gallery)
    announce(f"gallery: {len(chosen)} nodules")
    return ReportInputs(
        nodules=dataset.case_by_id, reference=reference, slides=collect_slides(run, dataset, rows, chosen)
    )
