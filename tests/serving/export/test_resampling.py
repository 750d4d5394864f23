"""The patch that the graph cuts, against SimpleITK's."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.patch_location import NoduleTarget, patch_grid
from ggn_tf.cases.patches import cut_patch_from
from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving.export.recentring import cut_patches, is_sound
from ggn_tf.serving.runtime.predict_request import LocalModel
from tests.support.chest import TURNED, lung_grid, lung_with_balls, write_nifti

PROTOCOL = PatchProtocol()
SMALL = dataclasses.replace(PROTOCOL, size=8)


def in_graph(hu, spacing_mm, center_index, protocol=PROTOCOL):
    """Of one region: [z, y, x]."""
    place = (np.asarray(part, np.float64)[None] for part in (spacing_mm, center_index))
    return np.asarray(cut_patches(np.asarray(hu, np.float32)[None], *place, protocol).hu)[0, ..., 0]


def by_simpleitk(hu, spacing_mm, center_index, protocol=PROTOCOL):
    x, y, z = (float(step) for step in spacing_mm[::-1])
    grid = Grid(hu.shape[::-1], (x, y, z), (0.0, 0.0, 0.0))
    center = tuple(grid.point_of(np.asarray(center_index)[::-1]).tolist())
    image = grid.image_of(np.asarray(hu, np.float32))
    return patch_grid(center, grid, protocol).sample(image, sitk.sitkLinear, protocol.outside_hu)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    spacing_mm=st.tuples(*[st.floats(0.3, 3.0)] * 3),
    place=st.tuples(*[st.floats(0.001, 0.999)] * 3),
    seed=st.integers(0, 2**31),
)
def test_any_region_gives_simpleitks_patch(shape, spacing_mm, place, seed):
    hu = np.random.default_rng(seed).integers(-1024, 3000, shape).astype(np.float32)
    center = np.array(place) * shape - 0.5
    # Exactly at the region's end the last bit decides, in SimpleITK as well.
    at_the_end = [
        np.min(np.abs(np.subtract.outer(center[axis] + (np.arange(8) - 3.5) * step / mm, [-0.5, shape[axis] - 0.5])))
        for axis, (step, mm) in enumerate(zip(SMALL.spacing_mm_zyx, spacing_mm, strict=True))
    ]
    if min(at_the_end) > 2e-4:
        # To the last bit of a float32 of 4,000.
        expected = by_simpleitk(hu, spacing_mm, center, SMALL)
        np.testing.assert_allclose(in_graph(hu, spacing_mm, center, SMALL), expected, atol=2.5e-4, rtol=0)


# SimpleITK 2.5: a row 100, 110, ... 140, from half a voxel before its first centre to half a voxel behind its last.
@pytest.mark.parametrize(
    ("index", "value"),
    [(-0.501, -1024), (-0.5, 100), (-0.25, 100), (0.3, 103), (4.0, 140), (4.499, 140), (4.5, -1024)],
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_region_reaches_half_a_voxel_beyond_its_outermost_centres(index, value, axis):
    shape, center = [3, 3, 3], [1.0, 1.0, 1.0]
    shape[axis], center[axis] = 5, index
    hu = np.broadcast_to(np.moveaxis(np.arange(100.0, 150, 10)[:, None, None], 0, axis), shape)
    one = dataclasses.replace(PROTOCOL, size=1)
    assert in_graph(hu, (1, 1, 1), center, one).item() == pytest.approx(value, abs=1e-3)
    assert by_simpleitk(hu, (1, 1, 1), center, one).item() == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize("turned", [False, True])
def test_a_region_of_a_volume_gives_the_patch_of_the_volume(turned, tmp_path):
    grid = lung_grid(direction=TURNED) if turned else lung_grid()
    image = lung_with_balls(grid)
    x, y, z = (np.array(grid.size_xyz) - 1) / 2 + (1.3, -2.2, 0.7)
    patch = cut_patch_from(
        write_nifti(image, tmp_path / "ct.nii"),
        NoduleTarget(center_mm_lps=tuple(grid.point_of((x, y, z)).tolist())),
        PROTOCOL,
    )
    region = sitk.GetArrayFromImage(image)[16:60, 5:55, 10:60]
    # Of the file: NIfTI knows spacing and place as float32.
    x, y, z = patch.ct_grid.index_of(patch.center_mm_lps)
    found = in_graph(region, patch.ct_grid.spacing_mm_zyx, (z - 16, y - 5, x - 10))
    np.testing.assert_allclose(found, patch.hu, atol=2.5e-4, rtol=0)


def test_a_layer_on_the_regions_first_face_is_within_it_whatever_a_float32_makes_of_its_place():
    # LIDC-IDRI-0255: slices of 2.5 mm, the centre at 0.9, so that the patch's layer 12 is at 0.9 - 3.5 / 2.5 = -0.5.
    center = np.float32([0.9, 1.0, 1.0])
    assert float(center[0]) - 3.5 / 2.5 < -0.5
    found = in_graph(np.zeros((3, 3, 3)), (2.5, 0.7, 0.7), center)
    np.testing.assert_array_equal(np.flatnonzero((found == 0).any((1, 2))), np.arange(12, 20))


def test_what_a_scanner_did_not_measure_is_air_before_it_is_interpolated():
    hu = np.full((4, 4, 4), -1024.0)
    padded = hu.copy()
    hu[:, :, 2:] = padded[:, :, 2:] = 0
    padded[:, :, :2] = -3024
    center, spacing_mm = (1.5, 1.5, 1.5), (1, 1, 1)
    np.testing.assert_array_equal(in_graph(padded, spacing_mm, center), in_graph(hu, spacing_mm, center))


def test_every_region_of_a_batch_has_its_own_spacing_and_centre():
    generator = np.random.default_rng(0)
    hu = generator.uniform(-1024, 400, (3, 20, 22, 24)).astype(np.float32)
    spacing_mm = np.array([[1, 1, 1], [0.6, 0.7, 0.8], [2.5, 0.9, 0.5]])
    center = np.array([[9, 10, 11], [4.2, 8.1, 20], [11, 3.3, 7.7]])
    found = np.asarray(cut_patches(hu, spacing_mm, center, PROTOCOL).hu)
    for row in range(3):
        expected = by_simpleitk(hu[row], spacing_mm[row], center[row])
        np.testing.assert_allclose(found[row, ..., 0], expected, atol=2.5e-4, rtol=0)


def test_covered_is_where_there_are_values():
    spacing_mm, center = np.array([[1.0, 0.7, 0.7]]), np.array([[9.5, 19.5, 4.0]])
    cut = cut_patches(np.zeros((1, 20, 40, 9), np.float32), spacing_mm, center, PROTOCOL)
    covered = np.asarray(cut.covered)[0, ..., 0]
    # 20 layers of 1 mm in 32, more than 32 rows, fewer columns.
    assert (covered.any((1, 2)).sum(), covered.any((0, 2)).sum()) == (20, 32)
    np.testing.assert_array_equal(covered, np.asarray(cut.hu)[0, ..., 0] == 0)


@pytest.mark.parametrize(
    ("spacing_mm", "center", "sound"),
    [
        ((1, 1, 1), (0, 0, 0), True),
        ((1, 1, 1), (-0.5, 3.4, 4.4), True),
        ((1, 1, 1), (-0.6, 0, 0), False),
        ((1, 1, 1), (0, 3.5, 0), False),
        ((1, 1, 1), (0, 0, np.nan), False),
        ((1, 0, 1), (0, 0, 0), False),
        ((-1, 1, 1), (0, 0, 0), False),
        ((1, np.nan, 1), (0, 0, 0), False),
        ((1, 1, np.inf), (0, 0, 0), False),
    ],
)
def test_a_patch_needs_a_spacing_and_a_centre_in_the_region(spacing_mm, center, sound):
    hu = np.zeros((1, 3, 4, 5), np.float32)
    arguments = hu, np.array([spacing_mm], np.float64), np.array([center], np.float64)
    assert np.asarray(is_sound(*arguments)).tolist() == [sound]
    assert np.isfinite(cut_patches(*arguments, PROTOCOL).hu).all()


def test_the_exported_signature_predicts_as_for_the_patch(exported, tiny):
    generator = np.random.default_rng(3)
    hu = generator.uniform(-1024, 400, (2, 30, 40, 44)).astype(np.float32)
    spacing_mm = np.array([[1.25, 0.7, 0.7], [1.0, 0.8, 0.6]])
    center = np.array([[14.2, 20.5, 22.0], [15.0, 18.3, 20.9]])
    patches = np.stack([by_simpleitk(*parts) for parts in zip(hu, spacing_mm, center, strict=True)])[..., None]
    with LocalModel(exported) as model:
        found, expected = model.predict_roi(hu, spacing_mm, center), model.predict(patches)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(found.mask, expected.mask, atol=1e-6)
    assert np.ptp(expected.probabilities, axis=0).max() > 1e-4


def test_a_region_larger_than_a_chest_costs_no_more():
    """Only the voxels around the patch's layers are read: nothing in the graph grows with the region."""
    specs = [tf.TensorSpec((None,) * 4), *[tf.TensorSpec((None, 3), tf.float64)] * 2]
    cut = tf.function(lambda *parts: cut_patches(*parts, PROTOCOL), input_signature=specs).get_concrete_function()

    def readers(tensor):
        return [operation for operation in cut.graph.get_operations() if any(tensor is x for x in operation.inputs)]

    assert {operation.type for operation in readers(cut.graph.inputs[0])} == {"Shape", "Reshape"}
    (reshape,) = (operation for operation in readers(cut.graph.inputs[0]) if operation.type == "Reshape")
    assert [operation.type for operation in readers(reshape.outputs[0])] == ["GatherV2"]
