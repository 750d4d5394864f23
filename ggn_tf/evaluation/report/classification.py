"""Confusion matrices (paper Fig. 4) and ROC curves (paper Fig. 5)."""

from functools import partial

import numpy as np
import pandas as pd

from ggn_tf.evaluation.evidence import Evidence
from ggn_tf.evaluation.figures.confusion import draw_confusion
from ggn_tf.evaluation.figures.roc import draw_roc
from ggn_tf.evaluation.report.blocks import Drawing, Prose, Section
from ggn_tf.evaluation.roc import roc_curve_with_band
from ggn_tf.evaluation.scores import confusion


def confusion_section(evidence: Evidence) -> Section | None:
    """A matrix a system; the mean over its repeats. None where nothing classifies."""
    drawings = [
        Drawing(
            f"{evidence.prefix}confusion-{_file_name(name)}",
            f"Confusion matrix, {name}. Rows are true classes; percentages are of the row. {evidence.caption}",
            partial(
                draw_confusion,
                mean_confusion(rows),
                evidence.classes,
                f"{name}, {evidence.set_name} set{evidence.mark}",
            ),
        )
        for name, rows in evidence.classified.items()
    ]
    averaged = [Prose(f"Counts are means over {evidence.repeats} repeats.")] if evidence.repeats > 1 else []
    return Section(f"{evidence.prefix}confusion", "Confusion matrices", [*averaged, *drawings]) if drawings else None


def roc_section(evidence: Evidence) -> Section | None:
    """The curves of all systems in one figure; None for more than two classes, or where nothing classifies."""
    if len(evidence.classes) != 2 or not evidence.classified:
        return None
    curves = {
        name: roc_curve_with_band(rows, evidence.replicates, evidence.seed)
        for name, rows in evidence.classified.items()
    }
    positive = evidence.classes[1]
    drawing = Drawing(
        f"{evidence.prefix}roc",
        f"ROC curves for {positive}. Shaded: pointwise percentiles; in brackets the AUC's interval; "
        f"{evidence.interval}. {evidence.caption}",
        partial(draw_roc, curves, positive, f"ROC, {evidence.set_name} set{evidence.mark}"),
    )
    return Section(f"{evidence.prefix}roc", "ROC curves", [drawing])


def mean_confusion(rows: pd.DataFrame) -> np.ndarray:
    """The confusion matrix [C, C] of a system, its mean over repeats."""
    return np.mean([confusion(repeat) for _, repeat in rows.groupby("repeat")], axis=0)


def _file_name(system: str) -> str:
    kept = "".join(letter if letter.isalnum() else "-" for letter in system.lower())
    return "-".join(part for part in kept.split("-") if part)
