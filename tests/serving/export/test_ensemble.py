"""The mean of several models in one export, against the exports of each of them."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from ggn_tf.cases.recentring import MOST_MOVES, mask_centroid_offset_mm, stays
from ggn_tf.errors import ExportError
from ggn_tf.serving.client.client import PredictionClient
from ggn_tf.serving.client.server_check import check_server
from ggn_tf.serving.contract.export_contract import Difference, Member, difference_of, read_contract
from ggn_tf.serving.contract.messages import Prediction
from ggn_tf.serving.export.golden_requests import sample_patches, sample_regions
from ggn_tf.serving.export.version_writer import ExportCost, export_model
from ggn_tf.serving.runtime.predict_request import LocalModel
from ggn_tf.serving.server.server import ModelServer, ServerOptions
from ggn_tf.tasks import INDOLENT_INVASIVE
from tests.support.tiny_protocol import tiny_protocol

PROTOCOL = tiny_protocol(size=8)
PATCH = PROTOCOL.patch
LEVELS_HU = (-720.0, -660.0)
MEMBERS = tuple(
    Member(run=f"s{seed}", stage="joint", split=1, seed=seed, model_sha256=str(seed), dataset_fingerprint="f")
    for seed in range(2)
)
AXES = (1, 2, 3)
MIRRORS = [axes for count in range(4) for axes in itertools.combinations(AXES, count)]


def build_model(seed: int) -> keras.Model:
    """A mask of what is dense, of which a random kernel makes another one in every mirror."""
    keras.utils.set_random_seed(seed)
    low, high = PATCH.window_hu
    level = 2 * (LEVELS_HU[seed] - low) / (high - low) - 1
    patch = keras.Input((PATCH.size,) * 3 + (1,))
    dense = keras.layers.Rescaling(30.0, -30.0 * level)(patch)
    uneven = keras.layers.Conv3D(1, 3, padding="same")(patch)
    mask = keras.layers.Activation("sigmoid", name="mask")(keras.layers.Add()([dense, uneven]))
    features = keras.layers.Conv3D(2, 3, activation="relu")(keras.layers.Multiply()([uneven, mask]))
    head = keras.layers.Dense(2, "softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=0.1))
    return keras.Model(patch, {"mask": mask, "probabilities": head(keras.layers.Flatten()(features))})


@pytest.fixture(scope="module")
def models() -> list[keras.Model]:
    return [build_model(seed) for seed in range(2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ensembles")


@pytest.fixture(scope="module")
def members(models: list[keras.Model], folder: Path) -> Iterator[list[LocalModel]]:
    """The export of each model by itself."""
    opened = [LocalModel(export_model(model, INDOLENT_INVASIVE, PROTOCOL, folder / "single")) for model in models]
    yield opened
    for model in opened:
        model.close()


@pytest.fixture(scope="module")
def costs() -> list[tuple[ExportCost, list[str]]]:
    """What was reported of the ensemble, and the names in its folder at this moment."""
    return []


@pytest.fixture(scope="module")
def ensemble(models: list[keras.Model], folder: Path, costs: list[tuple[ExportCost, list[str]]]) -> Path:
    def note(cost: ExportCost) -> None:
        costs.append((cost, [path.name for path in (folder / "mean").iterdir()]))

    return export_model(models, INDOLENT_INVASIVE, PROTOCOL, folder / "mean", members=MEMBERS, on_measured=note)


@pytest.fixture(scope="module")
def mirrored(models: list[keras.Model], folder: Path) -> Path:
    return export_model(models, INDOLENT_INVASIVE, PROTOCOL, folder / "tta", members=MEMBERS, mirrored=True)


@pytest.fixture(scope="module")
def local(ensemble: Path) -> Iterator[LocalModel]:
    with LocalModel(ensemble) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(ensemble: Path) -> Iterator[ModelServer]:
    with ModelServer(ensemble.parent, ServerOptions(port=0)) as running:
        yield running


@pytest.fixture(scope="module")
def remote(server: ModelServer) -> Iterator[PredictionClient]:
    with PredictionClient(f"127.0.0.1:{server.port}") as client:
        yield client


def assert_mean(found: Prediction, parts: list[Prediction]) -> None:
    """That a prediction is NumPy's mean and population standard deviation of its members'."""
    probabilities = np.stack([part.probabilities for part in parts]).astype(float)
    np.testing.assert_allclose(found.probabilities, probabilities.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.mask, np.mean([part.mask for part in parts], axis=0), atol=1e-6)
    np.testing.assert_allclose(found.spread, probabilities.std(axis=0, ddof=0), atol=1e-6)
    assert found.spread.min() > 1e-3 and np.ptp(found.mask) > 0.5


PATCHES = sample_patches(PATCH, 3, seed=3)
REGIONS = sample_regions(seed=4)


@pytest.mark.parametrize("source", ["local", "remote"])
def test_patches_get_the_mean_and_spread_of_the_members(
    source: str, request: pytest.FixtureRequest, members: list[LocalModel]
) -> None:
    found = request.getfixturevalue(source).predict(PATCHES)
    assert_mean(found, [member.predict(PATCHES) for member in members])


@pytest.mark.parametrize("source", ["local", "remote"])
def test_regions_get_the_mean_and_spread_of_the_members(
    source: str, request: pytest.FixtureRequest, members: list[LocalModel]
) -> None:
    found = request.getfixturevalue(source).predict_roi(*REGIONS)
    assert_mean(found, [member.predict_roi(*REGIONS) for member in members])


@pytest.mark.parametrize("source", ["local", "remote"])
def test_a_centre_moves_with_the_mean_mask(
    source: str, request: pytest.FixtureRequest, members: list[LocalModel]
) -> None:
    hu, spacing_mm, center = (part[:1] for part in REGIONS)
    given = np.add(center, (0.5, 3.0, -2.0))
    found = request.getfixturevalue(source).predict_roi(hu, spacing_mm, given, recenter=True)
    last, moves = given, 0
    for _ in range(MOST_MOVES):
        mean = np.mean([member.predict_roi(hu, spacing_mm, last).mask[0] for member in members], axis=0)
        offset = mask_centroid_offset_mm(mean[..., 0], PATCH.spacing_mm_zyx)
        if offset is None or stays(offset):
            break
        last, moves = np.round(last + offset / spacing_mm, 2), moves + 1
    assert moves > 0
    np.testing.assert_allclose(found.center_index, last, atol=1e-6)
    assert_mean(found, [member.predict_roi(hu, spacing_mm, last) for member in members])


def over_mirrors(predict: Callable[[tuple[int, ...]], Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """Mean probabilities and mask over predictions of explicit mirrors."""
    parts = {axes: predict(axes) for axes in MIRRORS}
    masks = [np.flip(part.mask, axes) for axes, part in parts.items()]
    return np.mean([part.probabilities for part in parts.values()], axis=0), np.mean(masks, axis=0)


def mirrored_region(axes: tuple[int, ...], centers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hu, spacing_mm, _ = REGIONS
    ends = np.subtract(hu.shape[1:], 1)
    flipped = [axis - 1 for axis in axes]
    moved = centers.copy()
    moved[:, flipped] = (ends - centers)[:, flipped]
    return np.flip(hu, axes).copy(), spacing_mm, moved


def test_tta_is_the_mean_over_eight_mirrors(mirrored: Path, members: list[LocalModel]) -> None:
    assert len(MIRRORS) == 8
    of_patches = [over_mirrors(lambda axes, m=member: m.predict(np.flip(PATCHES, axes))) for member in members]
    # Away from the region's end, which counts as outside and its mirror as inside.
    centers = np.tile((13.4, 16.3, 17.8), (3, 1))
    of_regions = [
        over_mirrors(lambda axes, m=member: m.predict_roi(*mirrored_region(axes, centers))) for member in members
    ]
    with LocalModel(mirrored) as model:
        regions = (*REGIONS[:2], centers)
        for found, expected in ((model.predict(PATCHES), of_patches), (model.predict_roi(*regions), of_regions)):
            for name, values in zip(("probabilities", "mask"), zip(*expected, strict=True), strict=True):
                np.testing.assert_allclose(getattr(found, name), np.mean(values, axis=0), atol=2e-6)
            np.testing.assert_allclose(found.spread, np.std([each[0] for each in expected], axis=0), atol=2e-6)
        plain = members[0].predict(PATCHES)
        assert np.abs(plain.mask - of_patches[0][1]).max() > 1e-2
        recentered = model.predict_roi(*regions, recenter=True)
        again = model.predict_roi(*REGIONS[:2], recentered.center_index)
        for name in ("probabilities", "mask", "spread"):
            np.testing.assert_allclose(getattr(recentered, name), getattr(again, name), atol=1e-6)


def test_tta_of_a_single_model_has_no_spread(models: list[keras.Model], members: list[LocalModel], tmp_path) -> None:
    with LocalModel(export_model(models[0], INDOLENT_INVASIVE, PROTOCOL, tmp_path, mirrored=True)) as model:
        found = model.predict(PATCHES)
        assert model.contract.mirrored and model.contract.members == ()
    probabilities, mask = over_mirrors(lambda axes: members[0].predict(np.flip(PATCHES, axes)))
    np.testing.assert_allclose(found.probabilities, probabilities, atol=2e-6)
    np.testing.assert_allclose(found.mask, mask, atol=2e-6)
    assert found.spread is None


def test_a_single_model_has_no_spread_and_the_contract_of_before(members: list[LocalModel]) -> None:
    assert members[0].predict(PATCHES).spread is None
    stored = members[0].contract.to_dict()
    assert stored.keys().isdisjoint({"members", "mirrored"}) and stored["tolerances"].keys() == {
        "probabilities",
        "mask",
    }


def test_a_row_without_a_prediction_has_no_spread(local: LocalModel) -> None:
    hu = PATCHES.copy()
    hu[1, 0, 0, 0] = np.nan
    assert np.isnan(local.predict(hu).spread).all(axis=1).tolist() == [False, True, False]


def test_the_contract_lists_the_members(ensemble: Path, mirrored: Path) -> None:
    contract = read_contract(ensemble)
    assert (contract.members, contract.mirrored) == (MEMBERS, False)
    assert read_contract(mirrored).mirrored
    stored = contract.to_dict()
    for signature in stored["signatures"].values():
        (spread,) = (output for output in signature["outputs"] if output["name"] == "spread")
        assert (spread["dtype"], spread["shape"]) == ("float32", (None, 2))
    card = (ensemble / "assets.extra" / "model_card.md").read_text(encoding="utf-8")
    assert "arXiv 2605.18329" in card and "| s1 | 1 | 1 | joint | 1 | f |" in card


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seed": 9}, Difference.SEEDS),
        ({"split": 2}, Difference.FOLDS),
        ({"split_digest": "other"}, Difference.FOLDS),
        ({"dataset_fingerprint": "g", "split": 2}, Difference.DATASETS),
    ],
)
def test_what_members_differ_in(change: dict[str, object], expected: Difference) -> None:
    assert difference_of([*MEMBERS, replace(MEMBERS[1], **change)]) is expected


def test_the_golden_requests_check_the_spread(ensemble: Path, server: ModelServer, folder: Path, members) -> None:
    check = check_server(f"127.0.0.1:{server.port}", ensemble, repeats=1)
    check.refuse_drift()
    assert check.signatures[0].differences.keys() == {"probabilities", "mask", "spread"}
    with ModelServer(folder / "single", ServerOptions(port=0)) as other:
        drift = check_server(f"127.0.0.1:{other.port}", ensemble, version=2, repeats=1).signatures[0].drift
    assert any("spread is missing" in line for line in drift)


def test_openvino_predicts_alike(mirrored: Path) -> None:
    openvino = pytest.importorskip("openvino")
    outputs = ["probabilities", "mask", "spread"]
    with LocalModel(mirrored) as model:
        expected = model.predict(PATCHES)
    converted = openvino.convert_model(str(mirrored), output=outputs)
    compiled = openvino.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": openvino.Type.f32})
    found = compiled(PATCHES)
    for name in outputs:
        np.testing.assert_allclose(found[name], getattr(expected, name), atol=1e-5)


def test_the_cost_is_reported_before_the_version_has_its_name(ensemble: Path, costs) -> None:
    ((cost, names),) = costs
    assert not any(name.isdigit() for name in names)
    assert cost.size_bytes == sum(file.stat().st_size for file in ensemble.rglob("*") if file.is_file())
    assert cost.patch_ms > 0


def test_a_member_that_cannot_be_served_is_named(models: list[keras.Model], tmp_path: Path) -> None:
    other = keras.Model(models[1].inputs, {"probabilities": models[1].output["probabilities"]})
    with pytest.raises(ExportError) as caught:
        export_model([models[0], other], INDOLENT_INVASIVE, PROTOCOL, tmp_path / "models", members=MEMBERS)
    assert caught.value.case == "s1"
    assert not (tmp_path / "models").exists()
