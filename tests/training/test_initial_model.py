import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.errors import RunError
from ggn_tf.runs.lock import lock_run
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import parts_of
from ggn_tf.studies.ablations import with_background, with_frozen_unet
from ggn_tf.studies.training import with_joint_weight
from ggn_tf.tasks import Task
from ggn_tf.training.initial_model import initial_model, reuse_stage, stage_key
from ggn_tf.training.trainer import plan_run
from tests.support.tiny_fit import fit, results

THREE_CLASSES = Task.parse("AAH+AIS,MIA,IAC")


def key(description: RunDescription, dataset: Dataset, stage: str) -> str:
    plan = plan_run(description, dataset, read_split(dataset, 1))
    return stage_key(description, plan.cases, plan.segment_cases, stage)


@pytest.fixture
def donor(whole_run: RunFolder) -> RunFolder:
    return whole_run


def adopt(folder: Path, description: RunDescription, dataset: Dataset, donor: RunFolder, *stages: str) -> RunFolder:
    with lock_run(folder):
        run = RunFolder.create(folder, description, dataset.folder, {}, "")
        for stage in stages:
            reuse_stage(run, donor, stage)
    return run


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("change", "shared", "last"),
    [
        (lambda run: dataclasses.replace(run, task=THREE_CLASSES), ("segment",), "classify"),
        (lambda run: with_joint_weight(run, 0.5), ("segment", "classify"), None),
    ],
    ids=["another task", "another lambda"],
)
def test_what_a_run_shares_continues_as_its_own(
    donor: RunFolder,
    tmp_path: Path,
    description: RunDescription,
    dataset: Dataset,
    change: Callable[[RunDescription], RunDescription],
    shared: tuple[str, ...],
    last: str | None,
):
    asked = change(description)
    assert key(asked, dataset, shared[-1]) == key(description, dataset, shared[-1])
    adopt(tmp_path / "adopted", asked, dataset, donor, *shared)
    adopted, trained = (fit(tmp_path / name, asked, dataset, last) for name in ("adopted", "trained"))
    assert results(adopted) == results(trained)


def test_another_masking_takes_the_shared_unet_and_keeps_its_own_graph(
    donor: RunFolder, tmp_path: Path, description: RunDescription, dataset: Dataset
):
    asked = with_background(description, -1024.0)
    assert key(asked, dataset, "segment") == key(description, dataset, "segment")
    assert key(asked, dataset, "classify") != key(description, dataset, "classify")
    adopted = adopt(tmp_path / "adopted", asked, dataset, donor, "segment").load_model("segment")
    expected = initial_model(asked)
    shared = donor.load_model("segment").get_layer("segmentation").get_weights()
    expected.get_layer("segmentation").set_weights(shared)
    patch = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 16, 1)).astype(np.float32)
    for name, output in expected(patch).items():
        np.testing.assert_array_equal(adopted(patch)[name], output)
    with pytest.raises(RunError, match="another task or masking"):
        adopt(tmp_path / "classifier", asked, dataset, donor, "segment", "classify")


def test_a_frozen_unet_stays_as_it_is_while_the_classifier_trains_on(
    donor: RunFolder, tmp_path: Path, description: RunDescription, dataset: Dataset
):
    asked = with_frozen_unet(description)
    assert key(asked, dataset, "classify") == key(description, dataset, "classify")
    assert key(asked, dataset, "joint") != key(description, dataset, "joint")
    adopt(tmp_path / "run", asked, dataset, donor, "segment", "classify")
    run = fit(tmp_path / "run", asked, dataset)
    before, after = (parts_of(run.load_model(stage)) for stage in ("classify", "joint"))
    moved = {
        name: any(not np.array_equal(a, b) for a, b in zip(part.get_weights(), after[name].get_weights(), strict=True))
        for name, part in before.items()
    }
    assert moved == {"segmentation": False, "classification": True}
    assert run.ledger.entry("joint")["epochs"] == description.protocol.training.joint.max_epochs


def test_an_adopted_stage_says_where_it_comes_from(
    donor: RunFolder, tmp_path: Path, description: RunDescription, dataset: Dataset
):
    run = adopt(tmp_path / "run", description, dataset, donor, "segment")
    (entry,) = run.ledger.entries()
    assert (run.folder / entry["taken_from"]).resolve() == donor.folder.resolve()


def test_tasks_share_the_unet_that_is_trained_on_every_nodule(description: RunDescription, dataset: Dataset) -> None:
    fewer = dataclasses.replace(description, task=Task.parse("AIS,MIA"))
    assert key(fewer, dataset, "segment") != key(description, dataset, "segment")
    fewer, all_labels = (dataclasses.replace(asked, segment_on="all") for asked in (fewer, description))
    assert key(fewer, dataset, "segment") == key(all_labels, dataset, "segment")
    assert key(fewer, dataset, "classify") != key(all_labels, dataset, "classify")


def test_stage_segment_trains_on_every_nodule_of_the_set(description: RunDescription, dataset: Dataset) -> None:
    split = read_split(dataset, 1)
    description = dataclasses.replace(description, task=Task.parse("AIS,MIA"), segment_on="all")
    plan = plan_run(description, dataset, split)
    segment, classify, _ = plan.stages
    assert plan.stream(dataset, segment, "train").case_ids == split.train
    assert plan.stream(dataset, classify, "train").case_ids == plan.cases["train"] != split.train
    on_task = plan_run(dataclasses.replace(description, segment_on="task"), dataset, split)
    assert on_task.stream(dataset, segment, "train").case_ids == plan.cases["train"]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"precision": "bfloat16"},
        {"select_on": "test"},
        {"dataset_fingerprint": "another"},
        {"task": Task.parse("AIS,MIA")},
    ],
)
def test_what_decides_the_unet_changes_its_key(change: dict, description: RunDescription, dataset: Dataset):
    assert key(dataclasses.replace(description, **change), dataset, "segment") != key(description, dataset, "segment")


def test_lambda_changes_the_joint_stage_alone(description: RunDescription, dataset: Dataset):
    asked = with_joint_weight(description, 0.5)
    same = [
        key(asked, dataset, stage) == key(description, dataset, stage) for stage in ("segment", "classify", "joint")
    ]
    assert same == [True, True, False]


def test_a_classifier_of_another_task_is_refused(
    donor: RunFolder, tmp_path: Path, description: RunDescription, dataset: Dataset
):
    asked = dataclasses.replace(description, task=THREE_CLASSES)
    with pytest.raises(RunError, match="cannot reuse a classifier of another task"):
        adopt(tmp_path / "run", asked, dataset, donor, "segment", "classify")


def test_a_stage_that_the_donor_has_not_finished_is_refused(
    tmp_path: Path, donor: RunFolder, description: RunDescription, dataset: Dataset
):
    young = adopt(tmp_path / "young", description, dataset, donor, "segment")
    with pytest.raises(RunError, match="has not finished that stage"):
        adopt(tmp_path / "run", description, dataset, young, "classify")
