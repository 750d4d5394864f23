"""Answers about nodules whose segmentation is known: balls in world coordinates, whatever grid they are seen on."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases import masks, patch_location
from ggn_tf.cases.dicom.repair import STRICT
from ggn_tf.cases.geometry.grid import Grid, Vector
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import cut_patch
from ggn_tf.cases.recentring import MOST_MOVES, STAYS_MM, WARNING_MM
from ggn_tf.cases.volumes import Volume, open_volume
from ggn_tf.prediction import ct_patches
from ggn_tf.prediction.ct_patches import NodulePatch, read_patches
from ggn_tf.prediction.locations import Location, Mask, Point
from ggn_tf.prediction.nodules import CtPrediction, predict_nodules, predict_recentered
from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving.contract.messages import Prediction
from tests.support.case_phantoms import rotation
from tests.support.chest import (
    CENTER,
    STRAIGHT,
    TURNED,
    distance_mm,
    lung_grid,
    lung_with_balls,
    write_dicom,
    write_nifti,
)
from tests.support.threshold_model import THRESHOLD_HU

GRIDS = {
    "fine": lung_grid((0.55, 0.55, 0.625)),
    "usual": lung_grid((0.8, 0.8, 1.25)),
    "coarse": lung_grid((0.9, 0.9, 2.5)),
    "turned": lung_grid((0.7, 0.8, 1.25), TURNED),
    "oblique": lung_grid((0.8, 0.8, 1.25), rotation(10, -15, 25)),
}


def ask_about(
    grid: Grid, folder: Path, centers: Sequence[Vector], soft_mask: Callable[[Grid, int], np.ndarray]
) -> CtPrediction:
    """Ask a model that answers with a soft mask given on each patch's grid."""
    volume = open_volume(write_nifti(lung_with_balls(grid), folder / "ct.nii"))
    patches = [cut_patch(volume, NoduleTarget(center_mm_lps=center), PatchProtocol()) for center in centers]

    def predict(hu: np.ndarray) -> Prediction:
        masks = np.stack([soft_mask(patch.grid, number) for number, patch in enumerate(patches)])[..., None]
        probabilities = np.tile(np.float32([0.25, 0.75]), (len(hu), 1))
        return Prediction(probabilities, masks.astype(np.float32), ("AIS", "IAC"), 4)

    return predict_nodules(volume, [NodulePatch(f"n{k}", patch) for k, patch in enumerate(patches, start=1)], predict)


def soft_ball(center_mm_lps: Vector, radius_mm: float) -> Callable[[Grid, int], np.ndarray]:
    """0.5 on the ball's surface, linear across it: its level set is the ball also between voxels."""
    return lambda grid, number: np.clip(0.5 + (radius_mm - distance_mm(grid, center_mm_lps)) / 4, 0, 1)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_predicted_ball_lies_on_the_ct_to_half_a_voxel(grid: Grid, tmp_path: Path) -> None:
    ball = (CENTER[0] + 1.3, CENTER[1] - 0.7, CENTER[2] + 1.9)
    answers = ask_about(grid, tmp_path, [CENTER], soft_ball(ball, 6.0))
    labels = sitk.GetArrayFromImage(answers.labels)
    assert Grid.from_image(answers.labels).same_as(grid)
    # A voxel counts by its middle: half a voxel off is half of its smallest edge here.
    off = distance_mm(grid, ball) - 6.0
    tolerance_mm = min(grid.spacing_mm_xyz) / 2
    assert (labels[off < -tolerance_mm] == 1).all()
    assert (labels[off > tolerance_mm] == 0).all()
    found = grid.point_of(np.argwhere(labels)[:, ::-1].mean(axis=0))
    assert np.linalg.norm(found - ball) < tolerance_mm


