"""Recentring in the graph, against the same rule in SciPy and the client's loop."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.repair import STRICT
from ggn_tf.cases.recentring import STAYS_MM, mask_centroid_offset_mm
from ggn_tf.errors import ServingError
from ggn_tf.prediction.ct_patches import read_patches
from ggn_tf.prediction.locations import Point
from ggn_tf.prediction.nodules import predict_recentered
from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving.contract.messages import order_regions, restore_centers
from ggn_tf.serving.export.recentring import centroid_offsets_mm
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.runtime.predict_request import LocalModel
from ggn_tf.tasks import INDOLENT_INVASIVE
from tests.support.chest import CENTER, LUNG_HU, NODULE_HU, lung_grid, lung_with_balls, write_nifti
from tests.support.threshold_model import build_threshold_model
from tests.support.tiny_protocol import tiny_protocol

PROTOCOL = PatchProtocol()
GRID = lung_grid()
SHIFTS = [(0, 0, 0), (4, 0, 0), (-3, 5, 4), (0, -6, -7), (5, 5, 5)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    """Everything above a threshold is the nodule."""
    protocol = tiny_protocol(size=32)
    folder = tmp_path_factory.mktemp("ggn")
    export_model(build_threshold_model(protocol.patch), INDOLENT_INVASIVE, protocol, folder)
    with LocalModel(folder) as opened:
        yield opened


def random_masks(count: int) -> np.ndarray:
    """Blobs of several sizes, with specks and gaps, and an empty and a full one."""
    generator = np.random.default_rng(0)
    masks = []
    for number in range(count):
        noise = sitk.GetImageFromArray(generator.normal(size=(32, 32, 32)))
        blurred = sitk.GetArrayFromImage(sitk.DiscreteGaussian(noise, variance=1.0 + 2 * (number % 3)))
        masks.append(blurred > np.quantile(blurred, generator.uniform(0.9, 0.995)))
    return np.stack([*masks, np.zeros((32, 32, 32)), np.ones((32, 32, 32))]).astype(np.float32)


def test_the_centroids_are_those_of_scipy() -> None:
    masks = random_masks(40)
    offsets, found = centroid_offsets_mm(masks[..., None], PROTOCOL.spacing_mm_zyx)
    expected = [mask_centroid_offset_mm(mask, PROTOCOL.spacing_mm_zyx) for mask in masks]
    assert np.asarray(found).tolist() == [offset is not None for offset in expected]
    np.testing.assert_allclose(offsets, [offset or (0, 0, 0) for offset in expected], atol=1e-9)
    # Pieces were chosen: most centroids are not those of the whole mask.
    whole = [np.argwhere(mask).mean(axis=0) - 15.5 for mask in masks[:40]]
    assert (np.abs(np.asarray(offsets)[:40] - np.multiply(whole, PROTOCOL.spacing_mm_zyx)).max(axis=1) > 0.1).sum() > 20


def test_the_served_loop_ends_where_the_clients_does(model: LocalModel, tmp_path: Path) -> None:
    image = lung_with_balls(GRID)
    points = [Point(*np.add(CENTER, shift).tolist()) for shift in SHIFTS]
    volume, patches = read_patches(write_nifti(image, tmp_path / "ct.nii"), None, points, PROTOCOL, STRICT, 8.0)
    moved, expected = predict_recentered(volume, patches, model.predict, PROTOCOL)
    hu = np.stack([sitk.GetArrayFromImage(image).astype(np.float32)] * len(points))
    given = np.stack([volume.grid.index_of(nodule.patch.center_mm_lps)[::-1] for nodule in patches])
    found = model.predict_roi(hu, np.tile(volume.grid.spacing_mm_zyx, (len(points), 1)), given, recenter=True)
    centers = np.stack([volume.grid.index_of(nodule.patch.center_mm_lps)[::-1] for nodule in moved])
    np.testing.assert_allclose(found.center_index, centers, atol=1e-6)
    distances = [np.linalg.norm(np.subtract(n.patch.center_mm_lps, n.given_center_mm_lps)) for n in moved]
    np.testing.assert_allclose(found.moved_mm, distances, atol=1e-5)
    np.testing.assert_allclose(found.mask, expected.mask, atol=1e-4)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    assert [nodule.moves > 0 for nodule in moved] == [False, True, True, True, True]
    assert [warning.partition(":")[0] for warning in found.warnings] == ["", "", "", "moved_far", "moved_far"]


def region(boxes: list[tuple[slice, slice, slice]], shape: tuple[int, int, int] = (40, 40, 40)) -> np.ndarray:
    hu = np.full((1, *shape), LUNG_HU, np.float32)
    for box in boxes:
        hu[(0, *box)] = NODULE_HU
    return hu


def test_the_centre_moves_to_the_middle_of_a_box(model: LocalModel) -> None:
    # Voxels 20 to 27 along z, 18 to 25 along y, 10 to 17 along x.
    hu = region([(slice(20, 28), slice(18, 26), slice(10, 18))])
    found = model.predict_roi(hu, np.ones((1, 3)), np.array([[20.0, 20.0, 18.0]]), recenter=True)
    assert np.abs(found.center_index[0] - (23.5, 21.5, 13.5)).max() <= STAYS_MM
    assert found.moved_mm[0] == pytest.approx(np.linalg.norm(found.center_index[0] - (20, 20, 18)))


def test_a_centre_does_not_leave_the_region(model: LocalModel) -> None:
    # The nodule ends with the region, whose part within the patch is a corner.
    hu = region([(slice(0, 2), slice(12, 28), slice(12, 28))])
    found = model.predict_roi(hu, np.ones((1, 3)), np.array([[8.0, 19.5, 19.5]]), recenter=True)
    assert found.center_index[0, 0] >= -0.5
    assert "partly_outside_ct" in found.warnings[0]


def test_every_row_moves_by_itself_and_without_a_prediction_none(model: LocalModel) -> None:
    box = (slice(18, 24), slice(18, 24), slice(18, 24))
    hu = np.concatenate([region([box]), region([]), region([box]), region([box])])
    hu[2, 20, 20, 20] = np.nan
    centers = np.array([[20.0, 20, 24], [20, 20, 24], [20, 20, 24], [20, 20, 50]])
    found = model.predict_roi(hu, np.ones((4, 3)), centers, recenter=True)
    assert np.abs(found.center_index[0] - 20.5).max() <= STAYS_MM
    np.testing.assert_array_equal(found.center_index[1:], centers[1:])
    np.testing.assert_array_equal(found.moved_mm[1:], 0)
    assert np.isnan(found.probabilities).any(axis=1).tolist() == [False, False, True, True]
    alone = model.predict_roi(hu[:1], np.ones((1, 3)), centers[:1], recenter=True)
    np.testing.assert_array_equal(alone.center_index, found.center_index[:1])
    np.testing.assert_allclose(alone.mask, found.mask[:1], atol=1e-6)


def test_the_prediction_is_that_of_roi_at_the_last_centre(model: LocalModel) -> None:
    hu, spacing_mm = region([(slice(20, 28), slice(18, 26), slice(10, 18))]), np.array([[1.25, 0.8, 0.7]])
    found = model.predict_roi(hu, spacing_mm, np.array([[20.0, 20.0, 18.0]]), recenter=True)
    expected = model.predict_roi(hu, spacing_mm, found.center_index)
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    assert expected.center_index is None and expected.moved_mm is None


def test_centres_are_in_the_callers_order_of_axes(model: LocalModel) -> None:
    hu, spacing_mm = region([(slice(20, 28), slice(18, 26), slice(10, 18))]), np.array([[1.25, 0.8, 0.7]])
    found = model.predict_roi(hu, spacing_mm, np.array([[20.0, 20.0, 18.0]]), recenter=True)
    # From feet to head, from the back to the front, from left to right; then x, z, y.
    turned = hu[:, :, ::-1, ::-1].transpose(0, 3, 1, 2)
    center = np.array([[39 - 18.0, 20.0, 39 - 20.0]])
    again = model.predict_roi(turned, spacing_mm[:, [2, 0, 1]], center, "RSA", recenter=True)
    z, y, x = found.center_index[0]
    np.testing.assert_allclose(again.center_index[0], (39 - x, z, 39 - y), atol=1e-9)


@pytest.mark.parametrize("axes", ["SPL", "IPL", "RSA", "AIR", "PLS"])
def test_restoring_centres_is_the_inverse_of_ordering_regions(axes: str) -> None:
    center = np.array([[1.0, 2.5, 7.25], [0, 0, 0]])
    hu = np.zeros((2, 4, 6, 9))
    ordered = order_regions(hu, np.ones((2, 3)), center, axes)
    np.testing.assert_array_equal(restore_centers(ordered.center_index, hu.shape, axes), center)


def test_an_earlier_export_without_the_signature_is_refused_with_its_name(model: LocalModel) -> None:
    signatures = model._servable.signatures
    model._servable.signatures = {name: item for name, item in signatures.items() if name != "roi_recentered"}
    try:
        with pytest.raises(ServingError, match="roi_recentered"):
            model.predict_roi(region([]), np.ones((1, 3)), np.full((1, 3), 20.0), recenter=True)
    finally:
        model._servable.signatures = signatures
