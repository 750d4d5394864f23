"""The signature `roi` on real crops, against the pipeline of SimpleITK and Keras."""

import dataclasses
from collections.abc import Iterator

import keras
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tensorflow as tf

from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import Patch, cut_patch_from
from ggn_tf.cases.tables.table import Case
from ggn_tf.dataset.pipeline import normalise_hu
from ggn_tf.models.cnn import build_cnn
from ggn_tf.protocol import CnnProtocol, Protocol
from ggn_tf.serving.contract.messages import Prediction
from ggn_tf.serving.export.recentring import cut_patches
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.runtime.predict_request import LocalModel
from ggn_tf.tasks import INDOLENT_INVASIVE
from tests.support.case_files import read_table
from tests.support.threshold_model import build_threshold_model

pytestmark = [pytest.mark.real, pytest.mark.slow]

PROTOCOL = dataclasses.replace(Protocol(), cnn=CnnProtocol(channels=(4, 4, 8, 8), fc_units=(16,)))


@pytest.fixture(scope="module", params=["float32", pytest.param("bfloat16", marks=pytest.mark.nightly)])
def precision(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(precision) -> keras.Model:
    """A cascade whose segmenter is a threshold: masks and probabilities that differ from nodule to nodule."""
    thresholds = build_threshold_model(PROTOCOL.patch)
    mask = thresholds.output["mask"]
    classifier = build_cnn(2, PROTOCOL, precision=precision, seed=4)
    for weight in classifier.weights:
        weight.assign(weight * 2 if "kernel" in weight.path else weight)
    masked = keras.layers.Multiply()([thresholds.input, mask])
    return keras.Model(thresholds.input, {"mask": mask, "probabilities": classifier(masked)})


@pytest.fixture(scope="module")
def cases(real_data) -> list[tuple[Case, Patch]]:
    table = read_table(real_data / "lidc_voi" / "cases.csv", label_column="malignancy")[::3][:200]
    return [(case, cut_patch_from(case.image, NoduleTarget(case.mask), PROTOCOL.patch)) for case in table]


@pytest.fixture(scope="module")
def served(model, tmp_path_factory) -> Iterator[LocalModel]:
    with LocalModel(export_model(model, INDOLENT_INVASIVE, PROTOCOL, tmp_path_factory.mktemp("ggn"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def answers(served, cases) -> list[Prediction]:
    """To the crops as they are stored, each with its own size and spacing."""
    return [served.predict_roi(*region(case, patch)) for case, patch in cases]


def region(case, patch):
    hu = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(case.image)), "LPS"))
    # As `cut_patch` rounds what 32-bit headers lose.
    center_xyz = np.round(patch.ct_grid.index_of(patch.center_mm_lps), 6)
    return hu[None], np.round([patch.ct_grid.spacing_mm_zyx], 6), center_xyz[::-1][None]


@pytest.fixture(scope="module")
def expected(model, cases) -> dict[str, np.ndarray]:
    hu = np.stack([patch.hu for _, patch in cases])[..., None]
    return model.predict(normalise_hu(hu, PROTOCOL.patch.window_hu), verbose=0)


def test_two_hundred_patches_are_simpleitks_to_the_bit(cases):
    cut = tf.function(lambda *parts: cut_patches(*parts, PROTOCOL.patch).hu, reduce_retracing=True)
    for case, patch in cases:
        hu, spacing_mm, center_index = region(case, patch)
        np.testing.assert_array_equal(cut(np.float32(hu), spacing_mm, center_index)[0, ..., 0], patch.hu)


def test_two_hundred_crops_are_classified_as_their_patches(answers, served, cases):
    found = np.concatenate([answer.probabilities for answer in answers])
    expected = np.concatenate([served.predict(patch.hu[None, ..., None]).probabilities for _, patch in cases])
    assert len(found) == 200
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("precision", ["float32"], indirect=True)
def test_two_hundred_crops_are_classified_alike_by_keras(answers, expected):
    found = np.concatenate([answer.probabilities for answer in answers])
    assert np.ptp(expected["probabilities"][:, 0]) > 0.1
    np.testing.assert_allclose(found, expected["probabilities"], atol=1e-3, rtol=0)


def test_two_hundred_masks_are_alike(answers, expected):
    for answer, mask in zip(answers, expected["mask"] >= 0.5, strict=True):
        found = answer.mask[0] >= 0.5
        assert 0 < mask.sum() < mask.size
        assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) >= 0.99


def test_no_crop_is_taken_for_values_that_are_no_hounsfield_units(answers):
    codes = {line.split(": ")[0] for answer in answers for line in answer.warnings[0].splitlines()}
    assert not codes & {"no_lung", "below_air", "not_finite", "bad_geometry"}


def test_a_crop_that_ends_within_the_patch_is_told(answers, cases):
    told = ["partly_outside_ct" in answer.warnings[0] for answer in answers]
    # As many layers as the protocol asks for are in few of the crops.
    high = [patch.ct_grid.size_xyz[2] * patch.ct_grid.spacing_mm_xyz[2] < 31 for _, patch in cases]
    assert all(warned for warned, short in zip(told, high, strict=True) if short)
    assert any(told)
