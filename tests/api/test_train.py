"""`fit`, `evaluate`, `export` and `study` with tiny networks."""

from pathlib import Path

import pytest

import ggn_tf
from ggn_tf.api.training_numbers import chosen_protocol, with_numbers
from ggn_tf.dataset.records import Dataset
from ggn_tf.runs.run_folder import RunFolder
from tests.support.synthetic import write_synthetic_dataset
from tests.support.tiny_fit import results
from tests.support.tiny_protocol import tiny_protocol

TASK = "AAH+AIS,MIA+IAC"


def fit(dataset: Dataset, run: Path, **arguments: object) -> ggn_tf.Run:
    tiny = {"task": TASK, "seed": 7, "precision": "float32", "protocol": tiny_protocol()}
    return ggn_tf.fit(dataset.folder, run=run, **{**tiny, **arguments})


@pytest.mark.nightly
def test_a_run_is_that_of_the_library_below(dataset: Dataset, whole_run: RunFolder, tmp_path: Path) -> None:
    plans: list[ggn_tf.TrainingPlan] = []
    seen: list[ggn_tf.TrainingProgress] = []
    run = fit(dataset, tmp_path / "run", on_start=plans.append, on_progress=seen.append)
    assert run == ggn_tf.Run(tmp_path / "run", ("segment", "classify", "joint"))
    assert results(RunFolder.open(run.folder)) == results(whole_run)
    assert len(run.history) == 6
    (plan,) = plans
    assert sum(plan.plan.class_counts["train"]) > 0 and plan.changed == ()
    ended = [progress for progress in seen if progress.scores]
    assert [(progress.stage, progress.epoch) for progress in ended] == [
        (stage, epoch) for stage in run.stages for epoch in (1, 2)
    ]
    assert all(progress.step == progress.steps for progress in ended) and "validation_dice" in ended[0].scores


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("epochs", (1, 1)),
        ("learning_rates", (0.0, 1.0, 1.0)),
        ("model", "resnet"),
        ("select_on", "train"),
        ("select_by", "f1"),
        ("segment_on", "none"),
        ("shift_mm", -1.0),
        ("shift_mm", (1.0, 2.0)),
        ("strategy", "all"),
    ],
)
def test_a_wrong_argument_is_named(dataset: Dataset, tmp_path: Path, argument: str, value: object) -> None:
    with pytest.raises(ggn_tf.GgnError) as caught:
        fit(dataset, tmp_path / "run", **{argument: value})
    assert caught.value.arguments == (argument,) and not (tmp_path / "run").exists()


def test_a_number_that_is_given_replaces_the_named_protocols() -> None:
    unchanged = dict.fromkeys(
        ("epochs", "learning_rates", "patience", "batch_size", "joint_weight", "shift_mm", "select_by")
    )
    robust = chosen_protocol("robust")
    assert with_numbers(robust, **unchanged) == robust
    found = with_numbers(robust, **{**unchanged, "shift_mm": 0.0, "select_by": "loss", "epochs": (1, 2, 3)})
    stages = (found.training.segment, found.training.classify, found.training.joint)
    assert [(stage.max_epochs, stage.shift_mm) for stage in stages] == [(1, 0.0), (2, 0.0), (3, 0.0)]
    assert found.training.select_by == "loss"


def test_shifts_beyond_the_margin_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ggn_tf.GgnError, match="shifts up to 2 mm, a margin of 0 mm") as caught:
        fit(dataset, tmp_path / "run", shift_mm=(2.0, 0.0, 0.0))
    assert caught.value.arguments == ("shift_mm", "margin_mm") and not (tmp_path / "run").exists()


@pytest.mark.nightly
def test_a_run_with_shifts_resumes_with_the_same_bits(tmp_path: Path) -> None:
    dataset = write_synthetic_dataset(tmp_path / "dataset", 24, size=16, margin_mm=3.0)
    arguments = {"shift_mm": (3.0, 1.0, 1.0), "stage": "segment"}
    whole = fit(dataset, tmp_path / "whole", **arguments)
    asked = iter([False] * 2 + [True])
    with pytest.raises(KeyboardInterrupt):
        fit(dataset, tmp_path / "stopped", stop=lambda: next(asked), **arguments)
    stopped = fit(dataset, tmp_path / "stopped", **arguments)
    assert results(RunFolder.open(stopped.folder)) == results(RunFolder.open(whole.folder))
    still = fit(dataset, tmp_path / "still", stage="segment")
    assert results(RunFolder.open(still.folder)) != results(RunFolder.open(whole.folder))


def test_numbers_are_those_given(dataset: Dataset, tmp_path: Path) -> None:
    numbers = {"epochs": (1, 2, 3), "learning_rates": (0.1, 0.2, 0.3), "patience": (4, 5, 6)}
    stop = pytest.raises(KeyboardInterrupt)
    with stop:
        fit(dataset, tmp_path / "run", stop=lambda: True, batch_size=5, joint_weight=0.5, select_by="auc", **numbers)
    training = RunFolder.open(tmp_path / "run").description.protocol.training
    stages = (training.segment, training.classify, training.joint)
    assert [(stage.max_epochs, stage.learning_rate, stage.patience) for stage in stages] == [
        (1, 0.1, 4),
        (2, 0.2, 5),
        (3, 0.3, 6),
    ]
    assert (training.batch_size, training.joint_weight, training.select_by) == (5, 0.5, "auc")


@pytest.mark.nightly
def test_a_study_reports_progress_and_its_tables(dataset: Dataset, tmp_path: Path) -> None:
    plans: list[ggn_tf.StudyPlan] = []
    seen: list[ggn_tf.StudyProgress] = []
    study = ggn_tf.study(
        dataset.folder,
        tmp_path / "study",
        tasks=[TASK],
        models=["raw"],
        splits=[1],
        repeats=1,
        protocol=tiny_protocol(1),
        precision="float32",
        gallery=0,
        on_start=plans.append,
        on_progress=seen.append,
    )
    assert (study.folder / "report.html").is_file() and study.tables
    assert plans[0].items == 1 and seen[-1].work_done == 1.0 and seen[-1].items_done == 1
