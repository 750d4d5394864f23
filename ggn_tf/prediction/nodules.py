"""Predictions about the nodules of one CT, in the CT's own terms."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Box, Grid, Vector, vector
from ggn_tf.cases.masks import nodule_box
from ggn_tf.cases.measurements import Measurements, measure
from ggn_tf.cases.patches import Patch, paste_mask
from ggn_tf.cases.recentring import MOST_MOVES, mask_centroid_offset_mm, stays
from ggn_tf.cases.volumes import Volume
from ggn_tf.prediction.ct_patches import NodulePatch, block_around, move_patches
from ggn_tf.prediction.patch_warnings import (
    PredictionWarning,
    overlap_warning,
    patch_warnings,
    recentring_warnings,
    series_warnings,
    uncertainty_warnings,
)
from ggn_tf.protocol import MASK_THRESHOLD, SOLID_HU, PatchProtocol
from ggn_tf.serving.contract.messages import Prediction

RESEARCH_ONLY = "for research only; not a medical device"


@dataclass(frozen=True)
class NodulePrediction:
    """The prediction about one nodule.

    Attributes:
        name: The nodule's name.
        probabilities: By class name, in the order of the task.
        spread: The standard deviation of each probability over the model's members (ddof 0); None where the model is of
            a single run.
        prediction_set: The classes that cannot be excluded; None where the model gives no prediction sets, or finds no
            nodule.
        typicality: Share of held-out nodules that are at least as far from those for training; None where the model
            gives none.
        center_mm_lps: The patch's centre.
        center_index_xyz: The same as an index of the CT's voxels, from 0, in the order x, y, z.
        given_center_mm_lps: The centre that was given, from which recentring moved it.
        moves: How often it moved.
        mask: uint8, 0 or 1, on the block of the CT's voxels that contains the nodule; None where the model finds none.
        measurements: Measurements of `mask` on the CT's own voxels; None without a mask.
        block: Hounsfield units around the nodule.
        warnings: Reasons why the prediction may be wrong.
    """

    name: str
    probabilities: dict[str, float]
    center_mm_lps: Vector
    center_index_xyz: Vector
    given_center_mm_lps: Vector
    moves: int
    mask: sitk.Image | None
    measurements: Measurements | None
    block: sitk.Image
    warnings: tuple[PredictionWarning, ...]
    spread: dict[str, float] | None = None
    prediction_set: tuple[str, ...] | None = None
    typicality: float | None = None

    @property
    def decision(self) -> str | None:
        """The most probable class; None where the model finds no nodule."""
        return None if self.mask is None else max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def moved_mm(self) -> float:
        """How far the centre is from the one that was given."""
        return math.dist(self.center_mm_lps, self.given_center_mm_lps)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without voxels."""
        nothing = {**dict.fromkeys(Measurements._fields), "volume_mm3": 0.0}
        return {
            "name": self.name,
            "decision": self.decision,
            "probabilities": self.probabilities,
            "spread": self.spread,
            "prediction_set": None if self.prediction_set is None else list(self.prediction_set),
            "typicality": None if self.typicality is None else round(self.typicality, 4),
            "center_mm_lps": list(self.center_mm_lps),
            "center_index_xyz": [round(index, 2) for index in self.center_index_xyz],
            "given_center_mm_lps": list(self.given_center_mm_lps),
            "moves": self.moves,
            "moved_mm": round(self.moved_mm, 2),
            **(nothing if self.measurements is None else self.measurements._asdict()),
            "warnings": [warning.to_dict() for warning in self.warnings],
        }


