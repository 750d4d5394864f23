"""Prediction sets and typicality of an export, in this process and behind a server."""

import json
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

import ggn_tf
from ggn_tf.dataset.pipeline import normalise_hu
from ggn_tf.errors import ServingError
from ggn_tf.evaluation.statistics.set_thresholds import ClassThreshold, SetThresholds
from ggn_tf.evaluation.statistics.typicality import fit_distribution
from ggn_tf.evaluation.uncertainty import Uncertainty
from ggn_tf.models.features import with_features
from ggn_tf.models.systems import build_cascade
from ggn_tf.serving.client.client import PredictionClient
from ggn_tf.serving.client.server_check import check_server
from ggn_tf.serving.contract.export_contract import Member, read_contract
from ggn_tf.serving.export.golden_requests import sample_patches, sample_regions
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.runtime.predict_request import LocalModel
from ggn_tf.serving.server.server import ModelServer, ServerOptions
from ggn_tf.tasks import INDOLENT_INVASIVE
from tests.support.threshold_model import build_threshold_model
from tests.support.tiny_protocol import tiny_protocol

PROTOCOL = tiny_protocol(size=16, prior=0.4)
PATCHES = sample_patches(PROTOCOL.patch, 8, seed=3)
MEMBERS = tuple(Member(f"s{seed}", "joint", 1, seed, str(seed), "f") for seed in range(2))


@pytest.fixture(scope="module")
def models() -> list[keras.Model]:
    """Untrained, with so large weights that features and probabilities differ from patch to patch."""
    built = [build_cascade(2, PROTOCOL, seed=seed) for seed in range(2)]
    for model in built:
        last = model.get_layer("classification").layers[-1]
        last.set_weights([5 * last.get_weights()[0], last.get_weights()[1]])
    return built


@pytest.fixture(scope="module")
def outputs(models: list[keras.Model]) -> list[dict[str, np.ndarray]]:
    """What Keras computes: probabilities and features of each member."""
    patches = np.asarray(normalise_hu(PATCHES, PROTOCOL.patch.window_hu))
    found = [with_features(model)(patches, training=False) for model in models]
    return [{name: np.asarray(values) for name, values in each.items()} for each in found]


@pytest.fixture(scope="module")
def uncertainty(outputs: list[dict[str, np.ndarray]]) -> Uncertainty:
    """Thresholds at the mean probabilities of two patches; the patches 0 to 3 are typical, the others are not."""
    mean = np.mean([each["probabilities"] for each in outputs], axis=0)
    classes = tuple(
        ClassThreshold(name, 20, 19, float(np.sort(mean[:, index])[3]))
        for index, name in enumerate(INDOLENT_INVASIVE.class_names)
    )
    rng = np.random.default_rng(0)
    distributions = []
    for each in outputs:
        noise = rng.normal(0, each["features"].std(), (300, each["features"].shape[1]))
        near = each["features"][:4][np.arange(300) % 4] + 0.1 * noise
        distributions.append(fit_distribution(near[:150], near[150:]))
    return Uncertainty(SetThresholds(0.9, classes), tuple(distributions))


