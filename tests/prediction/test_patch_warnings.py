import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import Patch, cut_patch_from
from ggn_tf.prediction.patch_warnings import PredictionWarning, overlap_warning, patch_warnings
from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving.contract.warning_texts import COARSE_SPACING
from tests.support.chest import CENTER, distance_mm, lung_grid, lung_with_balls, write_nifti

SOFT = np.full(500, -500.0)


@pytest.fixture(scope="module")
def patch(tmp_path_factory: pytest.TempPathFactory) -> Patch:
    path = write_nifti(lung_with_balls(lung_grid()), tmp_path_factory.mktemp("ct") / "ct.nii")
    return cut_patch_from(path, NoduleTarget(center_mm_lps=CENTER), PatchProtocol())


@pytest.fixture(scope="module")
def ball(patch: Patch) -> np.ndarray:
    return distance_mm(patch.grid, CENTER) <= 6


def codes(warnings: list[PredictionWarning]) -> list[str]:
    return [warning.code for warning in warnings]


def with_spacing(patch: Patch, spacing_mm: float) -> Patch:
    grid = dataclasses.replace(patch.ct_grid, spacing_mm_xyz=(0.8, 0.8, spacing_mm))
    middle = grid.point_of((np.array(grid.size_xyz) - 1) / 2)
    origin = np.add(grid.origin_mm_lps, np.subtract(CENTER, middle))
    return dataclasses.replace(patch, ct_grid=dataclasses.replace(grid, origin_mm_lps=tuple(origin.tolist())))


def test_a_nodule_like_those_of_the_training_needs_no_caution(patch: Patch, ball: np.ndarray) -> None:
    assert patch_warnings(patch, ball, SOFT) == []


@pytest.mark.parametrize(("spacing_mm", "told"), [(2.5, []), (2.50001, []), (2.6, ["coarse_spacing"])])
def test_slices_further_apart_than_two_and_a_half_millimetres(
    patch: Patch, ball: np.ndarray, spacing_mm: float, told: list[str]
) -> None:
    assert codes(patch_warnings(with_spacing(patch, spacing_mm), ball, SOFT)) == told


def test_the_coarse_axis_may_be_any(patch: Patch, ball: np.ndarray) -> None:
    turned = dataclasses.replace(patch, ct_grid=dataclasses.replace(patch.ct_grid, spacing_mm_xyz=(5.0, 0.8, 0.8)))
    assert "5.00 mm" in patch_warnings(turned, ball, SOFT)[0].text


@pytest.mark.parametrize("perhaps_ras", [True, False])
def test_no_nodule(patch: Patch, perhaps_ras: bool) -> None:
    nothing = np.zeros((32, 32, 32), bool)
    (warning,) = patch_warnings(patch, nothing, np.empty(0), perhaps_ras=perhaps_ras)
    assert (warning.code, warning.arguments) == ("no_nodule", ("ras",) if perhaps_ras else ())


@pytest.mark.parametrize("face", [(0, 5, 5), (31, 5, 5), (5, 0, 5), (5, 31, 5), (5, 5, 0), (5, 5, 31)])
def test_a_nodule_at_any_face_of_the_patch_may_be_larger(
    patch: Patch, ball: np.ndarray, face: tuple[int, int, int]
) -> None:
    nodule = ball.copy()
    nodule[face] = True
    assert codes(patch_warnings(patch, nodule, SOFT)) == ["larger_than_patch"]


def test_one_layer_from_the_face_is_within(patch: Patch) -> None:
    nodule = np.zeros((32, 32, 32), bool)
    nodule[1:-1, 1:-1, 1:-1] = True
    assert patch_warnings(patch, nodule, SOFT) == []


@pytest.mark.parametrize(("dense_share", "told"), [(0.04, []), (0.06, ["dense"])])
def test_more_than_a_twentieth_denser_than_soft_tissue(
    patch: Patch, ball: np.ndarray, dense_share: float, told: list[str]
) -> None:
    inside = np.full(1000, -300.0)
    inside[: round(1000 * dense_share)] = 200.0
    assert codes(patch_warnings(patch, ball, inside)) == told


@pytest.mark.parametrize(
    "foreign",
    [lambda hu: (hu + 1024) / 1424, lambda hu: hu + 1024, lambda hu: np.full_like(hu, 40.0)],
    ids=["0 to 1", "stored values", "liver"],
)
def test_values_that_are_no_lung_in_hounsfield_units(patch: Patch, ball: np.ndarray, foreign) -> None:
    other = dataclasses.replace(patch, hu=foreign(patch.hu))
    # Not also dense: that would be a conclusion from the same values.
    assert codes(patch_warnings(other, ball, foreign(SOFT))) == ["no_lung"]


def test_a_patch_that_the_ct_does_not_fill(tmp_path: Path, ball: np.ndarray) -> None:
    grid = lung_grid()
    path = write_nifti(lung_with_balls(grid), tmp_path / "ct.nii")
    # The centre in the CT's first slice: 16 of the patch's 32 mm below it, less half of a slice.
    rim = tuple(grid.point_of((np.array(grid.size_xyz) - 1) / 2 * (1, 1, 0)).tolist())
    patch = cut_patch_from(path, NoduleTarget(center_mm_lps=rim), PatchProtocol())
    (warning,) = patch_warnings(patch, ball, SOFT)
    assert warning.code == "partly_outside_ct"
    assert "47%" in warning.text


def test_what_lies_outside_the_ct_does_not_count_as_lung(tmp_path: Path, ball: np.ndarray) -> None:
    grid = lung_grid()
    soft = grid.image_of(np.full(grid.size_xyz[::-1], 40, np.int16))
    rim = tuple(grid.point_of((np.array(grid.size_xyz) - 1) / 2 * (1, 1, 0)).tolist())
    patch = cut_patch_from(write_nifti(soft, tmp_path / "ct.nii"), NoduleTarget(center_mm_lps=rim), PatchProtocol())
    assert codes(patch_warnings(patch, ball, SOFT)) == ["partly_outside_ct", "no_lung"]


def test_a_person_reads_the_text_of_the_served_graph_and_what_was_measured(patch: Patch, ball: np.ndarray) -> None:
    (warning,) = patch_warnings(with_spacing(patch, 5.0), ball, SOFT)
    assert warning.text == f"{COARSE_SPACING.text} Here: 5.00 mm."


def test_a_program_reads_code_and_text() -> None:
    told = overlap_warning(["F-1", "F-3"]).to_dict()
    assert told["code"] == "overlaps"
    assert "F-1, F-3" in told["text"]
