import dataclasses
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

from ggn_tf.dataset.pipeline import normalise_hu
from ggn_tf.dataset.records import read_patches_uint8
from ggn_tf.errors import RunError
from ggn_tf.evaluation.run_predictions import predict_run
from ggn_tf.evaluation.statistics.prediction_sets import fit_thresholds
from ggn_tf.evaluation.statistics.predictions_table import nodules_of, probability_columns
from ggn_tf.evaluation.statistics.typicality import fit_distribution
from ggn_tf.evaluation.uncertainty import measure_uncertainty
from ggn_tf.models.fast.folding import fold
from ggn_tf.models.features import with_features
from ggn_tf.models.systems import build_cascade, build_multitask
from ggn_tf.runs.run_folder import RunFolder, open_run_dataset, read_run_split
from tests.support.tiny_protocol import tiny_protocol
from tests.support.untrained_run import write_untrained_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_untrained_run(tmp_path_factory.mktemp("uncertain"), stages=("joint",))


@pytest.fixture(scope="module")
def models(run: RunFolder) -> list[keras.Model]:
    return [run.load_model(), build_cascade(2, run.description.protocol, seed=7)]


@pytest.mark.parametrize("build", [build_cascade, build_multitask])
def test_features_are_the_last_layers_input_and_change_no_output(build):
    model, patch = build(3, tiny_protocol(), seed=1), np.random.default_rng(0).normal(size=(2, 16, 16, 16, 1))
    expected = model(patch, training=False)
    for network in (with_features(model), fold(with_features(model))):
        found = network(patch, training=False)
        assert found["features"].shape == (2, 8)
        for name in ("probabilities", "mask"):
            assert found[name].numpy() == pytest.approx(expected[name].numpy(), abs=1e-5)
        last = model.get_layer("classification").layers[-1]
        assert last(found["features"]).numpy() == pytest.approx(expected["probabilities"].numpy(), abs=1e-5)


def _patches(run: RunFolder, *sets: str) -> np.ndarray:
    dataset = open_run_dataset(run)
    split = read_run_split(run, dataset)
    ids = [case for name in sets for case in getattr(split, name)]
    nodules = nodules_of(dataset.select(ids), run.description.task)
    hu, _ = read_patches_uint8(dataset, [case.case_id for case in nodules])
    return np.asarray(normalise_hu(hu, dataset.protocol.window_hu))


@pytest.fixture(scope="module")
def validation_rows(run: RunFolder) -> pd.DataFrame:
    dataset = open_run_dataset(run)
    frame = predict_run(run, dataset, read_run_split(run, dataset))
    return frame[frame["set"] == "validation"]


def test_thresholds_of_a_run_are_those_of_its_evaluation(run, models, validation_rows):
    found = measure_uncertainty([run], models[:1], 0.5)
    assert found.thresholds == fit_thresholds(validation_rows, 0.5)


@pytest.mark.parametrize("changed", [{"split": 2}, {"split_digest": "f" * 64}, {"dataset_fingerprint": "f" * 64}])
def test_runs_of_different_splits_or_datasets_are_refused(run, changed):
    other = SimpleNamespace(folder=Path("other"), description=dataclasses.replace(run.description, **changed))
    with pytest.raises(RunError, match="Runs of different splits cannot have common prediction sets") as caught:
        measure_uncertainty([run, other], [None, None], 0.9)
    assert caught.value.arguments == ("coverage",) and caught.value.case == "other"


def test_distribution_is_of_training_and_held_out_nodules(run, models):
    (found,) = measure_uncertainty([run], models[:1], 0.5).distributions
    network = with_features(models[0])
    trained, held_out = (
        network(_patches(run, *sets), training=False)["features"].numpy()
        for sets in (("train",), ("validation", "test"))
    )
    expected = fit_distribution(trained, held_out)
    assert found.mean == pytest.approx(expected.mean, rel=1e-4)
    assert found.held_out == pytest.approx(expected.held_out, rel=1e-3)


@pytest.mark.parametrize(("members", "mirrored"), [(2, False), (1, True)])
def test_thresholds_of_members_and_mirrors_are_of_their_mean(run, models, validation_rows, members, mirrored):
    patches = _patches(run, "validation")
    axes = [(), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)][: None if mirrored else 1]
    flipped = np.concatenate([np.flip(patches, axis) for axis in axes])
    by_member = [model(flipped, training=False)["probabilities"].numpy() for model in models[:members]]
    mean = np.mean(by_member, axis=0).reshape(len(axes), len(patches), 2).mean(axis=0)
    rows = validation_rows.assign(**probability_columns(mean, run.description.task.class_names))
    found = measure_uncertainty([run] * members, models[:members], 0.5, mirrored=mirrored)
    expected = fit_thresholds(rows, 0.5)
    assert found.thresholds.least_probabilities == pytest.approx(expected.least_probabilities, abs=1e-6)
    assert [c.patients for c in found.thresholds.classes] == [c.patients for c in expected.classes]
    assert len(found.distributions) == members


def test_a_run_without_its_dataset_is_refused_by_name(run, models, tmp_path: Path):
    run.dataset.rename(tmp_path / "elsewhere")
    try:
        with pytest.raises(RunError, match="dataset was not found") as caught:
            measure_uncertainty([run], models[:1], 0.5)
    finally:
        (tmp_path / "elsewhere").rename(run.dataset)
    assert caught.value.case == str(run.folder)
