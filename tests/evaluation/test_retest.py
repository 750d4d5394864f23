from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from ggn_tf.dataset.records import Dataset, open_dataset, read_with_margin
from ggn_tf.dataset.splits import Split, read_split
from ggn_tf.errors import RunError
from ggn_tf.evaluation.retest import (
    NOISE_HU,
    add_noise,
    centre_offset,
    mirror,
    nodules_to_retest,
    retest,
    retest_run,
    summarise_retest,
    thicken_slices,
)
from ggn_tf.evaluation.run_predictions import Inference, predict_run
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.score_records import Perturbation, Retest
from ggn_tf.protocol import PatchProtocol
from ggn_tf.runs.run_folder import open_run_dataset
from ggn_tf.tasks import Task
from tests.support.synthetic import write_synthetic_dataset
from tests.support.tiny_protocol import SIZE
from tests.support.untrained_run import write_untrained_run

TASK = Task.parse("AAH+AIS,MIA+IAC")
PATCH = PatchProtocol()
MARGIN_ZYX = np.array([8, 12, 12])
OFFSETS = (2.0, 4.0, 6.0, 8.0)
NODULES = 12


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_synthetic_dataset(tmp_path_factory.mktemp("margin") / "dataset", NODULES, margin_mm=8.0)


def _classes(second: np.ndarray) -> tf.Tensor:
    return tf.constant(np.stack([1 - second, second], axis=1), tf.float32)


def _centroid_mm(masks: np.ndarray) -> np.ndarray:
    places = [np.argwhere(mask[..., 0] > 0).mean(axis=0) - (mask.shape[0] - 1) / 2 for mask in masks]
    return np.linalg.norm(np.array(places) * PATCH.spacing_mm_zyx, axis=1)