def test_what_is_measured_is_the_written_mask_on_the_cts_voxels(tmp_path: Path) -> None:
    grid = GRIDS["usual"]
    (nodule,) = ask_about(grid, tmp_path, [CENTER], soft_ball(CENTER, 4.5)).nodules
    assert nodule.measurements.volume_mm3 == pytest.approx(4 / 3 * np.pi * 4.5**3, rel=0.03)
    assert nodule.measurements.diameter_mm == pytest.approx(9.0, rel=0.01)
    # The ball of 6 mm is at -500 HU throughout its inner 5.5 mm.
    assert nodule.measurements.mean_hu == pytest.approx(-500)
    assert nodule.measurements.solid_fraction == 0
    assert nodule.center_index_xyz == pytest.approx((31.5, 29.5, 35.5))
    assert nodule.decision == "IAC"
    assert nodule.warnings == ()


def test_every_nodule_has_its_own_label(tmp_path: Path) -> None:
    centers = [CENTER, (CENTER[0] + 12, *CENTER[1:]), (CENTER[0], CENTER[1] - 12, CENTER[2])]
    answers = ask_about(
        GRIDS["usual"], tmp_path, centers, lambda grid, number: soft_ball(centers[number], 3.0)(grid, number)
    )
    labels = sitk.GetArrayFromImage(answers.labels)
    for number, center in enumerate(centers, start=1):
        assert set(np.unique(labels[distance_mm(GRIDS["usual"], center) < 2])) == {number}
    assert [nodule.name for nodule in answers.nodules] == ["n1", "n2", "n3"]
    assert answers.model_version == 4


def test_nodules_that_share_voxels_say_so_and_the_first_keeps_them(tmp_path: Path) -> None:
    centers = [CENTER, (CENTER[0] + 2, *CENTER[1:]), (CENTER[0], CENTER[1] - 10, CENTER[2])]
    answers = ask_about(
        GRIDS["usual"], tmp_path, centers, lambda grid, number: soft_ball(centers[number], 3.0)(grid, number)
    )
    labels = sitk.GetArrayFromImage(answers.labels)
    assert (labels[distance_mm(GRIDS["usual"], CENTER) < 2.5] == 1).all()
    first, second, third = answers.nodules
    assert [warning.code for warning in first.warnings] == ["overlaps"]
    assert "n2" in first.warnings[0].text
    assert "n1" in second.warnings[0].text
    assert third.warnings == ()
    # Each is measured whole, whichever of the two keeps the voxels.
    assert second.measurements.volume_mm3 == pytest.approx(first.measurements.volume_mm3, rel=0.1)


def test_where_the_model_finds_nothing_the_answer_says_so(tmp_path: Path) -> None:
    answers = ask_about(GRIDS["usual"], tmp_path, [CENTER], lambda grid, number: np.zeros((32, 32, 32)))
    (nodule,) = answers.nodules
    assert nodule.mask is None and nodule.measurements is None and nodule.decision is None
    told = nodule.to_dict()
    assert told["volume_mm3"] == 0.0
    assert told["mean_hu"] is None and told["decision"] is None
    assert [warning["code"] for warning in told["warnings"]] == ["no_nodule"]
    assert not sitk.GetArrayFromImage(answers.labels).any()


@pytest.mark.parametrize(
    ("in_set", "typicality", "radius_mm", "names", "codes"),
    [
        ([1, 1], 0.009, 6.0, ["AIS", "IAC"], ["undecided", "atypical"]),
        ([0, 1], 0.01, 6.0, ["IAC"], []),
        ([0, 0], 1.0, 6.0, [], []),
        ([np.nan, np.nan], np.nan, 6.0, None, []),
        # No nodule.
        ([1, 1], 0.009, -6.0, None, ["no_nodule", "atypical"]),
    ],
)
def test_prediction_set_and_typicality_are_in_the_result(
    tmp_path: Path, in_set, typicality, radius_mm, names, codes
) -> None:
    volume = open_volume(write_nifti(lung_with_balls(GRIDS["usual"]), tmp_path / "ct.nii"))
    patch = cut_patch(volume, NoduleTarget(center_mm_lps=CENTER), PatchProtocol())

    def predict(hu: np.ndarray) -> Prediction:
        mask = soft_ball(CENTER, radius_mm)(patch.grid, 0)[None, ..., None].astype(np.float32)
        further = {"in_set": np.float32([in_set]), "typicality": np.float32([typicality])}
        return Prediction(np.float32([[0.25, 0.75]]), mask, ("AIS", "IAC"), 1, ("",), **further)

    (nodule,) = predict_nodules(volume, [NodulePatch("n", patch)], predict, recenter=PatchProtocol()).nodules
    document = nodule.to_dict()
    assert document["prediction_set"] == names
    assert document["typicality"] == (None if np.isnan(typicality) else pytest.approx(typicality, abs=1e-4))
    assert [warning.code for warning in nodule.warnings] == codes


