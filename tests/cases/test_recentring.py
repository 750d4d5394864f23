"""Offsets by hand: a voxel i of 32 is (i - 15.5) steps from the centre."""

import numpy as np
import pytest

from ggn_tf.cases.recentring import MOST_STEPS, REACH_VOXELS, STAYS_MM, Offset, mask_centroid_offset_mm, stays

SPACING_MM = (1.0, 0.7, 0.7)


def mask_of(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    mask = np.zeros((32, 32, 32), np.float32)
    for box in boxes:
        mask[box] = 0.5
    return mask


def cube(first_zyx: tuple[int, int, int], size: int) -> tuple[slice, slice, slice]:
    z, y, x = (slice(first, first + size) for first in first_zyx)
    return z, y, x


@pytest.mark.parametrize(
    ("boxes", "expected_mm"),
    [
        ([cube((12, 12, 12), 8)], (0, 0, 0)),
        # Its middle is voxel (19.5, 13.5, 10.5).
        ([cube((18, 12, 9), 4)], (4.0, -1.4, -3.5)),
        # The nodule nearest to the centre counts, not the largest: its middle is voxel (17, 17, 18).
        ([cube((16, 16, 17), 3), cube((2, 2, 2), 10)], (1.5, 1.05, 1.75)),
        # The nearest in mm: 4.5 mm along z to voxel (20, 15, 15), and 5.5 voxels, 3.85 mm along x to (15, 15, 21).
        ([cube((19, 14, 14), 3), cube((14, 14, 20), 3)], (-0.5, -0.35, 3.85)),
        # A speck at the centre does not count beside a nodule, whose middle is voxel 21.5.
        ([cube((15, 15, 15), 2), cube((20, 20, 20), 4)], (6.0, 4.2, 4.2)),
        # It counts where there is nothing else.
        ([cube((15, 15, 17), 2), cube((22, 22, 22), 2)], (0, 0, 1.4)),
        # At the border of the patch: its middle is voxel (30, 15.5, 15.5), and the last layer has no neighbour behind.
        ([(slice(29, 32), slice(14, 18), slice(14, 18))], (14.5, 0, 0)),
    ],
)
def test_the_offset_is_that_of_the_nearest_nodule_in_mm_along_z_y_and_x(
    boxes: list[tuple[slice, slice, slice]], expected_mm: tuple[float, float, float]
) -> None:
    assert mask_centroid_offset_mm(mask_of(*boxes), SPACING_MM) == pytest.approx(expected_mm)


def test_a_channel_axis_changes_nothing() -> None:
    mask = mask_of(cube((18, 12, 9), 4))
    assert mask_centroid_offset_mm(mask[..., None], SPACING_MM) == mask_centroid_offset_mm(mask, SPACING_MM)


def test_values_below_a_half_are_outside() -> None:
    mask = mask_of(cube((18, 12, 9), 4))
    mask[mask == 0] = 0.4999
    assert mask_centroid_offset_mm(mask, SPACING_MM) == pytest.approx((4.0, -1.4, -3.5))


@pytest.mark.parametrize("value", [0.0, 0.4999, np.nan])
def test_a_mask_without_a_voxel_has_no_offset(value: float) -> None:
    assert mask_centroid_offset_mm(np.full((32, 32, 32), value, np.float32), SPACING_MM) is None


@pytest.mark.parametrize(("gap", "joined"), [(1, True), (2, False)])
def test_pieces_are_one_nodule_up_to_a_gap_of_one_voxel(gap: int, joined: bool) -> None:
    near = (slice(14, 18), slice(14, 18), slice(14, 18))
    far = (slice(14, 18), slice(14, 18), slice(18 + gap, 22 + gap))
    # The middles are voxel 15.5 and 19.5 + gap.
    expected = (4 + gap) / 2 * 0.7 if joined else 0
    assert mask_centroid_offset_mm(mask_of(near, far), SPACING_MM) == pytest.approx((0, 0, expected))


def test_a_piece_that_fills_the_patch_is_followed_to_its_corners() -> None:
    assert MOST_STEPS * REACH_VOXELS > 31
    mask = mask_of((slice(0, 32),) * 3)
    mask[0, 0, 0] = 0
    # 32^3 - 1 voxels: the missing one moves the centroid by 15.5 / 32767 voxels.
    assert mask_centroid_offset_mm(mask, SPACING_MM) == pytest.approx(np.multiply(SPACING_MM, 15.5 / 32767))


@pytest.mark.parametrize(
    ("offset", "expected"), [(None, True), ((0, 0, STAYS_MM), True), ((0.3, 0.3, 0), False), ((0, -0.41, 0), False)]
)
def test_the_centre_stays_within_half_a_voxel(offset: Offset | None, expected: bool) -> None:
    assert stays(offset) is expected
