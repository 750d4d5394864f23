import itertools

import numpy as np
import pytest
import tensorflow as tf

from ggn_tf.dataset.augmentation import (
    NO_FLIP,
    Augmentation,
    apply_augmentation,
    cut_shifted,
    draw_augmentation,
    draw_shift,
)
from ggn_tf.protocol import AugmentationProtocol, PatchProtocol

SIZE = 6
PROTOCOL = AugmentationProtocol()
STILL = AugmentationProtocol(noise_sigma=0.0)
COMBINATIONS = list(itertools.product((0, 1, 2, NO_FLIP), (0, 1, 2), (0, 1, 2, 3)))


def patches(count: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    patch = generator.uniform(-1, 1, (count, size, size, size, 1)).astype(np.float32)
    return patch, (generator.uniform(size=patch.shape) < 0.2).astype(np.float32)


def fixed_draw(flip_axis: int, rotation_axis: int, quarter_turns: int, sigma: float = 0.0) -> Augmentation:
    return Augmentation(
        tf.constant([flip_axis]),
        tf.constant([rotation_axis]),
        tf.constant([quarter_turns]),
        tf.constant([[3, 4]]),
        tf.constant([sigma]),
    )


@pytest.mark.parametrize(("flip_axis", "rotation_axis", "quarter_turns"), COMBINATIONS)
def test_geometry_equals_numpy(flip_axis: int, rotation_axis: int, quarter_turns: int) -> None:
    patch, mask = patches(1)
    moved = apply_augmentation(patch, mask, fixed_draw(flip_axis, rotation_axis, quarter_turns))
    plane = {0: (0, 1), 1: (0, 2), 2: (1, 2)}[2 - rotation_axis]
    for result, source in zip(moved, (patch, mask), strict=True):
        expected = source[0, ..., 0]
        if flip_axis != NO_FLIP:
            expected = np.flip(expected, flip_axis)
        expected = np.rot90(expected, quarter_turns, axes=plane)
        np.testing.assert_array_equal(result[0, ..., 0], expected)


def test_one_quarter_turn_about_z_takes_the_y_axis_to_the_x_axis() -> None:
    mask = np.zeros((1, SIZE, SIZE, SIZE, 1), np.float32)
    mask[0, 2, 1, 0] = 1
    moved = apply_augmentation(mask, mask, fixed_draw(NO_FLIP, 0, 1))[1]
    assert np.argwhere(moved[0, ..., 0]).tolist() == [[2, SIZE - 1, 1]]


def test_every_sample_follows_its_own_draw() -> None:
    patch, mask = patches(len(COMBINATIONS))
    flips, axes, turns = (tf.constant(column) for column in zip(*COMBINATIONS, strict=True))
    together = Augmentation(flips, axes, turns, tf.zeros([48, 2], tf.int32), tf.zeros([48]))
    moved = apply_augmentation(patch, mask, together)[0]
    for number, combination in enumerate(COMBINATIONS):
        alone = apply_augmentation(patch[number : number + 1], mask[number : number + 1], fixed_draw(*combination))[0]
        np.testing.assert_array_equal(moved[number], alone[0])


def test_the_mask_keeps_its_volume_and_stays_binary() -> None:
    patch, mask = patches(24)
    moved = apply_augmentation(patch, mask, draw_augmentation(24, tf.constant([1, 2]), PROTOCOL))[1].numpy()
    assert set(np.unique(moved)) == {0.0, 1.0}
    np.testing.assert_array_equal(moved.sum(axis=(1, 2, 3, 4)), mask.sum(axis=(1, 2, 3, 4)))


def test_patch_and_mask_share_the_geometry() -> None:
    _, mask = patches(24)
    drawn = draw_augmentation(24, tf.constant([1, 2]), STILL)
    moved_patch, moved_mask = apply_augmentation(mask, mask, drawn)
    np.testing.assert_array_equal(moved_patch, moved_mask)


def test_noise_has_the_protocols_sigma_and_no_mean() -> None:
    patch, mask = np.zeros((24, 32, 32, 32, 1), np.float32), np.zeros((24, 32, 32, 32, 1), np.float32)
    noise, untouched = apply_augmentation(patch, mask, draw_augmentation(24, tf.constant([5, 6]), PROTOCOL))
    # 786,432 values: the standard error of the mean is 0.02 / 887, that of sigma 0.02 / 1254.
    assert abs(np.mean(noise)) < 4 * 0.02 / 887
    assert abs(np.std(noise) - 0.02) < 4 * 0.02 / 1254
    assert not np.any(untouched)


def test_noise_differs_between_samples() -> None:
    zeros = np.zeros((2, SIZE, SIZE, SIZE, 1), np.float32)
    noise = apply_augmentation(zeros, zeros, draw_augmentation(2, tf.constant([0, 0]), PROTOCOL))[0].numpy()
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.3


def test_same_seed_same_draw() -> None:
    first, second = (draw_augmentation(24, tf.constant([7, 8]), PROTOCOL) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("other", [[7, 9], [8, 8]])
def test_either_half_of_the_seed_changes_every_draw(other: list[int]) -> None:
    first = draw_augmentation(64, tf.constant([7, 8]), PROTOCOL)
    second = draw_augmentation(64, tf.constant(other), PROTOCOL)
    for name in ("flip_axis", "rotation_axis", "quarter_turns", "noise_seed"):
        assert np.any(getattr(first, name) != getattr(second, name)), name


def test_draws_are_as_frequent_as_the_protocol_says() -> None:
    drawn = draw_augmentation(12000, tf.constant([0, 1]), PROTOCOL)
    # Bounds of four standard deviations: sqrt(12000 p (1 - p)).
    flips = np.bincount(drawn.flip_axis, minlength=4)
    assert abs(flips[NO_FLIP] - 6000) < 4 * 55
    assert np.all(np.abs(flips[:3] - 2000) < 4 * 41)
    assert np.all(np.abs(np.bincount(drawn.rotation_axis, minlength=3) - 4000) < 4 * 52)
    assert np.all(np.abs(np.bincount(drawn.quarter_turns, minlength=4) - 3000) < 4 * 48)


@pytest.mark.parametrize(("probability", "flipped"), [(0.0, 0), (1.0, 100)])
def test_certain_flips(probability: float, flipped: int) -> None:
    drawn = draw_augmentation(100, tf.constant([0, 1]), AugmentationProtocol(flip_probability=probability))
    assert np.sum(drawn.flip_axis != NO_FLIP) == flipped


def test_two_workers_see_what_one_sees() -> None:
    patch, mask = patches(7)
    drawn = draw_augmentation(7, tf.constant([3, 1]), PROTOCOL)
    whole = apply_augmentation(patch, mask, drawn)
    parts = [apply_augmentation(patch[part], mask[part], drawn.part(part.start, part.stop)) for part in SLICES]
    for number in range(2):
        np.testing.assert_array_equal(np.concatenate([part[number] for part in parts]), whole[number])


SLICES = (slice(0, 3), slice(3, 7))


def test_graph_and_eager_agree() -> None:
    patch, mask = patches(5)

    def augment(patch: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return apply_augmentation(patch, mask, draw_augmentation(tf.shape(patch)[0], seed, PROTOCOL))

    arguments = (tf.constant(patch), tf.constant(mask), tf.constant([2, 2]))
    for eager, graph in zip(augment(*arguments), tf.function(augment)(*arguments), strict=True):
        np.testing.assert_array_equal(eager, graph)


def test_patches_that_are_no_cubes_are_refused() -> None:
    flat = np.zeros((1, 4, 6, 6, 1), np.float32)
    with pytest.raises(ValueError, match=r"Expected cubic patches .* Received: shape \(1, 4, 6, 6, 1\)"):
        apply_augmentation(flat, flat, fixed_draw(NO_FLIP, 0, 0))


def test_shifts_are_uniform_in_a_ball() -> None:
    spacing, radius = (0.01, 0.007, 0.007), 8.0
    shift = draw_shift(20000, tf.constant([1, 2]), radius, spacing).numpy() * spacing
    distance = np.linalg.norm(shift, axis=1)
    assert distance.max() <= radius + 0.01
    # Within half of the radius there is an eighth of the ball.
    assert (distance < radius / 2).mean() == pytest.approx(1 / 8, abs=0.01)
    assert np.abs(shift.mean(axis=0)).max() < 0.1
    # The mean square along an axis is R^2 / 5.
    assert (shift**2).mean(axis=0) == pytest.approx([radius**2 / 5] * 3, rel=0.03)


def test_a_shift_is_in_whole_voxels_of_the_patch() -> None:
    shift = draw_shift(500, tf.constant([1, 2]), 8.0, (1.0, 0.7, 0.7)).numpy()
    assert np.abs(shift).max(axis=0).tolist() <= [8, 12, 12]
    assert shift.dtype == np.int32


def test_a_shifted_patch_is_cut_from_the_margin() -> None:
    protocol = PatchProtocol(size=4, spacing_mm_zyx=(1.0, 0.7, 0.7), margin_mm=2.0)
    assert (protocol.margin_zyx, protocol.stored_zyx) == ((2, 3, 3), (8, 10, 10))
    stored = np.arange(2 * 800, dtype=np.float32).reshape(2, 8, 10, 10, 1)
    cut = cut_shifted(tf.constant(stored), tf.constant([[0, 0, 0], [2, -3, 1]]), protocol).numpy()
    np.testing.assert_array_equal(cut[0], stored[0, 2:6, 3:7, 3:7])
    np.testing.assert_array_equal(cut[1], stored[1, 4:8, 0:4, 4:8])
    np.testing.assert_array_equal(protocol.without_margin(stored)[0], cut[0])