def centred(patch: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
    """The perfect mask; the second class where the nodule is within 1 mm of the centre."""
    return {"mask": mask, "probabilities": _classes(np.where(_centroid_mm(mask.numpy()) < 1, 0.9, 0.1))}


def invariant(patch: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
    """The perfect mask, and one class for every input."""
    return {"mask": mask, "probabilities": _classes(np.full(len(mask), 0.7))}


def _retest(dataset: Dataset, inference: Inference, batch_size: int = 5) -> pd.DataFrame:
    return retest(dataset, dataset.cases, TASK, inference, batch_size)


@pytest.fixture(scope="module")
def centred_table(dataset: Dataset) -> pd.DataFrame:
    return _retest(dataset, centred)


@pytest.fixture(scope="module")
def invariant_table(dataset: Dataset) -> pd.DataFrame:
    return _retest(dataset, invariant)


def _rows(retested: pd.DataFrame, kind: str, amount: float = 0.0, axes: str = "", recentred: bool = False):
    wanted = {"kind": kind, "amount": amount, "axes": axes, "recentred": recentred}
    return retested[(retested[list(wanted)] == pd.Series(wanted)).all(axis=1)]


def _changed(retest: Retest) -> dict[Perturbation, float | None]:
    return {score.perturbation: score.value for score in retest.scores if score.metric == "changed"}


def _summary(retested: pd.DataFrame, dataset: Dataset) -> Retest:
    return summarise_retest(retested.assign(stage="joint"), dataset, seed=0, replicates=50)


def test_a_network_that_depends_on_the_centre_changes_with_it_and_recentring_restores_it(dataset, centred_table):
    changed = _changed(_summary(centred_table, dataset))
    for distance in OFFSETS:
        assert changed[Perturbation("centre_offset", distance)] == 1.0
        assert changed[Perturbation("centre_offset", distance, recentred=True)] == 0.0
    others = [share for perturbation, share in changed.items() if perturbation.kind != "centre_offset"]
    assert others == [0.0] * (1 + 7 + 2)


def test_an_invariant_network_never_changes_and_its_mask_moves_with_the_reference(dataset, invariant_table):
    summary = _summary(invariant_table, dataset)
    assert set(_changed(summary).values()) == {0.0}
    assert (invariant_table["dice"] == 1.0).all()
    assert (summary.nodules, summary.patients, summary.left_out_mm) == (NODULES, NODULES, ())


def test_every_perturbation_has_a_row_for_every_nodule(dataset, invariant_table):
    counts = invariant_table.groupby(["kind", "amount", "axes", "recentred"]).size()
    assert len(counts) == 1 + 1 + 2 * len(OFFSETS) + 1 + 7 + 2
    assert (counts == NODULES).all()
    assert list(_rows(invariant_table, "mirror", axes="zy")["case"]) == [case.case_id for case in dataset.cases]


def test_dice_is_that_of_the_reference_mask_at_the_new_place(dataset: Dataset):
    fixed = np.zeros((32, 32, 32, 1), np.float32)
    fixed[12:20, 12:20, 12:20] = 1

    def predict(patch: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"mask": tf.constant(np.broadcast_to(fixed, mask.shape))}

    rows = _rows(_retest(dataset, predict), "centre_offset", 6.0)
    _, stored = read_with_margin(dataset, list(rows["case"]))
    for dice, case, mask in zip(rows["dice"], rows["case"], stored, strict=True):
        z, y, x = centre_offset(case, 6.0, PATCH.spacing_mm_zyx) + MARGIN_ZYX
        truth = mask[z : z + 32, y : y + 32, x : x + 32] > 0
        expected = 2 * (truth & (fixed > 0)).sum() / (truth.sum() + fixed.sum())
        assert dice == pytest.approx(expected)
    assert rows["dice"].nunique() > NODULES / 2


def test_the_reference_mask_is_an_input_that_is_cut_and_mirrored_alike(dataset: Dataset):
    def predict(patch: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": _classes(_centroid_mm(mask.numpy()) / 100)}

    retested = _retest(dataset, predict)
    for distance in OFFSETS[:2]:
        rows = _rows(retested, "centre_offset", distance)
        exact = [centre_offset(case, distance, PATCH.spacing_mm_zyx) * PATCH.spacing_mm_zyx for case in rows["case"]]
        np.testing.assert_allclose(probabilities(rows)[:, 1] * 100, np.linalg.norm(exact, axis=1), atol=0.2)
    assert retested["dice"].isna().all() and not retested["recentred"].any()


def test_noise_mirrors_and_slices_change_the_ct(dataset: Dataset):
    def predict(patch: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": _classes(patch.numpy()[:, 3, 4, 5, 0] / 2 + 0.5)}

    retested = _retest(dataset, predict)
    hu, _ = read_with_margin(dataset, [case.case_id for case in dataset.cases])
    z, y, x = MARGIN_ZYX + np.array([3, 4, 5])

    def expected(stored: np.ndarray) -> np.ndarray:
        return (np.clip(stored[:, z, y, x, 0], -1024, 400) + 1024) / 1424

    plain = probabilities(_rows(retested, "none"))[:, 1]
    np.testing.assert_allclose(plain, expected(hu), atol=1e-6)
    thick = probabilities(_rows(retested, "slice_spacing", 2.5))[:, 1]
    np.testing.assert_allclose(thick, expected(thicken_slices(hu, 2.5, 1.0)), atol=1e-6)
    difference = (probabilities(_rows(retested, "noise", 20.0))[:, 1] - plain) * 1424
    assert np.abs(difference).min() > 0 and np.abs(difference).max() < 100
    mirrored = probabilities(_rows(retested, "mirror", axes="x"))[:, 1]
    np.testing.assert_allclose(mirrored, expected(hu[:, :, :, ::-1]), atol=1e-6)


def test_the_centre_moves_at_most_three_times_and_stays_in_the_margin(dataset: Dataset):
    places: list[int] = []

    def predict(patch: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        wanders = np.zeros(mask.shape, np.float32)
        # The centroid is two voxels from the middle of the patch along z, and in the middle along y and x.
        wanders[:, 17:19, 15:17, 15:17] = 1
        places.append(len(mask))
        return {"mask": tf.constant(wanders), "probabilities": _classes(patch.numpy()[:, 0, 0, 0, 0] / 2 + 0.5)}

    retested = _retest(dataset, predict, batch_size=NODULES)
    rows = _rows(retested, "centre_offset", 0.0, recentred=True)
    hu, _ = read_with_margin(dataset, list(rows["case"]))
    corner = (np.clip(hu[:, 8 + 3 * 2, 12, 12, 0], -1024, 400) + 1024) / 1424
    np.testing.assert_allclose(probabilities(rows)[:, 1], corner, atol=1e-6)
    # Unperturbed and four distances, each with at most three moves; noise, seven mirrors, two spacings.
    assert len(places) <= 5 * 4 + 1 + 7 + 2 <= 30


def test_an_empty_mask_stays_where_it_is(dataset: Dataset):
    def predict(patch: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"mask": tf.zeros_like(mask), "probabilities": _classes(_centroid_mm(mask.numpy()) / 100)}

    retested = _retest(dataset, predict)
    given, recentred = (_rows(retested, "centre_offset", 4.0, recentred=moved) for moved in (False, True))
    np.testing.assert_array_equal(probabilities(given), probabilities(recentred))


@pytest.mark.parametrize(("margin_mm", "distances"), [(0.0, ()), (5.0, (2.0, 4.0))])
def test_distances_beyond_the_margin_are_left_out_and_named(tmp_path: Path, margin_mm: float, distances: tuple):
    small = write_synthetic_dataset(tmp_path / "dataset", NODULES, size=SIZE, margin_mm=margin_mm)
    summary = _summary(_retest(small, invariant), small)
    assert summary.margin_mm == margin_mm
    assert summary.left_out_mm == tuple(distance for distance in OFFSETS if distance not in distances)
    off = [one for one in _changed(summary) if one.kind == "centre_offset"]
    assert [one.amount for one in off if not one.recentred] == list(distances)
    assert [one.amount for one in off if one.recentred] == ([0.0, *distances] if margin_mm else [])
    assert len(_changed(summary)) == len(off) + 1 + 7 + 2


def test_the_size_of_batches_changes_nothing(dataset, centred_table):
    columns = ["kind", "amount", "axes", "recentred", "case"]
    tables = (centred_table, _retest(dataset, centred, batch_size=24))
    pd.testing.assert_frame_equal(*(table.sort_values(columns, ignore_index=True) for table in tables))


def test_a_run_is_tested_by_its_last_stage(tmp_path: Path):
    write_synthetic_dataset(tmp_path / "dataset", 30, nodules_per_patient=2, size=SIZE, margin_mm=2.0)
    run = write_untrained_run(tmp_path, stages=("classify", "joint"))
    opened = open_run_dataset(run)
    split = read_split(opened, 1)
    lines: list[str] = []
    retested = retest_run(run, opened, nodules_to_retest(run, opened, split), lines.append)
    frame = predict_run(run, opened, split)
    rows = frame[(frame["stage"] == "joint") & (frame["set"] == "test")].reset_index(drop=True)
    unperturbed = _rows(retested, "none").reset_index(drop=True)
    columns = ["case", "patient", "label", "p_AAH+AIS", "p_MIA+IAC", "dice", "stage"]
    pd.testing.assert_frame_equal(unperturbed[columns], rows[columns], rtol=1e-5)
    assert lines[0] == f"test-retest: stage joint, test set, {len(split.test)} nodules"
    assert lines[1] == f"test-retest: nodules 1 to 4 of {len(split.test)}"


def test_without_a_test_nodule_of_the_task_there_is_nothing_to_retest(tmp_path: Path):
    run = write_untrained_run(tmp_path, stages=())
    opened = open_dataset(tmp_path / "dataset", run.description.protocol.patch)
    split = Split(number=1, train=(), validation=(), test=())
    with pytest.raises(RunError) as caught:
        nodules_to_retest(run, opened, split)
    assert caught.value.arguments == ("retest",)


SPACING = (1.0, 0.7, 0.7)


def _stack(layers: list[float]) -> np.ndarray:
    return np.array(layers, np.float32).reshape(1, -1, 1, 1, 1)


def test_a_centre_is_off_by_the_whole_voxels_nearest_to_its_distance():
    offsets = np.array([centre_offset(f"case{i}", 4.0, SPACING) for i in range(300)])
    distances = np.linalg.norm(offsets * SPACING, axis=1)
    assert offsets.dtype == np.int64
    assert np.abs(distances - 4.0).max() < np.linalg.norm(SPACING) / 2
    assert distances.mean() == pytest.approx(4.0, abs=0.1)


def test_directions_are_uniform():
    offsets = np.array([centre_offset(f"case{i}", 50.0, (1.0, 1.0, 1.0)) for i in range(2000)]) / 50.0
    # The standard error of a mean is 0.013, of a mean square 0.007.
    assert np.abs(offsets.mean(axis=0)).max() < 0.05
    np.testing.assert_allclose((offsets**2).mean(axis=0), 1 / 3, atol=0.03)


def test_a_direction_depends_on_nodule_and_distance_alone():
    first = centre_offset("a", 8.0, SPACING)
    assert centre_offset("a", 8.0, SPACING).tolist() == first.tolist()
    assert centre_offset("b", 8.0, SPACING).tolist() != first.tolist()
    assert centre_offset("a", 4.0, SPACING).tolist() != np.rint(first / 2).tolist()


def test_no_distance_is_the_centre():
    assert centre_offset("a", 0.0, SPACING).tolist() == [0, 0, 0]


def test_noise_has_its_standard_deviation_and_is_reproducible():
    hu = np.full((32, 32, 32, 1), -600, np.float32)
    noise = add_noise("a", hu) - hu
    assert noise.dtype == np.float32
    assert noise.std() == pytest.approx(NOISE_HU, rel=0.01) and abs(noise.mean()) < 0.5
    np.testing.assert_array_equal(add_noise("a", hu) - hu, noise)
    assert abs(np.corrcoef(noise.ravel(), (add_noise("b", hu) - hu).ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(
    ("axes", "place"), [("z", (2, 1, 2)), ("y", (0, 1, 2)), ("x", (0, 1, 0)), ("zx", (2, 1, 0)), ("zyx", (2, 1, 0))]
)
def test_a_voxel_is_mirrored_along_the_named_axes(axes, place):
    patches = np.zeros((1, 3, 3, 3, 1))
    patches[0, 0, 1, 2, 0] = 1
    assert [tuple(where) for where in np.argwhere(mirror(patches, axes)[0, ..., 0])] == [place]


def test_slices_are_means_and_interpolated_back():
    # Slices of 2 mm at -1 and 1 mm have the means 0 and 6; the layers are at -1.5, -0.5, 0.5 and 1.5 mm.
    thick = thicken_slices(_stack([0, 0, 4, 8]), 2.0, 1.0)
    assert thick.ravel().tolist() == [0, 1.5, 4.5, 6]
    assert thick.dtype == np.float32


def test_a_layer_can_be_in_two_slices():
    # Slices of 2.5 mm at -1.25 and 1.25 mm: half of the middle layer is in each.
    thick = thicken_slices(_stack([10, 0, 5, 0, 20]), 2.5, 1.0).ravel()
    low, high = (10 + 0 + 2.5) / 2.5, (2.5 + 0 + 20) / 2.5
    np.testing.assert_allclose(
        thick, [low, low + 0.1 * (high - low), (low + high) / 2, high - 0.1 * (high - low), high], rtol=1e-6
    )


def test_slices_of_the_same_distance_change_nothing():
    layers = np.random.default_rng(0).normal(size=(2, 8, 3, 3, 1)).astype(np.float32)
    np.testing.assert_allclose(thicken_slices(layers, 1.0, 1.0), layers, atol=1e-6)


def test_a_gradient_along_z_stays_between_the_slices():
    ramp = thicken_slices(_stack([float(i) for i in range(48)]), 2.5, 1.0).ravel()
    np.testing.assert_allclose(ramp[2:-2], np.arange(2, 46), atol=1e-4)