@pytest.fixture(scope="module")
def exported(models, uncertainty, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uncertain") / "ggn"
    return export_model(models, INDOLENT_INVASIVE, PROTOCOL, folder, members=MEMBERS, uncertainty=uncertainty)


@pytest.fixture(scope="module")
def local(exported: Path) -> Iterator[LocalModel]:
    with LocalModel(exported) as opened:
        yield opened


def test_sets_are_those_of_the_mean_and_typicality_is_the_mean_of_p_values(local, uncertainty, outputs):
    found = local.predict(PATCHES)
    assert (found.in_set == uncertainty.thresholds.sets(found.probabilities)).all()
    assert 0 < (found.in_set > 0).mean() < 1
    by_member = [
        distribution.typicality(each["features"])
        for distribution, each in zip(uncertainty.distributions, outputs, strict=True)
    ]
    assert found.typicality == pytest.approx(np.mean(by_member, axis=0), abs=1.01 / 151)
    assert found.typicality[:4].min() > 0.01 > found.typicality.min()
    assert found.prediction_set(0) == tuple(np.array(found.class_names)[found.in_set[0] > 0])


def test_undecided_and_atypical_are_warned_of(local):
    found = local.predict(PATCHES)
    codes = [{line.split(":")[0] for line in lines.splitlines()} for lines in found.warnings]
    assert ["undecided" in each for each in codes] == found.in_set.all(axis=1).tolist()
    assert ["atypical" in each for each in codes] == (found.typicality < 0.01).tolist()
    assert found.in_set.all(axis=1).any() and not found.in_set.all()


def test_nothing_is_claimed_of_a_patch_without_a_prediction(local):
    found = local.predict(np.where(np.arange(8)[:, None, None, None, None] == 2, np.nan, PATCHES))
    assert np.isnan(found.in_set[2]).all() and np.isnan(found.typicality[2])
    assert found.prediction_set(2) is None and found.warnings[2].startswith("not_finite")
    assert "undecided" not in found.warnings[2] and "atypical" not in found.warnings[2]
    assert np.isfinite(np.delete(found.in_set, 2, axis=0)).all()


@pytest.mark.parametrize("recenter", [False, True])
def test_regions_have_them_too(local, uncertainty, recenter):
    found = local.predict_roi(*sample_regions(seed=0), recenter=recenter)
    assert (found.in_set == uncertainty.thresholds.sets(found.probabilities)).all()
    assert ((found.typicality > 0) & (found.typicality <= 1)).all()


def test_a_server_returns_and_checks_them(exported, local):
    with ModelServer(exported.parent, ServerOptions(port=0)) as server:
        target = f"127.0.0.1:{server.port}"
        with PredictionClient(target) as client:
            found, expected = client.predict(np.tile(PATCHES, (4, 1, 1, 1, 1))), local.predict(PATCHES)
            assert {"in_set", "typicality"} <= set(client.output_names())
        check = check_server(target, exported, repeats=1)
    assert (found.in_set == np.tile(expected.in_set, (4, 1))).all()
    assert found.typicality == pytest.approx(np.tile(expected.typicality, 4), abs=0.02)
    assert not any(part.drift for part in check.signatures)
    assert check.signatures[0].differences["typicality"] <= 0.02


def test_contract_and_card_document_them(exported, uncertainty):
    contract = read_contract(exported)
    described = contract.uncertainty
    assert (described.coverage, described.patients, described.patients_needed) == (0.9, (19, 19), 9)
    assert described.least_probabilities == tuple(uncertainty.thresholds.least_probabilities)
    assert described.held_out_nodules == (150, 150)
    document = json.loads((exported / "assets.extra" / "contract.json").read_text(encoding="utf-8"))
    for signature in document["signatures"].values():
        assert {"in_set", "typicality"} <= {tensor["name"] for tensor in signature["outputs"]}
        assert {"undecided", "atypical"} <= set(signature["warnings"])
    card = (exported / "assets.extra" / "model_card.md").read_text(encoding="utf-8")
    assert "## Uncertainty" in card and "| MIA+IAC | 19 |" in card and "150, 150" in card


def test_an_export_without_them_is_refused_by_name_where_they_are_required(tmp_path):
    plain = export_model(build_threshold_model(PROTOCOL.patch), INDOLENT_INVASIVE, PROTOCOL, tmp_path / "plain")
    assert "uncertainty" not in json.loads((plain / "assets.extra" / "contract.json").read_text(encoding="utf-8"))
    with ggn_tf.load(plain) as model:
        with pytest.raises(ServingError, match="no prediction sets") as caught:
            model.predict("ct.nii", [ggn_tf.Voxel(0, 0, 0)], sets=True)
        assert caught.value.case == str(plain)
        found = model._network.predict(PATCHES[:1])
    assert found.in_set is None and found.typicality is None and found.prediction_set(0) is None


@pytest.mark.nightly
def test_openvino_predicts_alike(exported, local):
    openvino = pytest.importorskip("openvino")
    expected, names = local.predict(PATCHES), ["probabilities", "in_set", "typicality"]
    converted = openvino.convert_model(str(exported), output=names)
    compiled = openvino.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": openvino.Type.f32})
    found = compiled(PATCHES)
    np.testing.assert_allclose(found["probabilities"], expected.probabilities, atol=1e-5)
    near = np.abs(expected.probabilities - read_contract(exported).uncertainty.least_probabilities) < 1e-5
    assert ((found["in_set"] == expected.in_set) | near).all()
    np.testing.assert_allclose(found["typicality"], expected.typicality, atol=0.02)
