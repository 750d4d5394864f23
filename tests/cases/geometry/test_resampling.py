import platform

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.geometry.resampling import sample_linear, sample_nearest

# Elsewhere ITK may be compiled with fused multiplications, which round once instead of twice.
MOST_HU = 0 if platform.machine() in ("x86_64", "AMD64") else 1e-3


@pytest.mark.parametrize("seed", range(60))
def test_the_bits_are_those_of_itk(seed: int) -> None:
    generator = np.random.default_rng(seed)
    size, first = generator.integers(2, 50, 3).tolist(), generator.integers(0, 300, 3).astype(float)
    block = Grid(tuple(size), (1.0, 1.0, 1.0), tuple(first.tolist()))
    hu = generator.normal(-600, 300, size[::-1]).astype(np.float32)
    mask = (hu > -600).astype(np.uint8)
    # Every third grid has voxels midway between others', where the nearest one is not clear.
    steps = (1.0, 0.5, 2.0) if seed % 3 == 0 else generator.uniform(0.3, 2.5, 3)
    middle = first + np.array(size) / 2 + np.rint(generator.uniform(-24, 24, 3)) / 2
    count = (24, 20, 17)
    target = Grid(count, tuple(steps), tuple((middle - (np.array(count) - 1) / 2 * steps).tolist()))
    for voxels, sample, interpolator, outside in (
        (hu, sample_linear, sitk.sitkLinear, -1024.0),
        (mask, sample_nearest, sitk.sitkNearestNeighbor, 0.0),
    ):
        expected = target.sample(block.image_of(voxels), interpolator, outside)
        found = sample(voxels, block.origin_mm_lps, target, outside)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=0, atol=MOST_HU)
