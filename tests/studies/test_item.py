"""Files with the digest beside them."""

import dataclasses
import hashlib
import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

from ggn_tf.dataset.pipeline import CaseStream
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.errors import RunError
from ggn_tf.evaluation.run_predictions import predict_transfer
from ggn_tf.evaluation.statistics.predictions_table import probabilities, read_predictions
from ggn_tf.evaluation.statistics.system_predictions import split_by_system
from ggn_tf.models.systems import build_reference
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.studies.analysis import TaskResults, collect_results
from ggn_tf.studies.design import items_of
from ggn_tf.studies.item import Radiomics, WorkerChannel, WorkFolder, check_recorded, recorded
from ggn_tf.studies.pool import WorkerMessage, run_items
from ggn_tf.studies.study_report import collect_examples, write_study
from ggn_tf.studies.tables import tables_of
from ggn_tf.tasks import AIS_MIA
from tests.support.tiny_protocol import tiny_protocol
from tests.support.tiny_study import tiny_design
from tests.support.untrained_training import finish_untrained


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    with recorded(path):
        path.write_bytes(b"one")
    return path


def test_the_record_is_what_sha256sum_reads(path: Path) -> None:
    record = path.with_name("a.csv.sha256")
    assert record.read_text(encoding="utf-8") == f"{hashlib.sha256(b'one').hexdigest()}  a.csv\n"
    check_recorded(path)


def test_another_file_is_refused_and_one_without_a_record_is_accepted(path: Path) -> None:
    path.write_bytes(b"onf")
    with pytest.raises(RunError, match=r"not the one that was written(?s:.*)a\.csv"):
        check_recorded(path)
    path.with_name("a.csv.sha256").unlink()
    check_recorded(path)


def test_a_kill_while_it_is_written_leaves_no_record_of_the_former_file(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), recorded(path):
        path.write_bytes(b"two")
        raise KeyboardInterrupt
    check_recorded(path)


def test_an_unreadable_fit_is_repeated(dataset: Dataset, tmp_path: Path):
    item, folder = Radiomics("radiomics-AIS_MIA-split1-repeat1", AIS_MIA, 1, 0), WorkFolder(tmp_path, dataset, "")
    for path in (folder.predictions(item.name), folder.fitted(item.name)):
        path.parent.mkdir(parents=True)
        path.write_text("of another scikit-learn", encoding="utf-8")
    assert not item.is_done(folder)


REPEAT = "AAH+AIS_MIA+IAC-split1-repeat1"
DESIGN = tiny_design(joint_weights=(0.5, 1.0))
TASK = "AAH+AIS,MIA+IAC"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> WorkFolder:
    """A study of every system on one task, split and repeat, with two lambdas; training is tested elsewhere."""
    folder = WorkFolder(tmp_path_factory.mktemp("study") / "whole", dataset, "ggn-tf study")
    with patch("ggn_tf.studies.training.train_run", finish_untrained):
        for item in items_of(DESIGN, dataset):
            item.run(folder, WorkerChannel())
    return folder


def ignore_message(message: WorkerMessage) -> None:
    pass


def read_all(folder: WorkFolder) -> pd.DataFrame:
    return pd.concat([read_predictions(path) for path in sorted((folder.folder / "predictions").glob("*.csv"))])


@pytest.mark.slow
def test_every_system_predicts_the_same_nodules(finished: WorkFolder):
    systems = {str(cell.system) for cell in split_by_system(read_all(finished), ["test"])}
    assert systems == {
        "cascade segment",
        "cascade classify",
        "cascade joint",
        "cascade-lambda0.5 joint",
        "multitask classify",
        "raw classify",
        "reference classify",
        "transfer classify",
    }


