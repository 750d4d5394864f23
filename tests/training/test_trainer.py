import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.errors import RunError, SplitError, TaskError
from ggn_tf.models.systems import build_cascade
from ggn_tf.runs.ledger import StopReason
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import CLASSIFY, set_trainable
from ggn_tf.tasks import Task
from ggn_tf.training.tensorboard import overlays
from ggn_tf.training.trainer import plan_run
from tests.support.tiny_fit import fit, results


def stop_after(steps: int) -> Callable[[], bool]:
    left = iter(range(steps - 1, -1, -1))
    return lambda: next(left) == 0


@pytest.fixture
def finished(whole_run: RunFolder) -> RunFolder:
    return whole_run


def test_every_stage_is_entered_in_the_ledger(finished: RunFolder):
    assert finished.finished_stages() == ("segment", "classify", "joint")
    ends = [(entry["epochs"], entry["ended_code"], entry["ended"]) for entry in finished.ledger.entries()]
    assert ends == [(2, StopReason.ALL_EPOCHS, "all 2 epochs done")] * 3
    assert [path.name[:6] for path in (finished.folder / "checkpoints").iterdir()] == ["joint-"]


def test_stage_classify_moves_nothing_of_the_unet_and_joint_moves_both(finished: RunFolder):
    segment, classify, joint = (finished.load_model(stage) for stage in ("segment", "classify", "joint"))
    for before, after in zip(
        segment.get_layer("segmentation").get_weights(), classify.get_layer("segmentation").get_weights(), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    for part in ("segmentation", "classification"):
        for statistic in ("kernel", "moving_mean", "moving_variance"):
            assert changed(classify.get_layer(part), joint.get_layer(part), statistic), (part, statistic)


def changed(before, after, statistic: str) -> bool:
    pairs = zip(before.variables, after.variables, strict=True)
    return any(not np.array_equal(a, b) for a, b in pairs if a.name == statistic)


@pytest.mark.slow
def test_a_run_stopped_after_any_step_with_damaged_checkpoints_ends_in_the_same_bits(
    finished: RunFolder, tmp_path: Path, description: RunDescription, dataset: Dataset
):
    # In both epochs of the first stage, and after the last of all steps.
    for stage, steps in (("segment", 2), ("segment", 8), ("segment", None), ("classify", None), ("joint", 10)):
        if steps is None:
            run = fit(tmp_path / "run", description, dataset, stage)
        else:
            with pytest.raises(KeyboardInterrupt):
                fit(tmp_path / "run", description, dataset, stage, stop=stop_after(steps))
        if (stage, steps) in (("segment", 2), ("segment", 8)):
            # Damaged: the stage begins again, or resumes from the one before.
            newest = max((tmp_path / "run" / "checkpoints").iterdir())
            newest.write_bytes(newest.read_bytes()[:-100])
    saved = (run.folder / "stages" / "classify.keras").stat().st_mtime_ns
    run = fit(tmp_path / "run", description, dataset)
    assert (run.folder / "stages" / "classify.keras").stat().st_mtime_ns == saved
    assert results(run) == results(finished)


def test_another_seed_ends_elsewhere(
    finished: RunFolder, tmp_path: Path, description: RunDescription, dataset: Dataset
):
    other = fit(tmp_path / "run", dataclasses.replace(description, seed=8), dataset, "segment")
    assert results(other)["segment"] != results(finished)["segment"]


def test_a_diverged_run_stops_with_a_remedy_and_keeps_its_last_good_checkpoint(
    tmp_path: Path, description: RunDescription, dataset: Dataset
):
    training = description.protocol.training
    segment = dataclasses.replace(training.segment, learning_rate=1e30)
    protocol = dataclasses.replace(description.protocol, training=dataclasses.replace(training, segment=segment))
    with pytest.raises(RunError, match="Training diverged") as caught:
        fit(tmp_path / "run", dataclasses.replace(description, protocol=protocol), dataset, "segment")
    assert "learning_rates" in caught.value.arguments
    assert RunFolder.open(tmp_path / "run").finished_stages() == ()


def test_history_has_a_line_an_epoch_with_the_stages_own_losses(finished: RunFolder):
    lines = (finished.folder / "history.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == (
        "stage,epoch,learning_rate,loss,classification_loss,dice_loss,"
        "validation_loss,validation_dice,validation_accuracy"
    )
    assert [line.split(",")[:2] for line in lines[1:]] == [
        [stage, epoch] for stage in ("segment", "classify", "joint") for epoch in ("1", "2")
    ]
    segment, classify, joint = (dict(zip(lines[0].split(","), lines[i].split(","), strict=True)) for i in (1, 3, 5))
    assert segment["classification_loss"] == segment["validation_accuracy"] == "" and classify["dice_loss"] == ""
    parts = float(joint["classification_loss"]) + float(joint["dice_loss"])
    assert float(joint["loss"]) == pytest.approx(parts, abs=1e-6)


def test_tensorboard_holds_scalars_and_mask_overlays(finished: RunFolder):
    events = EventAccumulator(str(finished.folder / "tensorboard" / "joint"), size_guidance={"tensors": 0})
    events.Reload()
    assert {"loss", "validation_dice", "learning_rate"} <= set(events.Tags()["tensors"])
    assert [event.step for event in events.Tensors("validation_dice")] == [1, 2]
    assert "mask: reference green, predicted red" in events.Tags()["tensors"]


def test_overlays_show_the_largest_slice_with_both_masks():
    patch = np.full((1, 4, 4, 4, 1), -1.0)
    reference, predicted = np.zeros_like(patch), np.zeros_like(patch)
    reference[0, 2, 1:3, 1:3], predicted[0, 2, 1, 1] = 1, 1
    image = overlays(patch, reference, predicted)
    np.testing.assert_allclose(image[0, 1, 1], [0.35, 0.35, 0])
    np.testing.assert_allclose(image[0, 2, 2], [0, 0.35, 0])
    np.testing.assert_allclose(image[0, 0, 0], [0, 0, 0])


def test_set_trainable_freezes_all_but_the_stages_parts(description: RunDescription):
    model = build_cascade(2, description.protocol)
    set_trainable(model, CLASSIFY)
    assert model.get_layer("segmentation").trainable_variables == []
    assert len(model.trainable_variables) == len(model.get_layer("classification").trainable_variables) > 0


def test_a_task_whose_labels_are_not_there_is_refused(description: RunDescription, dataset: Dataset):
    with pytest.raises(TaskError, match="labels AAH, AIS, IAC, MIA"):
        plan_run(dataclasses.replace(description, task=Task.parse("1+2,4+5")), dataset, read_split(dataset, 1), "joint")


def test_a_set_without_a_class_is_refused(description: RunDescription, dataset: Dataset):
    split = dataclasses.replace(read_split(dataset, 1), validation=())
    with pytest.raises(SplitError, match="0 AAH"):
        plan_run(description, dataset, split, "joint")


def test_nodules_outside_the_task_are_left_out(description: RunDescription, dataset: Dataset):
    asked = dataclasses.replace(description, task=Task.parse("AIS,MIA"))
    plan = plan_run(asked, dataset, read_split(dataset, 1), "segment")
    labels = {dataset.case_by_id[case].label for cases in plan.cases.values() for case in cases}
    assert labels == {"AIS", "MIA"} and [stage.name for stage in plan.stages] == ["segment"]
