"""Answers about nodules whose segmentation is known: balls in world coordinates, whatever grid they are seen on."""

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
from ggn_tf.cases.volumes import open_volume
from ggn_tf.prediction.ct_patches import NodulePatch, read_patches
from ggn_tf.prediction.locations import Mask
from ggn_tf.prediction.nodules import CtPrediction, predict_nodules
from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving.contract.messages import Prediction
from tests.support.case_phantoms import rotation
from tests.support.chest import CENTER, STRAIGHT, TURNED, distance_mm, lung_grid, lung_with_balls, write_nifti

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
    assert nodule.mask is None and nodule.measurements is None
    told = nodule.to_dict()
    assert told["volume_mm3"] == 0.0
    assert told["mean_hu"] is None
    assert [warning["code"] for warning in told["warnings"]] == ["no_nodule"]
    assert not sitk.GetArrayFromImage(answers.labels).any()


@pytest.mark.parametrize(
    ("in_set", "typicality", "names", "codes"),
    [
        ([1, 1], 0.009, ["AIS", "IAC"], ["undecided", "atypical"]),
        ([0, 1], 0.01, ["IAC"], []),
        ([0, 0], 1.0, [], []),
        ([np.nan, np.nan], np.nan, None, []),
    ],
)
def test_prediction_set_and_typicality_are_in_the_result(tmp_path: Path, in_set, typicality, names, codes) -> None:
    volume = open_volume(write_nifti(lung_with_balls(GRIDS["usual"]), tmp_path / "ct.nii"))
    patch = cut_patch(volume, NoduleTarget(center_mm_lps=CENTER), PatchProtocol())

    def predict(hu: np.ndarray) -> Prediction:
        mask = soft_ball(CENTER, 6.0)(patch.grid, 0)[None, ..., None].astype(np.float32)
        further = {"in_set": np.float32([in_set]), "typicality": np.float32([typicality])}
        return Prediction(np.float32([[0.25, 0.75]]), mask, ("AIS", "IAC"), 1, ("",), **further)

    (nodule,) = predict_nodules(volume, [NodulePatch("n", patch)], predict, recenter=PatchProtocol()).nodules
    document = nodule.to_dict()
    assert document["prediction_set"] == names
    assert document["typicality"] == (None if names is None else pytest.approx(typicality, abs=1e-4))
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
