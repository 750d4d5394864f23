"""The gallery (paper Fig. 6): slices of the chosen nodules with masks, Grad-CAM and scores, and a slider."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import matplotlib as mpl
import numpy as np
import pandas as pd

from ggn_tf.evaluation.gallery_slides import Slides
from ggn_tf.evaluation.report.blocks import Prose, Section
from ggn_tf.evaluation.report.cells import Cell, Number, Table
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.report.sprites import COLUMNS, LEVELS, MARGIN, gray_sheet, heat_sheet, outline_sheet
from ggn_tf.evaluation.statistics.predictions_table import probabilities, table_classes
from ggn_tf.evaluation.statistics.scores import class_indices, gives_dice, gives_probabilities

# The paper's green, red and blue, in shades that colour-blind readers can distinguish on gray.
REFERENCE, BEFORE, AFTER = "#2BD99F", "#FF7A33", "#5CC8FF"
# Even where it is densest, the heat map leaves half of the CT visible.
_OPACITY = 150


@dataclass(frozen=True)
class Outline:
    """A kind of mask, whose outlines a switch shows and hides; `kind` is its CSS class."""

    kind: str
    title: str
    colour: str


@dataclass(frozen=True)
class Sheet:
    """A sprite sheet behind a window as large as one slice; `kind` is its CSS class, `margin` is in pixels."""

    kind: str
    alt: str
    png: bytes
    margin: int = MARGIN
    columns: ClassVar[int] = COLUMNS

    @property
    def edge(self) -> float:
        """Width of the margin as a part of the window's width."""
        # Bytes 16 to 19 of a PNG are its width.
        pixels = int.from_bytes(self.png[16:20], "big") // COLUMNS - 2 * self.margin
        return self.margin / pixels

    @property
    def tile(self) -> float:
        """Width of a slice with its margin as a part of the window's width."""
        return 1 + 2 * self.edge


@dataclass(frozen=True)
class Panel:
    """Sheets on top of each other, with a caption; `kind` is the stem of its CSS class."""

    kind: str
    caption: str
    sheets: Sequence[Sheet]


@dataclass(frozen=True)
class NoduleCard:
    """One nodule: its place in the page, its label and why it was chosen, its `depth` slices from `start` on."""

    anchor: str
    case_id: str
    about: str
    panels: Sequence[Panel]
    start: int
    depth: int
    scores: Table


@dataclass(frozen=True)
class Gallery:
    """Nodules, each with a slider through its slices, and switches for all outlines."""

    template: ClassVar[str] = "gallery.html"

    outlines: Sequence[Outline]
    cards: Sequence[NoduleCard]


def gallery_section(slides: Sequence[Slides], data: ReportData) -> Section | None:
    """Show the chosen nodules; None if there are none.

    Args:
        slides: From `collect_slides`.
        data: The predictions of their run.
    """
    if not slides:
        return None
    how = (
        f"{len(slides)} of {data.rows['case'].nunique()} nodules, chosen by rule, in turns: the largest rise and "
        "the largest fall of the true class's probability by joint training, the most confident wrong prediction, the "
        "lowest Dice (without joint training: the most confident correct prediction, the most confident wrong one, the "
        f"lowest Dice). {data.caption}"
    )
    what = (
        "The slices are of patients' CTs: handle this page as you would handle the CTs. "
        "They are axial slices of the patch that the networks see, in the method's window of Hounsfield units."
    )
    if slides[0].heat is not None:
        what += (
            " Right: Grad-CAM, brighter where the classifier's last feature maps support its prediction. Its "
            "resolution is that of these maps. It shows what the network uses, not why the nodule has its label."
        )
    predicted = _predicted_outlines(list(slides[0].masks))
    cards = [_card(nodule, predicted, data) for nodule in slides]
    gallery = Gallery([Outline("reference", "reference mask", REFERENCE), *predicted], cards)
    return Section(f"{data.prefix}gallery", "Gallery", [Prose(how), Prose(what), gallery])


def _predicted_outlines(stages: list[str]) -> list[Outline]:
    """One predicted mask, or one before and one after joint training."""
    if len(stages) == 2:
        return [
            Outline("before", f"before joint training ({stages[0]})", BEFORE),
            Outline("after", f"after joint training ({stages[1]})", AFTER),
        ]
    return [Outline("after", f"predicted mask ({stage})", AFTER) for stage in stages]


def _card(slides: Slides, predicted: Sequence[Outline], data: ReportData) -> NoduleCard:
    rows = data.rows[data.rows["case"] == slides.case_id]
    label = str(rows["label"].iloc[0])
    gray = Sheet("ct", f"CT of nodule {slides.case_id}", gray_sheet(slides.gray))
    masks = zip(predicted, slides.masks.values(), strict=True)
    outlines = [
        Sheet("reference", "reference mask", outline_sheet(slides.reference, REFERENCE), margin=0),
        *(Sheet(each.kind, each.title, outline_sheet(mask, each.colour), margin=0) for each, mask in masks),
    ]
    panels = [Panel("masks", "CT and masks", [gray, *outlines])]
    if slides.heat is not None:
        panels.append(
            Panel("heat", "Grad-CAM", [gray, Sheet("heat", "Grad-CAM", heat_sheet(slides.heat, _heat_colours()))])
        )
    return NoduleCard(
        anchor=f"{data.prefix}case-{slides.case_id}",
        case_id=slides.case_id,
        about=f"{label}; {slides.reason}",
        panels=panels,
        start=int(slides.reference.sum(axis=(1, 2)).argmax()),
        depth=len(slides.gray),
        scores=_scores(rows, label),
    )


def _scores(rows: pd.DataFrame, label: str) -> Table:
    """One row per stage."""
    classes = table_classes(rows)
    table: list[list[Cell]] = []
    for stage, part in rows.groupby("stage", sort=False):
        dice = Number(part["dice"].iloc[0]) if gives_dice(part) else None
        probability, prediction = None, None
        if gives_probabilities(part):
            (truth,), (predicted,) = class_indices(part)
            probability = Number(probabilities(part)[0, truth])
            prediction = f"{classes[predicted]}, {'correct' if truth == predicted else 'wrong'}"
        table.append([str(stage), dice, probability, prediction])
    return Table(["stage", "Dice", f"p({label})", "prediction"], table)


@cache
def _heat_colours() -> np.ndarray:
    """Red, green, blue and opacity of every level, uint8 [LEVELS, 4]."""
    levels = np.linspace(0, 1, LEVELS)
    colours = (mpl.colormaps["inferno"](levels) * 255).astype(np.uint8)
    colours[:, 3] = np.rint(levels * _OPACITY).astype(np.uint8)
    return colours