@dataclass(frozen=True)
class CtPrediction:
    """The predictions about the nodules of one CT.

    Attributes:
        nodules: In the order of the locations.
        labels: uint8 (uint16 above 255 nodules) of the CT's size: 0, or a nodule's number from 1.
        model_version: The version of the model.
        volume: The CT.
        source: Where the model was: `export`, or `server` and `model_name`.
        warnings: Reasons why all predictions may be wrong.
        model_sha256: The SHA-256 of the export's files; None where a server does not report it.
        model_card: The model card in Markdown; None where a server does not send it.
    """

    nodules: tuple[NodulePrediction, ...]
    labels: sitk.Image = field(repr=False)
    model_version: int
    volume: Volume = field(repr=False)
    source: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[PredictionWarning, ...] = ()
    model_sha256: str | None = None
    model_card: str | None = field(default=None, repr=False)

    def to_dict(self, keep_ids: bool = False) -> dict[str, Any]:
        """As JSON types, without voxels: the content of result.json before any file is written.

        Args:
            keep_ids: Whether to include the path of the CT, which often names the patient.
        """
        return {
            "ct": str(self.volume.path) if keep_ids else None,
            **self.source,
            "model_version": self.model_version,
            "nodules": [{"label": label, **nodule.to_dict()} for label, nodule in enumerate(self.nodules, start=1)],
            "mask": None,
            "segmentation": None,
            "structured_report": None,
            "volumetric_report": None,
            "overlays": [],
            "page": None,
            "warnings": [warning.to_dict() for warning in self.warnings],
            "caution": RESEARCH_ONLY,
        }

    def write(
        self,
        output: str | Path,
        *,
        keep_ids: bool = False,
        shared: bool = False,
        codes: str | Path | None = None,
        volumetric_sr: bool = False,
    ) -> dict[str, Any]:
        """Write result.json, answer.html, the mask in NIfTI, on a DICOM series also a DICOM SEG and SR, and overlays.

        Args:
            output: A folder that does not exist, is empty, or contains an earlier result of the CT, which is replaced.
            keep_ids: Whether to include the path of the CT, which often names the patient.
            shared: Whether the umask decides who may enter a new folder, and not its owner alone.
            codes: Table with the codes of the classes in the DICOM SR (columns class, code, scheme, meaning).
            volumetric_sr: Whether to write a second SR, whose groups refer to the segments of the SEG.

        Returns:
            The content of result.json.

        Raises:
            GgnError: The folder cannot be written, or contains the result of another CT, or the table of codes cannot
                be used.
        """
        from ggn_tf.prediction.class_codes import read_class_codes
        from ggn_tf.prediction.result_folder import write_results

        classes = [name for nodule in self.nodules[:1] for name in nodule.probabilities]
        class_codes = {} if codes is None else read_class_codes(Path(codes), classes)
        return write_results(self, Path(output), keep_ids, shared, class_codes, volumetric_sr)


def predict_nodules(
    volume: Volume,
    patches: Sequence[NodulePatch],
    predict: Callable[[np.ndarray], Prediction],
    source: Mapping[str, str] | None = None,
    *,
    recenter: PatchProtocol | None = None,
    warnings: Sequence[PredictionWarning] = (),
    model_sha256: str | None = None,
    solid_hu: float = SOLID_HU,
) -> CtPrediction:
    """Predict the nodules of one CT.

    Args:
        volume: The CT.
        patches: Patches that were cut from it, at least one.
        predict: `PredictionClient.predict` or `LocalModel.predict`.
        source: Where the model is, for the result.
        recenter: The patch that the model takes: centres that are points move to the centroids of the nodules. None:
            all centres stay.
        warnings: Reasons why all predictions may be wrong.
        model_sha256: As in `CtPrediction`.
        solid_hu: Voxels above it are solid, in the measurements.
    """
    if recenter is None:
        prediction = predict_patches(patches, predict)
    else:
        patches, prediction = predict_recentered(volume, patches, predict, recenter)
    labels = np.zeros(volume.grid.size_xyz[::-1], np.uint8 if len(patches) < 256 else np.uint16)
    nodules: list[NodulePrediction] = []
    shared: list[set[int]] = []
    for row, nodule_patch in enumerate(patches):
        nodules.append(_on_ct(volume, nodule_patch, prediction, row, solid_hu))
        shared.append(_add(labels, volume.grid, nodules[-1].mask, len(nodules)))
        for other in shared[-1]:
            shared[other].add(len(nodules) - 1)
    centers = [(nodule.name, nodule.given_center_mm_lps) for nodule in nodules]
    warned = tuple(
        _with_warnings(nodule, [nodules[other].name for other in sorted(others)], centers)
        for nodule, others in zip(nodules, shared, strict=True)
    )
    image = volume.stored_image(labels)
    version = prediction.model_version
    return CtPrediction(warned, image, version, volume, dict(source or {}), tuple(warnings), model_sha256)


