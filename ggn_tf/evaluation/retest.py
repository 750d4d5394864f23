"""The test-retest analysis: the last stage's predictions of the test set again, with perturbed inputs.

Each perturbation is reproducible: it depends on the nodule's id alone.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import tensorflow as tf

from ggn_tf.cases.recentring import MOST_MOVES, mask_centroid_offset_mm
from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.pipeline import normalise_hu
from ggn_tf.dataset.records import Dataset, read_with_margin
from ggn_tf.dataset.splits import Split
from ggn_tf.errors import RunError
from ggn_tf.evaluation.run_predictions import Inference
from ggn_tf.evaluation.statistics.predictions_table import FOLD, identify, nodules_of, probability_columns
from ggn_tf.evaluation.statistics.retest import score_retest, with_perturbation
from ggn_tf.evaluation.statistics.score_records import UNPERTURBED, Perturbation, Retest
from ggn_tf.protocol import PatchProtocol
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import STAGES
from ggn_tf.tasks import Task
from ggn_tf.training.losses import dice_score
from ggn_tf.training.monitor import traced_inference

OFFSETS_MM: Final = (2.0, 4.0, 6.0, 8.0)
NOISE_HU: Final = 20.0
"""About the noise of a standard-dose chest CT. The variance of noise is inversely proportional to the dose, so that it
corresponds to half the dose where the CT itself has as much."""
SLICE_SPACINGS_MM: Final = (1.25, 2.5)
"""The section width of the paper's CTs (section 3.1), and a common one of older CTs."""
AXES: Final = "zyx"
MIRRORS: Final = ("z", "y", "x", "zy", "zx", "yx", "zyx")
"""With the patch as it is, the eight mirrors of three axes."""


def centre_offset(case_id: str, distance_mm: float, spacing_mm_zyx: tuple[float, float, float]) -> np.ndarray:
    """A centre that is off in a random direction, uniform on the sphere, one for each nodule and distance.

    Returns:
        int [3], voxels along z, y, x: the whole voxels nearest to the point, so that nothing is interpolated. Of 1.0,
        0.7, 0.7 mm they are at most 0.7 mm from it.
    """
    direction = _generator(case_id, f"centre {distance_mm:g}").normal(size=3)
    exact_mm = distance_mm * direction / np.linalg.norm(direction)
    return np.rint(exact_mm / np.array(spacing_mm_zyx)).astype(np.int64)


def add_noise(case_id: str, hu: np.ndarray) -> np.ndarray:
    """Add Gaussian noise of `NOISE_HU`, independent in each voxel, to Hounsfield units of any shape."""
    noise = _generator(case_id, "noise").standard_normal(hu.shape, np.float32)
    return hu + np.float32(NOISE_HU) * noise


def mirror(patches: np.ndarray, axes: str) -> np.ndarray:
    """Mirror patches [N, D, H, W, 1] along the named axes."""
    return np.flip(patches, tuple(1 + AXES.index(axis) for axis in axes))


def thicken_slices(hu: np.ndarray, slice_mm: float, step_mm: float) -> np.ndarray:
    """Resample patches [N, D, H, W, 1] to contiguous slices of `slice_mm`, and back to their layers of `step_mm`.

    A slice is the mean over its thickness, as on a scanner. Between the centres of slices the result is interpolated
    linearly; the first and the last slice are continued outwards. The slices are centred on the patch.
    """
    layers = hu.shape[1]
    at_layers, at_slices = _centres(layers, step_mm), _centres(int(layers * step_mm / slice_mm + 1e-6), slice_mm)
    starts, ends = (
        np.clip(at_layers + side * step_mm / 2, *(at_slices[:, np.newaxis] + end * slice_mm / 2 for end in (-1, 1)))
        for side in (-1, 1)
    )
    back = np.array([np.interp(at_layers, at_slices, column) for column in np.eye(len(at_slices))]).T
    there_and_back = (back @ (ends - starts) / slice_mm).astype(np.float32)
    return np.einsum("ij,njyxc->niyxc", there_and_back, hu, optimize=True)


