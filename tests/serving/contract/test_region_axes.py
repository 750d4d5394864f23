"""Regions of a CT in the order of axes that the model takes."""

import itertools

import numpy as np
import pytest

from ggn_tf.errors import ServingError
from ggn_tf.serving.contract.messages import order_regions

GENERATOR = np.random.default_rng(0)
HU = GENERATOR.random((2, 3, 4, 5))
SPACING_MM = GENERATOR.random((2, 3))
CENTER = np.array([[0.5, 1, 2], [1, 2.25, 4]])


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("turned", list(itertools.product([False, True], repeat=3)))
def test_every_order_of_axes_becomes_spl(order: tuple[int, ...], turned: tuple[bool, ...]) -> None:
    axes = "".join(("SI", "PA", "LR")[axis][turned[axis]] for axis in order)
    flipped = np.flip(HU, [axis + 1 for axis in range(3) if turned[axis]])
    center = np.where(turned, np.array(HU.shape[1:]) - 1 - CENTER, CENTER)
    stored = flipped.transpose(0, *(axis + 1 for axis in order)), SPACING_MM[:, order], center[:, order]
    regions = order_regions(*stored, axes)
    for found, expected in zip(regions, (HU, SPACING_MM, CENTER), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("axes", ["", "SP", "SPLL", "SSL", "SIL", "spl", "ZYX"])
def test_other_axes_are_refused(axes: str) -> None:
    with pytest.raises(ServingError) as caught:
        order_regions(HU, SPACING_MM, CENTER, axes)
    assert caught.value.arguments == ("axes",)