def test_the_cascades_start_from_the_shared_unet(finished: WorkFolder):
    shared, own = (
        RunFolder.open(finished.run(f"{name}-{REPEAT}")).load_model("segment") for name in ("unet", "cascade")
    )
    for a, b in zip(
        shared.get_layer("segmentation").get_weights(), own.get_layer("segmentation").get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_another_lambda_is_that_of_a_run_of_its_own(finished: WorkFolder):
    runs = (RunFolder.open(finished.run(f"{name}-{REPEAT}")) for name in ("cascade", "cascade-lambda0.5"))
    assert [run.description.protocol.training.joint_weight for run in runs] == [1.0, 0.5]


def test_the_transfer_gives_the_reference_classifier_the_unets_mask(finished: WorkFolder, dataset: Dataset):
    classifier, segmenter = (RunFolder.open(finished.run(f"{name}-{REPEAT}")) for name in ("reference", "unet"))
    split = read_split(dataset, 1)
    frame = predict_transfer(classifier, segmenter, dataset, split)
    joined = build_reference(2, tiny_protocol())
    joined.set_weights(classifier.load_model().get_weights())
    batch = next(iter(CaseStream(dataset, split.test, classifier.description.task).in_order(32)))
    mask = segmenter.load_model("segment").get_layer("segmentation")(batch.patch)
    expected = joined({"patch": batch.patch, "mask": mask})["probabilities"]
    np.testing.assert_allclose(probabilities(frame[frame["set"] == "test"]), expected, atol=1e-6)


def test_nothing_is_done_twice(finished: WorkFolder, dataset: Dataset):
    items = items_of(DESIGN, dataset)
    messages = []
    run_items(items, finished, 1, messages.append, lambda: False)
    assert all(message.done and message.share == 1.0 for message in messages)
    assert {message.item for message in messages} == {item.name for item in items}


def test_a_study_with_other_numbers_does_not_take_over_what_is_there(finished: WorkFolder, dataset: Dataset):
    design = dataclasses.replace(tiny_design(models=("raw",)), select_on="test")
    (raw,) = items_of(design, dataset)
    assert not raw.is_done(finished)
    with pytest.raises(RunError, match="a run with other settings"):
        raw.run(finished, WorkerChannel())


def test_an_item_that_is_asked_to_stop_stops(dataset: Dataset, tmp_path: Path):
    item = items_of(tiny_design(models=("raw",)), dataset)[0]
    with pytest.raises(KeyboardInterrupt):
        item.run(WorkFolder(tmp_path, dataset, ""), WorkerChannel(stop_requested=lambda: True))


def test_an_error_of_an_item_reaches_the_user_completely(dataset: Dataset, tmp_path: Path):
    folder = WorkFolder(tmp_path / "study", dataset, "")
    (tmp_path / "study" / "predictions").mkdir(parents=True)
    item = items_of(tiny_design(models=("raw",)), dataset)[0]
    folder.run(item.name).mkdir(parents=True)
    (folder.run(item.name) / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="in use by something else"):
        run_items([item], folder, 1, ignore_message, lambda: False)


@pytest.fixture(scope="module")
def results(finished: WorkFolder) -> list[TaskResults]:
    return collect_results(DESIGN, items_of(DESIGN, finished.dataset), finished)


@pytest.fixture(scope="module")
def written(finished: WorkFolder, results: list[TaskResults]) -> Path:
    examples = collect_examples(DESIGN, results, finished, gallery=3)
    tables = tables_of(DESIGN, results)
    return write_study(DESIGN, finished.dataset, results, tables, finished.folder, examples)


def test_results_are_there_as_a_whole(written: Path):
    assert {"report.html", "model_card.md", "study.json", "tables.md", "table-2.csv", "figures"} <= {
        path.name for path in written.iterdir()
    }
    assert sorted(path.name for path in (written / "AAH+AIS_MIA+IAC").iterdir()) == [
        "comparisons.csv",
        "predictions.csv",
        "scores.csv",
    ]


def test_report_shows_the_systems_and_one_runs_nodules(written: Path):
    text = (written / "report.html").read_text(encoding="utf-8")
    for part in (
        "(a) raw CT",
        "(d) cascade, joint",
        "(e) multi-task",
        f"Task {TASK}",
        "Of one run: model cascade",
    ):
        assert part in text
    assert text.count('<article class="case"') == 3


def test_study_is_described_without_a_home_directory(written: Path):
    description = json.loads((written / "study.json").read_text(encoding="utf-8"))
    assert description["dataset"] == "dataset"
    assert str(written.parent.parent) not in (written / "report.html").read_text(encoding="utf-8")


def test_study_without_cascade_has_no_example(finished: WorkFolder, results: list[TaskResults]):
    frame = results[0].predictions
    raw = TaskResults(results[0].task, frame[frame["model"] == "raw"], (), ())
    assert collect_examples(DESIGN, [raw], finished, gallery=12) == {}