def _centres(count: int, step_mm: float) -> np.ndarray:
    return (np.arange(count) - (count - 1) / 2) * step_mm


def _generator(case_id: str, purpose: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{purpose} of {case_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest))


def nodules_to_retest(run: RunFolder, dataset: Dataset, split: Split) -> list[CaseRecord]:
    """The test set's nodules of the run's task; RunError where there are none."""
    nodules = nodules_of(dataset.select(split.test), run.description.task)
    if not nodules:
        raise RunError(
            "There is no nodule for the test-retest analysis.",
            case=run.folder,
            found="a test set without a nodule of the task",
            expected="at least one",
            remedy="Evaluate without this analysis.",
            arguments=("retest",),
        )
    return nodules


def retest_run(
    run: RunFolder, dataset: Dataset, nodules: Sequence[CaseRecord], announce: Callable[[str], None]
) -> pd.DataFrame:
    """Predict nodules with perturbed inputs by the run's last finished stage; see `retest`."""
    description = run.description
    stage = [stage for stage in STAGES[description.model] if stage.name in run.finished_stages()][-1]
    network = stage.network(run.load_model(stage.name))
    inference = traced_inference(network, (None, *[dataset.protocol.size] * 3, 1))
    announce(f"test-retest: stage {stage.name}, test set, {len(nodules)} nodules")
    batch_size = description.protocol.training.batch_size
    return retest(dataset, nodules, description.task, inference, batch_size, announce).assign(stage=stage.name)


def summarise_retest(retested: pd.DataFrame, dataset: Dataset, seed: int, replicates: int) -> Retest:
    """The scores of `retest_run`'s table, or of those of all folds with the column `fold`."""
    margin_mm = dataset.protocol.margin_mm
    return Retest(
        stage=str(retested["stage"].iloc[0]),
        nodules=int(retested["case"].nunique()),
        patients=int(retested["patient"].nunique()),
        margin_mm=margin_mm,
        left_out_mm=tuple(distance for distance in OFFSETS_MM if distance > margin_mm),
        scores=score_retest(retested, seed, replicates),
        folds=int(retested[FOLD].nunique()) if FOLD in retested else None,
    )