def test_the_overlays_block_covers_its_field(tmp_path: Path) -> None:
    (nodule,) = ask_about(lung_grid((1.2, 1.2, 1.25), STRAIGHT), tmp_path, [CENTER], soft_ball(CENTER, 4)).nodules
    corners = Grid.from_image(nodule.block).corners_mm_lps()
    assert (corners.min(axis=0) <= np.subtract(CENTER, 30)).all()
    assert (corners.max(axis=0) >= np.add(CENTER, 30)).all()


def test_the_mask_of_several_nodules_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid, read = GRIDS["coarse"], []

    def count(path: Path, *args: Any, **options: Any) -> masks.Mask:
        read.append(path)
        return masks.place_mask(path, *args, **options)

    monkeypatch.setattr(patch_location, "place_mask", count)
    ct = write_nifti(lung_with_balls(grid), tmp_path / "ct.nii")
    inside = np.minimum(distance_mm(grid, CENTER), distance_mm(grid, np.add(CENTER, (18, 0, 0)))) <= 5
    mask = write_nifti(grid.image_of(inside.astype(np.uint8)), tmp_path / "mask.nii")
    _, patches = read_patches(ct, None, [Mask(mask, name="n")], PatchProtocol(), STRICT)
    assert [nodule.name for nodule in patches] == ["n 1", "n 2"]
    assert read == [mask]


