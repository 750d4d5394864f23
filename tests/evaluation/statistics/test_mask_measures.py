"""Distances against SimpleITK's, which computes contours and distance maps by other algorithms."""

import numpy as np
import pandas as pd
import pytest
import SimpleITK

from ggn_tf.evaluation.statistics.further_scores import score_further
from ggn_tf.evaluation.statistics.mask_measures import MASK_COLUMNS, measure_masks

SPACING = (1.0, 0.7, 0.7)


def _surface(mask: np.ndarray) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    image.SetSpacing(SPACING[::-1])
    return SimpleITK.LabelContour(image, fullyConnected=False)


def _distances(from_surface: SimpleITK.Image, to_surface: SimpleITK.Image) -> np.ndarray:
    distance = SimpleITK.SignedMaurerDistanceMap(to_surface, squaredDistance=False, useImageSpacing=True)
    return np.abs(SimpleITK.GetArrayFromImage(distance))[SimpleITK.GetArrayFromImage(from_surface) > 0]


def _blob(rng: np.random.Generator) -> np.ndarray:
    """An ellipsoid with a ragged surface, which may touch the end of the patch."""
    grid = np.indices((14, 14, 14)) - rng.uniform(3, 11, 3)[:, None, None, None]
    radii = rng.uniform(1.5, 6, 3)[:, None, None, None]
    return ((grid / radii) ** 2).sum(axis=0) + 0.3 * rng.normal(size=(14, 14, 14)) < 1


@pytest.mark.parametrize("seeds", [range(20), pytest.param(range(20, 200), marks=pytest.mark.nightly)])
def test_distances_of_random_masks_are_simpleitks(seeds):
    for seed in seeds:
        rng = np.random.default_rng(seed)
        truth, found = _blob(rng), _blob(rng)
        measured = dict(zip(MASK_COLUMNS, measure_masks(truth[None], found[None], SPACING)[0], strict=True))
        assert measured["predicted_mm3"] == pytest.approx(found.sum() * 0.49)
        assert measured["reference_mm3"] == pytest.approx(truth.sum() * 0.49)
        if not (truth.any() and found.any()):
            assert np.isnan(measured["hd95_mm"]) and np.isnan(measured["surface_distance_mm"])
            continue
        surfaces = _surface(truth), _surface(found)
        directed = [_distances(*surfaces), _distances(*surfaces[::-1])]
        assert measured["hd95_mm"] == pytest.approx(max(np.percentile(part, 95) for part in directed), abs=1e-5)
        both = np.concatenate(directed)
        assert measured["surface_distance_mm"] == pytest.approx(both.mean(), abs=1e-5)
        assert measured["surface_dice_1mm"] == pytest.approx((both <= 1 + 1e-6).mean())


def test_cubes_two_voxels_apart_by_hand():
    """A cube and the same cube moved by two voxels of 1 mm along z."""
    truth = np.zeros((1, 12, 12, 12), bool)
    truth[0, 2:6, 4:8, 4:8] = True
    (row,) = measure_masks(truth, np.roll(truth, 2, axis=1), SPACING)
    assert row[0] == pytest.approx(2.0)
    assert tuple(measure_masks(truth, truth, SPACING)[0]) == pytest.approx((0, 0, 1, 64 * 0.49, 64 * 0.49))


def test_empty_masks():
    empty, full = np.zeros((1, 4, 4, 4), bool), np.ones((1, 4, 4, 4), bool)
    np.testing.assert_array_equal(measure_masks(full, empty, SPACING)[0, :3], [np.nan, np.nan, 0.0])
    np.testing.assert_array_equal(measure_masks(empty, empty, SPACING)[0, :3], [np.nan, np.nan, 1.0])


@pytest.fixture
def masks(drawn_frame) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = drawn_frame(cases=50)
    reference = rng.lognormal(6, 0.5, 50)
    predicted = reference * rng.lognormal(0.1, 0.2, 50)
    predicted[:3] = 0
    hd95 = np.where(predicted == 0, np.nan, rng.exponential(2, 50))
    columns = (hd95, hd95 / 3, rng.random(50), predicted, reference)
    return frame.assign(
        **dict(zip(MASK_COLUMNS, columns, strict=True)), dice=np.where(predicted == 0, 0, frame["dice"])
    )


def test_scores_of_masks_by_pandas(masks):
    found = {s.metric: s for s in score_further(masks, set_names=["test"], replicates=100)}
    difference = masks["predicted_mm3"] - masks["reference_mm3"]
    expected = {
        "low_dice": (masks["dice"] < 0.5).mean(),
        "empty_mask": 3 / 50,
        "hd95_mm": masks["hd95_mm"].mean(),
        "surface_distance_mm": masks["surface_distance_mm"].mean(),
        "surface_dice_1mm": masks["surface_dice_1mm"].mean(),
        "volume_bias_mm3": difference.mean(),
        "volume_low_mm3": difference.mean() - 1.96 * difference.std(),
        "volume_high_mm3": difference.mean() + 1.96 * difference.std(),
    }
    assert {name: found[name].value for name in expected} == pytest.approx(expected)
    assert all(found[name].low < found[name].value < found[name].high for name in expected)


def test_table_without_measured_masks_has_the_share_of_low_dice_alone(drawn_frame):
    found = {s.metric: s for s in score_further(drawn_frame(), set_names=["test"], replicates=10)}
    assert "low_dice" in found and "hd95_mm" not in found