def retest(
    dataset: Dataset,
    nodules: Sequence[CaseRecord],
    task: Task,
    inference: Inference,
    batch_size: int,
    announce: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Predict nodules with every perturbation.

    The reference mask is cut and mirrored as the CT is, so that Dice is measured where the patch is. Centres are off by
    whole voxels of the patch's grid and inside the dataset's margin. With a margin, a network that segments is also
    given the patch around the centroid of its own mask, found in at most `MOST_MOVES` moves.

    Returns:
        The table that `score_retest` reads, ordered by batch.

    Raises:
        DatasetError: A patch is damaged.
    """
    parts = []
    for start in range(0, len(nodules), batch_size):
        chosen = nodules[start : start + batch_size]
        announce(f"test-retest: nodules {start + 1} to {start + len(chosen)} of {len(nodules)}")
        case_ids = [case.case_id for case in chosen]
        stored = _Stored(*read_with_margin(dataset, case_ids), dataset.protocol)
        rows = identify(chosen, task)
        for perturbation, found in _perturbed(case_ids, stored, _Predictor(inference, dataset.protocol, task)):
            columns = probability_columns(found.probability, task.class_names)
            parts.append(with_perturbation(rows, perturbation).assign(**columns, dice=found.dice))
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class _Stored:
    """Hounsfield units and masks of a batch with their margin, [N, D, H, W, 1]."""

    hu: np.ndarray
    mask: np.ndarray
    protocol: PatchProtocol

    def cut(self, offset_zyx: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Patches and masks [N, S, S, S, 1] of some nodules [N] around centres that are off by voxels [N, 3]."""
        starts = offset_zyx + np.array(self.protocol.margin_zyx)
        windows = [tuple(slice(start, start + self.protocol.size) for start in along) for along in starts]
        hu, mask = (
            np.stack([part[row][window] for row, window in zip(rows, windows, strict=True)])
            for part in (self.hu, self.mask)
        )
        return hu, mask


@dataclass(frozen=True)
class _Found:
    """What a network predicts: probabilities [N, C] and Dice [N], NaN without; soft masks, empty without."""

    probability: np.ndarray
    dice: np.ndarray
    mask: np.ndarray

    def replaced(self, rows: np.ndarray, other: "_Found") -> "_Found":
        """With the predictions of some nodules replaced."""
        probability, dice, mask = self.probability.copy(), self.dice.copy(), self.mask.copy()
        probability[rows], dice[rows], mask[rows] = other.probability, other.dice, other.mask
        return _Found(probability, dice, mask)


@dataclass(frozen=True)
class _Predictor:
    inference: Inference
    protocol: PatchProtocol
    task: Task

    def __call__(self, hu: np.ndarray, reference: np.ndarray) -> _Found:
        """Predict patches in Hounsfield units [N, S, S, S, 1]."""
        truth = tf.constant(reference, tf.float32)
        outputs = self.inference(normalise_hu(tf.constant(hu), self.protocol.window_hu), truth)
        missing = np.full((len(hu), len(self.task.classes)), np.nan)
        probability = outputs["probabilities"].numpy().astype(np.float64) if "probabilities" in outputs else missing
        if "mask" not in outputs:
            return _Found(probability, missing[:, 0], np.empty((len(hu), 0)))
        mask = outputs["mask"].numpy()
        return _Found(probability, dice_score(reference, mask), mask)


def _perturbed(case_ids: list[str], stored: _Stored, predict: _Predictor) -> Iterator[tuple[Perturbation, _Found]]:
    protocol = stored.protocol
    for distance in (0.0, *(distance for distance in OFFSETS_MM if distance <= protocol.margin_mm)):
        offset = np.stack([centre_offset(case, distance, protocol.spacing_mm_zyx) for case in case_ids])
        found = predict(*stored.cut(offset, np.arange(len(offset))))
        yield Perturbation("centre_offset", distance) if distance else UNPERTURBED, found
        if found.mask.size and protocol.margin_mm:
            yield Perturbation("centre_offset", distance, recentred=True), _recentred(stored, predict, offset, found)
    hu, mask = protocol.without_margin(stored.hu), protocol.without_margin(stored.mask)
    noisy = np.stack([add_noise(case, patch) for case, patch in zip(case_ids, hu, strict=True)])
    yield Perturbation("noise", NOISE_HU), predict(noisy, mask)
    for axes in MIRRORS:
        # Dice is the same before and after both masks are mirrored back.
        yield Perturbation("mirror", axes=axes), predict(mirror(hu, axes), mirror(mask, axes))
    for spacing_mm in SLICE_SPACINGS_MM:
        thick = thicken_slices(stored.hu, spacing_mm, protocol.spacing_mm_zyx[0])
        yield Perturbation("slice_spacing", spacing_mm), predict(protocol.without_margin(thick), mask)


def _recentred(stored: _Stored, predict: _Predictor, offset: np.ndarray, found: _Found) -> _Found:
    """Move each centre to the centroid of its predicted mask until it stays, by whole voxels and within the margin."""
    offset, margin, moving = offset.copy(), np.array(stored.protocol.margin_zyx), np.arange(len(offset))
    for _ in range(MOST_MOVES):
        steps = np.stack([_step(found.mask[row], stored.protocol.spacing_mm_zyx) for row in moving])
        target = np.clip(offset[moving] + steps, -margin, margin)
        moved = (target != offset[moving]).any(axis=1)
        moving = moving[moved]
        if not moving.size:
            break
        offset[moving] = target[moved]
        found = found.replaced(moving, predict(*stored.cut(offset[moving], moving)))
    return found


def _step(mask: np.ndarray, spacing_mm_zyx: tuple[float, float, float]) -> np.ndarray:
    """The way to the centroid of a predicted mask in voxels [3]; none where the mask is empty."""
    way_mm = mask_centroid_offset_mm(mask, spacing_mm_zyx) or (0.0, 0.0, 0.0)
    return np.rint(np.array(way_mm) / np.array(spacing_mm_zyx)).astype(np.int64)
