"""Predictions without a model: balls in lung, with numbers that a page must show."""

import dataclasses
from datetime import date
from pathlib import Path

import numpy as np

from ggn_tf.cases.measurements import measure
from ggn_tf.cases.volumes import Volume
from ggn_tf.prediction.answer_page import write_answer
from ggn_tf.prediction.nodules import CtPrediction, NodulePrediction
from ggn_tf.prediction.patch_warnings import PredictionWarning
from ggn_tf.serving.contract.warning_texts import NO_NODULE
from tests.support.chest import CENTER, distance_mm, lung_grid, lung_with_balls

GRID = lung_grid()
BLOCK = lung_with_balls(GRID)
MASK = GRID.image_of((distance_mm(GRID, CENTER) <= 6).astype(np.uint8))
WRITTEN = date(2026, 11, 30)


def drawn_nodule(name: str = "F-1", **changes: object) -> NodulePrediction:
    nodule = NodulePrediction(
        name=name,
        probabilities={"AAH+AIS": 0.2718, "MIA+IAC": 0.7282},
        center_mm_lps=CENTER,
        center_index_xyz=(31.5, 29.5, 35.5),
        given_center_mm_lps=CENTER,
        moves=0,
        mask=MASK,
        measurements=measure(BLOCK, MASK),
        block=BLOCK,
        warnings=(),
    )
    return dataclasses.replace(nodule, **changes)


def nodule_not_found(name: str = "F-2") -> NodulePrediction:
    return drawn_nodule(name, mask=None, measurements=None, warnings=(PredictionWarning.of(NO_NODULE),))


def drawn_prediction(*nodules: NodulePrediction, **changes: object) -> CtPrediction:
    labels = GRID.image_of(np.zeros(GRID.size_xyz[::-1], np.uint8))
    volume = Volume(Path("/hospital/MEIER^ANNA/ct.nii.gz"), GRID)
    prediction = CtPrediction(nodules, labels, 7, volume, {"export": "models/ggn"}, model_sha256="0f1e2d3c" * 8)
    return dataclasses.replace(prediction, model_card="# The card\n\n**Not a medical device.**", **changes)


def write_page_of(prediction: CtPrediction, folder: Path, **further: object) -> Path:
    """The page alone; `further` are outputs of a nodule that the result has beside those of `to_dict`."""
    result = prediction.to_dict()
    for entry in result["nodules"]:
        entry.update(further)
    write_answer(prediction, result, WRITTEN, folder / "answer.html")
    return folder / "answer.html"
