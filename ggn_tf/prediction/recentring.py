"""Predictions around points: each centre moves to the centroid of the nodule that is found there, until it stays."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ggn_tf.cases.geometry.grid import Grid, Vector, vector
from ggn_tf.cases.patches import Patch
from ggn_tf.cases.recentring import MOST_MOVES, mask_centroid_offset_mm, stays
from ggn_tf.cases.volumes import Volume
from ggn_tf.prediction.ct_patches import NodulePatch, move_patches
from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving.contract.messages import Prediction

Predict = Callable[[np.ndarray], Prediction]
_BY_ROW = ("probabilities", "mask", "spread", "in_set", "typicality")


def predict_patches(patches: Sequence[NodulePatch], predict: Predict) -> Prediction:
    """Predict all patches by one version of the model."""
    return predict(np.stack([nodule.patch.hu for nodule in patches])[..., None])


def predict_recentered(
    volume: Volume, patches: Sequence[NodulePatch], predict: Predict, protocol: PatchProtocol
) -> tuple[list[NodulePatch], Prediction]:
    """Predict patches, and move the centres of those around points, at most three times.

    A centre stays where the model finds no nodule, where its centroid is within half a voxel, or outside the CT. The
    centre of a mask is the mask's.

    Args:
        volume: The CT.
        patches: Patches that were cut from it, at least one.
        predict: As in `predict_nodules`.
        protocol: The patch that the model takes.

    Returns:
        The patches around the last centres, and the prediction of these.

    Raises:
        VolumeError: The CT cannot be read any more.
    """
    moved, prediction = list(patches), predict_patches(patches, predict)
    versions = {prediction.model_version}
    moving = [number for number, nodule in enumerate(patches) if nodule.patch.mask is None]
    for _ in range(MOST_MOVES):
        centers = {number: _next_center(moved[number].patch, prediction.mask[number]) for number in moving}
        goals = {number: center for number, center in centers.items() if center is not None}
        if not goals:
            break
        moving = list(goals)
        fresh = move_patches(volume, [moved[number] for number in moving], list(goals.values()), protocol)
        for number, nodule in zip(moving, fresh, strict=True):
            moved[number] = nodule
        again = predict_patches(fresh, predict)
        versions.add(again.model_version)
        prediction = _with_rows(prediction, moving, again)
    # A server may have changed the version in between.
    return moved, prediction if len(versions) == 1 else predict_patches(moved, predict)


def _next_center(patch: Patch, mask: np.ndarray) -> Vector | None:
    """The centroid of the nodule at a patch's centre; None where the centre stays."""
    offset = mask_centroid_offset_mm(mask, patch.grid.spacing_mm_zyx)
    if offset is None or stays(offset):
        return None
    z, y, x = offset
    along_axes = Grid((1, 1, 1), (1.0, 1.0, 1.0), patch.center_mm_lps, patch.grid.direction)
    center = vector(along_axes.point_of((x, y, z)))
    return center if patch.ct_grid.covers(center) else None


def _with_rows(prediction: Prediction, rows: Sequence[int], again: Prediction) -> Prediction:
    changed: dict[str, Any] = dict.fromkeys(_BY_ROW)
    for name in _BY_ROW:
        before, fresh = getattr(prediction, name), getattr(again, name)
        if before is not None and fresh is not None:
            changed[name] = before.copy()
            changed[name][rows] = fresh
    return replace(prediction, **changed)
