"""The output `warning`, by a model whose mask is computed from its input."""

import dataclasses

import keras
import numpy as np
import pytest

from ggn_tf.protocol import Protocol
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.runtime.predict_request import LocalModel
from ggn_tf.tasks import THREE_CLASSES

SIZE = 8
LUNG, SOFT, DENSE = -850.0, -300.0, 300.0


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model whose mask is where the input is above -400 HU."""
    protocol = dataclasses.replace(Protocol(), patch=dataclasses.replace(Protocol().patch, size=SIZE))
    low, high = protocol.patch.window_hu
    patch = keras.Input((SIZE, SIZE, SIZE, 1))
    edge = (-400 - low) / (high - low) * 2 - 1
    mask = keras.layers.Rescaling(1000.0, offset=-1000.0 * edge)(patch)
    mask = keras.layers.Activation("sigmoid", name="mask")(mask)
    probabilities = keras.layers.Dense(3, "softmax")(keras.layers.GlobalAveragePooling3D()(mask))
    built = keras.Model(patch, {"mask": mask, "probabilities": probabilities})
    with LocalModel(export_model(built, THREE_CLASSES, protocol, tmp_path_factory.mktemp("ggn"))) as opened:
        yield opened


def lung_with(nodule_hu=SOFT, place=(slice(3, 5),) * 3):
    hu = np.full((1, SIZE, SIZE, SIZE, 1), LUNG, np.float32)
    hu[(0, *place)] = nodule_hu
    return hu


def codes(prediction):
    return [[line.split(": ")[0] for line in warning.splitlines()] for warning in prediction.warnings]


def test_a_nodule_in_lung_needs_none(model):
    assert model.predict(lung_with()).warnings == ("",)


def test_every_patch_of_a_batch_has_its_own(model):
    batch = np.concatenate([lung_with(), lung_with(LUNG), lung_with(DENSE)])
    assert codes(model.predict(batch)) == [[], ["no_nodule"], ["dense"]]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("layer", [0, SIZE - 1])
def test_a_nodule_at_any_face_may_be_larger(axis, layer, model):
    place = [slice(3, 5)] * 3
    place[axis] = slice(layer, layer + 1)
    assert codes(model.predict(lung_with(SOFT, tuple(place)))) == [["larger_than_patch"]]


def test_one_layer_from_every_face_is_within(model):
    assert codes(model.predict(lung_with(SOFT, (slice(1, -1),) * 3))) == [[]]


@pytest.mark.parametrize(("dense_voxels", "expected"), [(3, []), (4, ["dense"])])
def test_more_than_a_twentieth_denser_than_soft_tissue(dense_voxels, expected, model):
    hu = lung_with(SOFT, (slice(2, 6),) * 3)  # 64 voxels, of which 5 % are 3.2
    hu[0, 3, 3, 2 : 2 + dense_voxels] = DENSE
    assert codes(model.predict(hu)) == [expected]


@pytest.mark.parametrize(("lung_voxels", "expected"), [(5, ["no_lung"]), (6, [])])
def test_less_than_a_hundredth_of_lung(lung_voxels, expected, model):
    hu = lung_with(SOFT, (slice(1, -1),) * 3)  # 512 voxels, of which 1 % are 5.12
    hu[hu == LUNG] = -450.0
    hu.reshape(-1)[:lung_voxels] = LUNG
    assert codes(model.predict(hu)) == [expected]


@pytest.mark.parametrize("foreign", [lambda hu: (hu + 1024) / 1424, lambda hu: hu + 1024], ids=["0 to 1", "stored"])
def test_values_that_are_no_hounsfield_units(foreign, model):
    assert "no_lung" in codes(model.predict(foreign(lung_with())))[0]


def test_the_intercept_taken_twice(model):
    assert "below_air" in codes(model.predict(lung_with() - 1024))[0]


def test_what_lies_outside_the_ct_is_neither_lung_nor_below_air(model):
    hu = lung_with()
    hu[:, :3] = hu[:, 5:] = -1024.0
    assert codes(model.predict(hu)) == [[]]
    hu[hu == LUNG] = -450.0
    assert codes(model.predict(hu)) == [["no_lung"]]


def test_nothing_but_what_lies_outside(model):
    assert codes(model.predict(np.full_like(lung_with(), -1024.0))) == [["below_air", "no_nodule"]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_have_no_prediction_and_leave_the_other_rows_theirs(value, model):
    hu = np.concatenate([lung_with(), lung_with()])
    hu[0, 1, 1, 1] = value
    prediction = model.predict(hu)
    assert codes(prediction) == [["not_finite"], []]
    assert np.isnan(prediction.probabilities[0]).all() and np.isnan(prediction.mask[0]).all()
    assert np.isfinite(prediction.probabilities[1]).all() and np.isfinite(prediction.mask[1]).all()


def predict_roi(model, spacing_mm=(1.0, 0.7, 0.7), center_index=(7.5, 7.5, 7.5), hu=None):
    if hu is None:
        hu = np.full((1, 16, 16, 16), LUNG)
        hu[:, 7:9, 7:9, 7:9] = SOFT
    return model.predict_roi(hu, np.array([spacing_mm]), np.array([center_index]))


def test_a_region_that_contains_the_patch_needs_none(model):
    assert predict_roi(model).warnings == ("",)


@pytest.mark.parametrize(("last", "expected"), [(12.4, []), (12.6, ["partly_outside_ct"])])
def test_a_region_that_ends_within_the_patch(last, expected, model):
    # The patch's last layer is 3.5 layers behind its centre; the region ends at 15.5.
    hu = np.full((1, 16, 16, 16), LUNG)
    hu[:, 11:14, 7:9, 7:9] = SOFT
    assert codes(predict_roi(model, center_index=(last - 0.5, 7.5, 7.5), hu=hu)) == [expected]


@pytest.mark.parametrize(("spacing_mm", "expected"), [(2.5, []), (2.50001, []), (2.6, ["coarse_spacing"])])
def test_slices_further_apart_than_two_and_a_half_millimetres(spacing_mm, expected, model):
    assert codes(predict_roi(model, spacing_mm=(spacing_mm, 0.7, 0.7))) == [expected]


@pytest.mark.parametrize(
    "geometry",
    [
        {"spacing_mm": (1.0, 0.0, 0.7)},
        {"spacing_mm": (1.0, -0.7, 0.7)},
        {"center_index": (7.5, 7.5, 15.6)},
        {"center_index": (np.nan, 7.5, 7.5)},
    ],
)
def test_a_geometry_without_a_patch_has_no_prediction(geometry, model):
    prediction = predict_roi(model, **geometry)
    assert codes(prediction) == [["bad_geometry"]]
    assert np.isnan(prediction.probabilities).all()


def test_the_contract_contains_every_code_with_its_text(model):
    default, roi, recentered = (
        {kind.code: kind.text for kind in signature.warnings} for signature in model.contract.signatures
    )
    assert set(roi) - set(default) == {"bad_geometry", "partly_outside_ct", "coarse_spacing"}
    assert set(recentered) - set(roi) == {"moved_far"}
    (warning,) = model.predict(lung_with(LUNG)).warnings
    assert warning == "no_nodule: " + default["no_nodule"]