def _on_ct(
    volume: Volume, nodule_patch: NodulePatch, prediction: Prediction, row: int, solid_hu: float
) -> NodulePrediction:
    patch, grid, soft_mask = nodule_patch.patch, volume.grid, prediction.mask[row, ..., 0]
    block = nodule_patch.block or volume.read(block_around(grid, patch.center_mm_lps, patch.grid))
    mask = _trimmed(paste_mask(soft_mask, patch.grid, grid, MASK_THRESHOLD))
    inside_hu = np.empty(0) if mask is None else _part(block, mask)[sitk.GetArrayViewFromImage(mask) > 0]
    # A speck between the CT's voxels is on none of them: no nodule.
    nodule = (soft_mask >= MASK_THRESHOLD) & (mask is not None)
    given_set = prediction.prediction_set(row)
    prediction_set = None if mask is None else given_set
    typicality = None if given_set is None or prediction.typicality is None else float(prediction.typicality[row])
    return NodulePrediction(
        name=nodule_patch.name,
        probabilities=prediction.by_class(prediction.probabilities[row]),
        center_mm_lps=patch.center_mm_lps,
        center_index_xyz=vector(volume.stored_grid.index_of(patch.center_mm_lps)),
        given_center_mm_lps=nodule_patch.given_center_mm_lps,
        moves=nodule_patch.moves,
        mask=mask,
        measurements=None if mask is None else measure(block, mask, solid_hu),
        block=block,
        warnings=(
            *series_warnings(volume),
            *patch_warnings(patch, nodule, inside_hu, perhaps_ras=nodule_patch.perhaps_ras),
            *uncertainty_warnings(prediction_set == prediction.class_names, typicality),
        ),
        spread=None if prediction.spread is None else prediction.by_class(prediction.spread[row]),
        prediction_set=prediction_set,
        typicality=typicality,
    )


def _trimmed(mask: sitk.Image) -> sitk.Image | None:
    if not sitk.GetArrayViewFromImage(mask).any():
        return None
    box = nodule_box(mask)
    return sitk.RegionOfInterest(mask, box.size_xyz, box.start_xyz)


def _part(block: sitk.Image, mask: sitk.Image) -> np.ndarray:
    """The block's values at the mask's voxels."""
    return sitk.GetArrayViewFromImage(block)[slices_of(Grid.from_image(block), mask)]


def slices_of(grid: Grid, mask: sitk.Image) -> tuple[slice, ...]:
    """Where a block is in an array [z, y, x] of the whole grid."""
    x, y, z = np.rint(grid.index_of(mask.GetOrigin())).astype(int).tolist()
    return Box((x, y, z), mask.GetSize()).slices_zyx


def _add(labels: np.ndarray, grid: Grid, mask: sitk.Image | None, label: int) -> set[int]:
    """Write a nodule where no earlier one is.

    Returns:
        The earlier ones that it shares voxels with, counted from 0.
    """
    if mask is None:
        return set()
    part, inside = labels[slices_of(grid, mask)], sitk.GetArrayViewFromImage(mask) > 0
    taken = {int(other) - 1 for other in np.unique(part[inside]) if other > 0}
    part[inside & (part == 0)] = label
    return taken


def _with_warnings(
    nodule: NodulePrediction, overlapping: list[str], given_centers: Sequence[tuple[str, Vector]]
) -> NodulePrediction:
    """The nodule with the warnings that need the whole call."""
    further = [overlap_warning(overlapping)] if overlapping else []
    if nodule.moves:
        nearer = [name for name, center in given_centers if math.dist(center, nodule.center_mm_lps) < nodule.moved_mm]
        outside_mm = _distance_mm(nodule.mask, nodule.given_center_mm_lps)
        further += recentring_warnings(nodule.moved_mm, outside_mm, nearer)
    return dataclasses.replace(nodule, warnings=(*nodule.warnings, *further))


def _distance_mm(mask: sitk.Image | None, point_mm_lps: Vector) -> float:
    """The distance of a point from the nearest voxel of a mask; 0 without a mask."""
    if mask is None:
        return 0.0
    voxels_xyz = np.argwhere(sitk.GetArrayViewFromImage(mask))[:, ::-1]
    return float(np.linalg.norm(Grid.from_image(mask).point_of(voxels_xyz) - point_mm_lps, axis=1).min())


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
