"""The other systems of Fig. 3: raw, reference and multi-task, trained by the same loop."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.errors import RunError
from ggn_tf.evaluation.run_predictions import predict_run
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.models.cnn import build_cnn
from ggn_tf.models.systems import build_raw, build_reference
from ggn_tf.protocol import MaskingProtocol, Protocol
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import parts_of
from ggn_tf.training.initial_model import initial_model
from ggn_tf.training.trainer import plan_run
from tests.support.tiny_fit import fit, results
from tests.support.tiny_protocol import tiny_protocol

ONE_STAGE = ("raw", "reference", "multitask")


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, description: RunDescription, dataset: Dataset
) -> dict[str, RunFolder]:
    folder = tmp_path_factory.mktemp("systems")
    return {
        model: fit(folder / model, dataclasses.replace(description, model=model), dataset, stage=None)
        for model in ONE_STAGE
    }


@pytest.mark.parametrize("model", ONE_STAGE)
def test_each_has_one_stage(model: str, runs: dict[str, RunFolder]):
    assert runs[model].finished_stages() == ("classify",)


@pytest.mark.parametrize("model", ONE_STAGE)
def test_its_stage_moves_it(model: str, runs: dict[str, RunFolder]):
    before = parts_of(initial_model(runs[model].description))
    after = parts_of(runs[model].load_model())
    for name, part in before.items():
        pairs = zip(part.get_weights(), after[name].get_weights(), strict=True)
        assert not all(np.array_equal(a, b) for a, b in pairs)


def test_the_multitask_model_moves_its_decoder_and_its_branch(runs: dict[str, RunFolder]):
    before, after = initial_model(runs["multitask"].description), runs["multitask"].load_model()
    for layer in ("conv_1", "logits", "classification"):
        pairs = zip(before.get_layer(layer).get_weights(), after.get_layer(layer).get_weights(), strict=True)
        assert any(not np.array_equal(a, b) for a, b in pairs), layer


@pytest.mark.parametrize("model", ONE_STAGE)
def test_it_has_dice_only_where_it_segments(model: str, runs: dict[str, RunFolder], dataset: Dataset):
    frame = predict_run(runs[model], dataset, read_split(dataset, 1))
    assert len(frame) == len(dataset.cases)
    assert not np.isnan(probabilities(frame)).any()
    assert bool(frame["dice"].notna().all()) is (model == "multitask")
    assert bool(frame["dice"].isna().any()) is (model != "multitask")


def test_a_run_of_it_stopped_on_the_way_ends_in_the_same_bits(
    runs: dict[str, RunFolder], tmp_path: Path, description: RunDescription, dataset: Dataset
):
    asked = dataclasses.replace(description, model="reference")
    left = iter([False, False, False, True])
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run", asked, dataset, stage=None, stop=lambda: next(left))
    assert results(fit(tmp_path / "run", asked, dataset, stage=None)) == results(runs["reference"])


@pytest.mark.parametrize("select_by", ["auc", "loss"])
def test_the_weights_of_the_best_auc_or_loss_are_kept_through_a_stop(
    select_by: str, tmp_path: Path, description: RunDescription, dataset: Dataset
):
    protocol = description.protocol
    training = dataclasses.replace(protocol.training, select_by=select_by)
    asked = dataclasses.replace(description, model="raw", protocol=dataclasses.replace(protocol, training=training))
    left = iter([False] * 3 + [True])
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run", asked, dataset, stage=None, stop=lambda: next(left))
    run = fit(tmp_path / "run", asked, dataset, stage=None)
    frame = predict_run(run, dataset, read_split(dataset, 1)).query("set == 'validation'")
    label = np.array([asked.task.class_names.index(name) for name in frame["label"]])
    history, found = run.ledger.history("classify"), probabilities(frame)
    if select_by == "auc":
        scores = [float(row["validation_auc"]) for row in history]
        expected, best = roc_auc_score(label, found[:, 1]), max(scores)
    else:
        scores = [float(row["validation_classification_loss"]) for row in history]
        expected, best = -np.log(found[np.arange(len(label)), label]).mean(), min(scores)
    assert best == pytest.approx(expected, abs=1e-6)
    assert scores[run.ledger.entry("classify")["best_epoch"] - 1] == best


def test_a_stage_that_it_does_not_have_is_refused(description: RunDescription, dataset: Dataset):
    with pytest.raises(RunError, match="The model raw has no stage joint") as caught:
        plan_run(dataclasses.replace(description, model="raw"), dataset, read_split(dataset, 1), "joint")
    assert caught.value.expected == "classify" and caught.value.arguments == ("stage",)


def test_raw_and_reference_have_the_classifiers_weights():
    for build in (build_raw, build_reference):
        assert build(2, Protocol()).count_params() == 6_691_090


def test_all_start_from_the_same_classifier():
    protocol = tiny_protocol()
    expected = build_cnn(2, protocol, seed=3).get_weights()
    for build in (build_raw, build_reference):
        for a, b in zip(expected, build(2, protocol, seed=3).get_layer("classification").get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_reference_model_classifies_the_product_of_patch_and_mask():
    protocol, generator = tiny_protocol(), np.random.default_rng(0)
    model = build_reference(2, protocol)
    patch = generator.uniform(-1, 1, (2, 16, 16, 16, 1)).astype(np.float32)
    mask = generator.integers(0, 2, patch.shape).astype(np.float32)
    expected = model.get_layer("classification")(patch * mask)
    np.testing.assert_allclose(model({"patch": patch, "mask": mask})["probabilities"], expected, rtol=1e-6)


@pytest.mark.parametrize("background", [-1.0, 0.4382])
def test_outside_the_mask_is_the_protocols_background(background: float):
    protocol, generator = tiny_protocol(), np.random.default_rng(0)
    changed = dataclasses.replace(protocol, masking=MaskingProtocol(background))
    model, plain = build_reference(2, changed), build_reference(2, protocol)
    patch = generator.uniform(-1, 1, (2, 16, 16, 16, 1)).astype(np.float32)
    mask = generator.uniform(0, 1, patch.shape).astype(np.float32)
    seen = patch * mask + background * (1 - mask)
    expected = plain({"patch": seen, "mask": np.ones_like(mask)})["probabilities"]
    np.testing.assert_allclose(model({"patch": patch, "mask": mask})["probabilities"], expected, rtol=1e-5)
    # Masking of Hounsfield units before eq. 5 gives the same: the window maps linearly.
    if background > 0:
        hu = (patch + 1) / 2 * 1424 - 1024
        np.testing.assert_allclose((hu * mask + 1024) / 1424 * 2 - 1, seen, atol=1e-4)


def test_history_has_no_dice_where_nothing_is_segmented(runs: dict[str, RunFolder]):
    history = pd.read_csv(runs["raw"].folder / "history.csv")
    assert history["validation_dice"].isna().all() and history["validation_accuracy"].notna().all()
