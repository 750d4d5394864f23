"""The gallery (paper Fig. 6): the chosen nodules' slices with masks, evidence and scores, and a slider through them."""

import base64
from collections.abc import Sequence
from functools import cache
from html import escape

import matplotlib as mpl
import numpy as np
import pandas as pd

from ggn_tf.evaluation.gallery_slides import Slides
from ggn_tf.evaluation.report.blocks import Markup, Prose, Section, Table
from ggn_tf.evaluation.report.page import table_html
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.report.sprites import COLUMNS, LEVELS, MARGIN, gray_sheet, heat_sheet, outline_sheet
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.scores import class_indices, gives_dice, gives_probabilities

# The paper's green, red and blue, in shades that colour-blind readers tell apart on gray.
REFERENCE, BEFORE, AFTER = "#2BD99F", "#FF7A33", "#5CC8FF"
# The densest shade leaves half of the CT to be seen.
_OPACITY = 150


def gallery_section(slides: Sequence[Slides], data: ReportData) -> Section | None:
    """Show the chosen nodules; None where there are none.

    Args:
        slides: From `collect_slides`.
        data: Of the run that they are of.
    """
    if not slides:
        return None
    stages = list(slides[0].masks)
    heat = slides[0].heat is not None
    how = (
        f"{len(slides)} of {data.rows['case'].nunique()} nodules, chosen by rule, in turns: the largest rise and "
        "the largest fall of the true class's probability by joint training, the surest wrong answer, the lowest Dice "
        "(without joint training: the surest right answer, the surest wrong one, the lowest Dice). " + data.caption
    )
    what = (
        "The slices are of patients' CTs: pass this page on as you would pass those on. "
        "They are axial slices of the patch that the networks see, in the method's window of Hounsfield units."
    )
    seen = (
        " Right: Grad-CAM, brighter where the classifier's last maps speak for its answer. It is as coarse as these "
        "maps, and shows what the network uses, not why the nodule is what it is."
    )
    cards = "\n".join(_card(each, data) for each in slides)
    html = f'<div class="gallery">\n{_switches(stages)}\n<div class="cases">\n{cards}\n</div>\n</div>'
    return Section(f"{data.prefix}gallery", "Gallery", [Prose(how), Prose(what + seen * heat), Markup(html)])


def _switches(stages: list[str]) -> str:
    kinds = [("reference", "reference mask", REFERENCE), *_layers(stages)]
    boxes = "\n".join(
        f'<label><input type="checkbox" value="{kind}" checked>'
        f'<i style="background:{colour}"></i>{escape(text)}</label>'
        for kind, text, colour in kinds
    )
    return f'<fieldset class="switches" aria-label="Outlines shown">\n{boxes}\n</fieldset>'


def _layers(stages: list[str]) -> list[tuple[str, str, str]]:
    """Kind, name and colour of the predicted masks: one, or one before and one after joint training."""
    if len(stages) == 2:
        return [
            ("before", f"before joint training ({stages[0]})", BEFORE),
            ("after", f"after joint training ({stages[1]})", AFTER),
        ]
    return [("after", f"predicted mask ({stage})", AFTER) for stage in stages]


def _card(slides: Slides, data: ReportData) -> str:
    own = data.rows[data.rows["case"] == slides.case_id]
    label = str(own["label"].iloc[0])
    areas = slides.reference.sum(axis=(1, 2))
    start, depth = int(areas.argmax()), len(slides.gray)
    case = escape(slides.case_id)
    outlines = [_image(outline_sheet(slides.reference, REFERENCE), "reference", "reference mask", start, margin=0)]
    for (kind, text, colour), mask in zip(_layers(list(slides.masks)), slides.masks.values(), strict=True):
        outlines.append(_image(outline_sheet(mask, colour), kind, text, start, margin=0))
    gray = gray_sheet(slides.gray)
    panels = [_panel([_image(gray, "ct", f"CT of nodule {case}", start), *outlines], "CT and masks", "masks")]
    if slides.heat is not None:
        heat = _image(heat_sheet(slides.heat, _heat_colours()), "heat", "Grad-CAM", start)
        panels.append(_panel([_image(gray, "ct", f"CT of nodule {case}", start), heat], "Grad-CAM", "heat"))
    return (
        f'<article class="case" id="{data.prefix}case-{case}">\n<h4>{case}</h4>\n'
        f"<p>{escape(label)}; {escape(slides.reason)}</p>\n"
        f'<div class="panels">{"".join(panels)}</div>\n'
        f'<input type="range" min="0" max="{depth - 1}" value="{start}" aria-label="Slice of nodule {case}">\n'
        f'<div class="where">slice <output>{start + 1}</output> of {depth}</div>\n'
        f"{table_html(_scores(own, label))}\n</article>"
    )


def _panel(images: list[str], caption: str, kind: str) -> str:
    window = f'<div class="slice">{"".join(images)}</div>'
    return f'<figure class="{kind}-panel">{window}<figcaption>{caption}</figcaption></figure>'


def _image(sheet: bytes, kind: str, alt: str, start: int, margin: int = MARGIN) -> str:
    """A sheet behind a window as large as one slice, all places in parts of that window."""
    width = int.from_bytes(sheet[16:20], "big")
    voxels = width // COLUMNS - 2 * margin
    tile, edge = 1 + 2 * margin / voxels, margin / voxels
    left, top = (-(place * tile + edge) * 100 for place in (start % COLUMNS, start // COLUMNS))
    data = base64.b64encode(sheet).decode("ascii")
    place = f"width:{COLUMNS * tile * 100:.6g}%;left:{left:.6g}%;top:{top:.6g}%"
    return (
        f'<img class="{kind}" alt="{escape(alt)}" style="{place}" data-columns="{COLUMNS}" data-tile="{tile:.9g}" '
        f'data-margin="{edge:.9g}" src="data:image/png;base64,{data}">'
    )


def _scores(own: pd.DataFrame, label: str) -> Table:
    rows = []
    for stage, part in own.groupby("stage", sort=False):
        dice = f"{part['dice'].iloc[0]:.3f}" if gives_dice(part) else "-"
        chance, answer = "-", "-"
        if gives_probabilities(part):
            truth, predicted = class_indices(part)
            given = probabilities(part)[0]
            chance = f"{given[truth[0]]:.3f}"
            right = "right" if truth[0] == predicted[0] else "wrong"
            answer = f"{part.columns[part.columns.str.startswith('p_')][predicted[0]].removeprefix('p_')}, {right}"
        rows.append([str(stage), dice, chance, answer])
    return Table(["stage", "Dice", f"p({label})", "answer"], rows)


@cache
def _heat_colours() -> np.ndarray:
    levels = np.linspace(0, 1, LEVELS)
    colours = (mpl.colormaps["inferno"](levels) * 255).astype(np.uint8)
    colours[:, 3] = np.rint(levels * _OPACITY).astype(np.uint8)
    return colours
