"""The gallery (paper Fig. 6): slices of the chosen nodules with masks, Grad-CAM and scores, and a slider."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import binary_erosion

from ggn_tf.evaluation.report.page import Cell, Number, Prose, Section, Table
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.report_inputs import Slides
from ggn_tf.evaluation.statistics.predictions_table import probabilities, table_classes
from ggn_tf.evaluation.statistics.scores import class_indices, gives_dice, gives_probabilities

COLUMNS = 8
# A tile of a gray or heat sheet repeats its edge, so that a browser that enlarges it smoothly does not blend in the
# neighbouring slice.
MARGIN = 1
# Pixels per voxel of an outline: sharp where the CT beneath is smooth.
ENLARGED = 6
LEVELS = 16


def gray_sheet(volume: np.ndarray) -> bytes:
    """A sheet of a volume, uint8 [D, H, W], in shades of gray, as PNG."""
    return _png(Image.fromarray(_tiled(_framed(volume)), mode="L"))


def outline_sheet(mask: np.ndarray, colour: str) -> bytes:
    """A sheet of the outline of a mask, bool [D, H, W], in the colour `#rrggbb`, transparent elsewhere, as PNG."""
    fine = mask.repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)
    line = fine & ~binary_erosion(fine, np.ones((1, 5, 5)))
    picture = Image.fromarray(_tiled(line.astype(np.uint8)), mode="P")
    picture.putpalette([0, 0, 0, *bytes.fromhex(colour.removeprefix("#"))])
    return _png(picture, transparency=b"\x00\xff", bits=1)


def heat_sheet(heat: np.ndarray, colours: np.ndarray) -> bytes:
    """A sheet of a map [D, H, W] in [0, 1], as PNG; colours are red, green, blue, opacity, uint8 [LEVELS, 4]."""
    level = np.minimum((heat * LEVELS).astype(np.uint8), LEVELS - 1)
    picture = Image.fromarray(_tiled(_framed(level)), mode="P")
    picture.putpalette(colours[:, :3].tobytes())
    return _png(picture, transparency=colours[:, 3].tobytes(), bits=4)


def _framed(volume: np.ndarray) -> np.ndarray:
    return np.pad(volume, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)), mode="edge")


def _tiled(tiles: np.ndarray) -> np.ndarray:
    """Slices [D, H, W] as one picture with `COLUMNS` slices per row."""
    depth, height, width = tiles.shape
    rows = -(-depth // COLUMNS)
    whole = np.zeros((rows * COLUMNS, height, width), tiles.dtype)
    whole[:depth] = tiles
    return whole.reshape(rows, COLUMNS, height, width).swapaxes(1, 2).reshape(rows * height, COLUMNS * width)


def _png(picture: Image.Image, **options: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True, **options)
    return content.getvalue()


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
    """Show the chosen nodules; None if there are none."""
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
