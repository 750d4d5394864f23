"""What a run's report shows beyond its predictions table: what only the models and the dataset know."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from ggn_tf.dataset.records import Dataset
from ggn_tf.evaluation.gallery import CASES, Slides, choose_cases, collect_slides
from ggn_tf.evaluation.reference_masks import predict_with_reference
from ggn_tf.training.run_folder import RunFolder


@dataclass(frozen=True)
class Extras:
    """Each is left out of the report where it is not given.

    Attributes:
        nodules: From `nodule_table`.
        reference: Predictions with the reference masks, from `predict_with_reference`.
        slides: The gallery's nodules, from `collect_slides`.
    """

    nodules: pd.DataFrame | None = None
    reference: pd.DataFrame | None = None
    slides: Sequence[Slides] = ()


def collect_extras(
    run: RunFolder,
    dataset: Dataset,
    frame: pd.DataFrame,
    gallery: int = CASES,
    announce: Callable[[str], None] = lambda line: None,
) -> Extras:
    """Ask a run's models and dataset.

    Args:
        run: The run.
        dataset: Its dataset.
        frame: Its predictions.
        gallery: How many nodules the gallery shows, at most.
        announce: Told of every step.

    Raises:
        RunError: A model cannot be read.
        DatasetError: A patch is damaged.
    """
    rows = frame[frame["set"] == "test"]
    nodules = nodule_table(dataset, list(frame["case"].unique()))
    if rows.empty:
        return Extras(nodules)
    announce(f"predicting: reference masks, test set, {rows['case'].nunique()} nodules")
    reference = predict_with_reference(run, dataset, rows)
    chosen = choose_cases(rows, gallery)
    announce(f"gallery: {len(chosen)} nodules")
    return Extras(nodules, reference, collect_slides(run, dataset, rows, chosen))


def nodule_table(dataset: Dataset, case_ids: Sequence[str]) -> pd.DataFrame:
    """What a dataset knows about nodules.

    Args:
        dataset: The dataset.
        case_ids: Which.

    Returns:
        A row a case, indexed by its id: `diameter_mm` (of the ball of the mask's volume), `solid_fraction`, `mean_hu`,
        `slice_spacing_mm` of the CT, and the case table's further columns, as text, where they don't clash.

    Raises:
        DatasetError: A case is unknown.
    """
    rows = [
        {
            **case.columns,
            "diameter_mm": case.diameter_mm,
            "solid_fraction": case.solid_fraction,
            "mean_hu": case.mean_hu,
            "slice_spacing_mm": case.spacing_mm_zyx[0],
        }
        for case in dataset.select(case_ids)
    ]
    return pd.DataFrame(rows, index=pd.Index(case_ids, name="case"))
