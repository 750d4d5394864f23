import numpy as np
import pytest

from ggn_tf.evaluation.retest import NOISE_HU, add_noise, centre_offset, mirror, thicken_slices

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