PROTOCOL = PatchProtocol()
GRID = lung_grid(direction=TURNED)
NEIGHBOURS = [(CENTER[0] + shift, CENTER[1], CENTER[2]) for shift in (-9.0, 9.0)]


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball of 6 mm around CENTER."""
    return write_nifti(lung_with_balls(GRID), tmp_path_factory.mktemp("ct") / "ct.nii")


def of_masks(masks: np.ndarray, version: int = 1) -> Prediction:
    probabilities = np.tile(np.float32([0.25, 0.75]), (len(masks), 1))
    return Prediction(probabilities, masks.astype(np.float32), ("AIS", "IAC"), version)


def by_threshold(hu: np.ndarray) -> Prediction:
    return of_masks(hu > THRESHOLD_HU)


def shifted_by(*steps_zyx: int) -> Callable[[np.ndarray], Prediction]:
    """A model that finds a cube so many voxels away, wherever it looks."""
    mask = np.zeros((32, 32, 32, 1))
    z, y, x = (slice(14 + step, 18 + step) for step in steps_zyx)
    mask[z, y, x] = 1
    return lambda hu: of_masks(np.stack([mask] * len(hu)))


def off(shift_xyz_mm: Sequence[float], center: Vector = CENTER) -> Point:
    return Point(*np.add(center, shift_xyz_mm).tolist())


def opened(path: Path, *locations: Location, margin_mm: float = WARNING_MM) -> tuple[Volume, list[NodulePatch]]:
    return read_patches(path, None, locations, PROTOCOL, STRICT, margin_mm)


def recentered(path: Path, *locations: Location, predict: Callable[[np.ndarray], Prediction]) -> list[NodulePatch]:
    return predict_recentered(*opened(path, *locations), predict, PROTOCOL)[0]


def described(path: Path, *locations: Location) -> CtPrediction:
    return predict_nodules(*opened(path, *locations), by_threshold, recenter=PROTOCOL)


@pytest.mark.parametrize("shift", [(4, 0, 0), (0, -6, 2), (3, 3, -5), (-4.5, 4.5, 4.5)])
def test_a_point_beside_a_nodule_moves_to_its_centroid(ct: Path, shift: tuple[float, float, float]) -> None:
    (nodule,) = recentered(ct, off(shift), predict=by_threshold)
    assert math.dist(nodule.patch.center_mm_lps, CENTER) < STAYS_MM
    assert math.dist(nodule.given_center_mm_lps, np.add(CENTER, shift)) < 0.02
    assert 1 <= nodule.moves <= MOST_MOVES


def test_the_patch_is_the_one_that_is_cut_around_the_last_centre(ct: Path) -> None:
    volume, patches = opened(ct, off((4, -3, 2)))
    (nodule,), prediction = predict_recentered(volume, patches, by_threshold, PROTOCOL)
    expected = cut_patch(volume, NoduleTarget(center_mm_lps=nodule.patch.center_mm_lps), PROTOCOL)
    np.testing.assert_array_equal(nodule.patch.hu, expected.hu)
    assert nodule.patch.center_mm_lps == pytest.approx(expected.center_mm_lps, abs=1e-9)
    assert nodule.patch.grid.same_as(expected.grid, 1e-9)
    np.testing.assert_array_equal(prediction.mask[0, ..., 0], expected.hu > THRESHOLD_HU)


def test_a_point_in_the_middle_stays(ct: Path) -> None:
    (nodule,) = recentered(ct, Point(*CENTER), predict=by_threshold)
    assert (nodule.moves, nodule.given_mm_lps) == (0, None)


def test_without_a_nodule_the_centre_stays(ct: Path) -> None:
    (nodule,) = recentered(ct, off((0, 0, 30)), predict=by_threshold)
    assert nodule.moves == 0


def test_the_centre_of_a_mask_stays(ct: Path, tmp_path: Path) -> None:
    shifted = (distance_mm(GRID, np.add(CENTER, (3, 0, 0))) <= 4).astype(np.uint8)
    mask = Mask(write_nifti(GRID.image_of(shifted), tmp_path / "mask.nii"))
    nodule, point = recentered(ct, mask, off((3, 0, 0)), predict=by_threshold)
    assert (nodule.moves, nodule.patch.center_mm_lps[0]) == (0, pytest.approx(CENTER[0] + 3, abs=0.1))
    assert point.moves == 1


def test_after_three_moves_the_last_centre_is_used(ct: Path) -> None:
    (nodule,) = recentered(ct, Point(*CENTER), predict=shifted_by(1, -2, 3))
    assert nodule.moves == 3
    # Three times 1, -2 and 3 voxels of the patch, along L, P and S, rounded to 0.01 voxels of the CT.
    moved = np.subtract(nodule.patch.center_mm_lps, CENTER)
    np.testing.assert_allclose(moved, (3 * 3 * 0.7, 3 * -2 * 0.7, 3 * 1.0), atol=0.02)


def test_a_move_out_of_the_ct_is_not_made(ct: Path) -> None:
    # The CT ends 45 mm above CENTER.
    (nodule,) = recentered(ct, off((0, 0, 38)), predict=shifted_by(3, 0, 0))
    assert nodule.moves == 2
    assert nodule.patch.center_mm_lps[2] == pytest.approx(CENTER[2] + 44, abs=0.02)


def test_up_to_the_margin_nothing_more_is_read(ct: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume, patches = opened(ct, off((4, 0, 0)), off((0, 5, 0)))
    monkeypatch.setattr(ct_patches, "run_in_reader", None)
    moved, _ = predict_recentered(volume, patches, by_threshold, PROTOCOL)
    assert [nodule.moves > 0 for nodule in moved] == [True, True]


def test_beyond_the_margin_another_process_reads_the_rest_without_opening_the_ct(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_dicom(lung_with_balls(GRID), tmp_path / "dicom")
    volume, patches = opened(folder, off((0, 0, -20)))
    calls = []

    def reader(function: Callable[..., object], *arguments: object) -> object:
        calls.append(function)
        return function(*arguments)

    monkeypatch.setattr(ct_patches, "run_in_reader", reader)
    monkeypatch.setattr("ggn_tf.cases.volumes.scan_series", None)
    (nodule,), _ = predict_recentered(volume, patches, shifted_by(5, 0, 0), PROTOCOL)
    # Moves of 5 mm: the second one leaves the margin of 8 mm.
    assert calls == [volume.read_blocks] * 2
    expected = cut_patch(volume, NoduleTarget(center_mm_lps=nodule.patch.center_mm_lps), PROTOCOL)
    np.testing.assert_array_equal(nodule.patch.hu, expected.hu)


def test_the_overlays_block_covers_its_field_around_the_last_centre(ct: Path) -> None:
    (nodule,) = described(ct, off((5, 0, -5))).nodules
    around = np.array(nodule.center_mm_lps)
    corners = Grid.from_image(nodule.block).corners_mm_lps()
    # The CT has 51 mm along L.
    assert (corners.min(axis=0)[1:] <= np.maximum(around - 30, GRID.corners_mm_lps().min(axis=0) + 0.1)[1:]).all()
    assert corners.min(axis=0)[2] <= around[2] - 30 and corners.max(axis=0)[2] >= around[2] + 30


def test_all_predictions_are_of_one_version(ct: Path) -> None:
    calls = []

    def swapped(hu: np.ndarray) -> Prediction:
        calls.append(len(hu))
        return of_masks(hu > THRESHOLD_HU, version=min(len(calls), 2))

    volume, patches = opened(ct, off((4, 0, 0)), off((0, 0, 30)))
    _, prediction = predict_recentered(volume, patches, swapped, PROTOCOL)
    assert prediction.model_version == 2
    # Both, the one that moves, and at the end both again.
    assert (calls[0], calls[1], calls[-1]) == (2, 1, 2)


def test_the_result_has_both_centres(ct: Path) -> None:
    (nodule,) = described(ct, off((4, 0, 0))).nodules
    document = nodule.to_dict()
    assert document["given_center_mm_lps"] == pytest.approx(np.add(CENTER, (4, 0, 0)), abs=0.01)
    assert document["center_mm_lps"] == pytest.approx(CENTER, abs=STAYS_MM)
    assert document["moves"] == nodule.moves > 0
    assert document["moved_mm"] == round(math.dist(nodule.center_mm_lps, nodule.given_center_mm_lps), 2)
    assert nodule.warnings == ()


def codes(prediction: CtPrediction) -> list[list[str]]:
    return [[warning.code for warning in nodule.warnings] for nodule in prediction.nodules]


def test_a_centre_that_moved_far_is_warned_about(tmp_path: Path) -> None:
    large = write_nifti(lung_with_balls(GRID, [(CENTER, 7.0)]), tmp_path / "ct.nii")
    # 8.7 mm: less than 3 mm outside the ball.
    assert codes(described(large, off((5, 5, 5)))) == [["moved_far"]]
    assert codes(described(large, off((4, 4, 4)))) == [[]]


def test_a_nodule_far_from_the_given_centre_is_another_one(ct: Path) -> None:
    # 10.4 mm: 4.4 mm outside the ball.
    assert codes(described(ct, off((6, 6, 6)))) == [["moved_far", "another_nodule"]]


def test_of_two_centres_that_end_in_one_nodule_the_farther_one_is_warned_about(ct: Path) -> None:
    found = described(ct, off((4, 0, 0)), off((0, 1, 0)))
    assert codes(found) == [["overlaps", "another_nodule"], ["overlaps"]]
    assert "nodule 2" in found.nodules[0].warnings[-1].text


def test_neighbours_that_stay_apart_are_not_warned_about(tmp_path: Path) -> None:
    image = lung_with_balls(GRID, list(zip(NEIGHBOURS, (5.0, 4.0), strict=True)))
    points = [off(shift, center) for shift, center in zip([(-3, 0, 0), (2, 0, 0)], NEIGHBOURS, strict=True)]
    found = described(write_nifti(image, tmp_path / "ct.nii"), *points)
    assert codes(found) == [[], []]
    for nodule, center in zip(found.nodules, NEIGHBOURS, strict=True):
        assert math.dist(nodule.center_mm_lps, center) < 0.5
