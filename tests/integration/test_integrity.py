"""Files that another program swapped: none is used, whoever reads it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ggn_tf
from ggn_tf.dataset.pipeline import CaseStream, read_batches
from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.errors import DatasetError, ExportError, GgnError, RunError
from ggn_tf.evaluation.run_predictions import predict_run, predict_transfer
from ggn_tf.models.systems import build_cascade
from ggn_tf.protocol import AugmentationProtocol, PatchProtocol
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.serving.export.version_writer import export_model, load_served_model
from ggn_tf.tasks import INDOLENT_INVASIVE
from ggn_tf.training.initial_model import reuse_stage
from tests.support.description_edits import edit_description
from tests.support.small_model import build_small_model
from tests.support.tiny_protocol import SIZE, TINY
from tests.support.untrained_run import write_untrained_run

PATCH = PatchProtocol(size=SIZE)
SHARD = "patches-00000-of-00001.tfrecord"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    write_untrained_run(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A dataset and a run that may be changed."""
    return Path(shutil.copytree(original, tmp_path / "copy"))


@pytest.fixture
def swapped(folder: Path) -> RunFolder:
    """A run whose last model was exchanged for another of the same form; the ledger is as it was."""
    run = RunFolder.open(folder / "run")
    build_cascade(2, run.description.protocol, seed=99).save(run.folder / "stages" / "joint.keras")
    return run


READERS: dict[str, Callable[[RunFolder, Dataset], object]] = {
    "evaluate": lambda run, dataset: predict_run(run, dataset, read_split(dataset, 1)),
    "export": lambda run, dataset: load_served_model(run),
    "the next stage": lambda run, dataset: run.load_model("joint"),
    "a study's reuse": lambda run, dataset: reuse_stage(run, run, "joint"),
    "a study's transfer": lambda run, dataset: predict_transfer(run, run, dataset, read_split(dataset, 1)),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_swapped_model_is_used_by_nobody(reader: str, swapped: RunFolder, folder: Path):
    with pytest.raises(RunError, match=r"not the one that was trained(?s:.*)joint\.keras"):
        READERS[reader](swapped, open_dataset(folder / "dataset", PATCH))


def test_a_swapped_model_counts_as_unfinished_and_is_not_copied(swapped: RunFolder):
    before = (swapped.folder / "model.keras").read_bytes()
    assert not swapped.is_complete("joint") and swapped.is_complete("classify")
    swapped.refresh_copies()
    assert (swapped.folder / "model.keras").read_bytes() == before


def test_a_model_without_a_digest_is_refused(folder: Path):
    ledger = folder / "run" / "stages.json"
    stages = json.loads(ledger.read_text(encoding="utf-8"))["stages"]
    ledger.write_text(
        json.dumps({"stages": [{k: v for k, v in stage.items() if k != "sha256"} for stage in stages]}),
        encoding="utf-8",
    )
    with pytest.raises(RunError, match="not the one that was trained"):
        RunFolder.open(folder / "run").load_model()


def test_keras_files_are_loaded_in_one_place():
    loading = [path for path in Path(ggn_tf.__file__).parent.rglob("*.py") if b"saving.load_model" in path.read_bytes()]
    assert [path.name for path in loading] == ["run_folder.py"]


@pytest.mark.parametrize("stage", ["../../elsewhere", "/tmp/joint", "joint/../joint", ["joint"], None])
def test_a_stage_in_the_ledger_cannot_lead_out_of_the_run(stage: object, folder: Path):
    ledger = folder / "run" / "stages.json"
    stages = json.loads(ledger.read_text(encoding="utf-8"))["stages"]
    ledger.write_text(json.dumps({"stages": [{**stages[0], "stage": stage}]}), encoding="utf-8")
    with pytest.raises(RunError, match="ledger is not valid"):
        RunFolder.open(folder / "run").load_model()


@pytest.mark.parametrize(
    "name",
    ["../patches-00000-of-00001.tfrecord", "/tmp/patches-00000-of-00001.tfrecord", "..", "", "dataset.json", "\0"],
)
def test_a_shards_name_cannot_lead_out_of_the_dataset(name: str, folder: Path):
    def rename(stored: dict) -> None:
        (old,) = {case["shard"] for case in stored["cases"]} - {"patches-00001-of-00002.tfrecord"}
        stored["shards"][name] = stored["shards"].pop(old)
        for case in stored["cases"]:
            case["shard"] = name if case["shard"] == old else case["shard"]

    edit_description(folder / "dataset", rename)
    with pytest.raises(DatasetError, match=r"description is damaged(?s:.*)a shard with the name"):
        open_dataset(folder / "dataset", PATCH)


@pytest.mark.parametrize("name", ["dataset.json", "splits.json", "patches-00000-of-00002.tfrecord"])
def test_a_link_in_a_dataset_is_refused(name: str, folder: Path, tmp_path: Path):
    (folder / "dataset" / name).rename(tmp_path / "elsewhere")
    (folder / "dataset" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="a link to"):
        open_dataset(folder / "dataset", PATCH)


@pytest.mark.parametrize("field", ["volume_mm3", "mean_hu", "columns", "covered_layers", "spacing_mm_zyx"])
def test_a_changed_measurement_or_column_is_refused(field: str, folder: Path):
    path = folder / "dataset" / "dataset.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    changed = {"columns": {"sex": "X"}, "covered_layers": 1, "spacing_mm_zyx": [9.0, 9.0, 9.0]}
    stored["cases"][3][field] = changed.get(field, 1.5)
    path.write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(DatasetError, match="content that does not have its SHA-256"):
        open_dataset(folder / "dataset", PATCH)


@pytest.mark.parametrize("cache", [True, False])
def test_an_exchanged_record_is_refused(cache: bool, folder: Path):
    path = folder / "dataset" / "patches-00000-of-00002.tfrecord"
    dataset = open_dataset(folder / "dataset", PATCH)
    _exchange_records(path, dataset)
    with pytest.raises(DatasetError, match="another patch than was written"):
        CaseStream(dataset, [case.case_id for case in dataset.cases], INDOLENT_INVASIVE, cache=cache)


@pytest.mark.parametrize("damage", ["exchanged", "deleted"])
def test_a_shard_that_changes_during_the_training_ends_it(damage: str, folder: Path):
    path = folder / "dataset" / "patches-00000-of-00002.tfrecord"
    dataset = open_dataset(folder / "dataset", PATCH)
    stream = CaseStream(dataset, [case.case_id for case in dataset.cases], INDOLENT_INVASIVE, cache=False)
    batches = stream.training_epoch(4, 0, 0, AugmentationProtocol())
    assert len(list(read_batches(batches, stream))) == 8
    if damage == "exchanged":
        _exchange_records(path, dataset)
    else:
        path.unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        list(read_batches(batches, stream))


def _exchange_records(path: Path, dataset: Dataset) -> None:
    """Let two records of one length change places: every checksum of TFRecord itself is right."""
    first, second, third = sorted(case.offset for case in dataset.cases if case.shard == path.name)[:3]
    content = path.read_bytes()
    path.write_bytes(content[:first] + content[second:third] + content[first:second] + content[third:])


def test_a_model_whose_golden_predictions_are_not_finite_is_not_exported(tmp_path: Path):
    model = build_small_model(classes=2)
    kernel = next(variable for variable in reversed(model.trainable_variables) if variable.name == "kernel")
    kernel.assign(np.full(kernel.shape, np.nan, np.float32))
    with pytest.raises(ExportError, match="not numbers"):
        export_model(model, INDOLENT_INVASIVE, TINY, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_an_evaluation_with_foreign_files_is_not_replaced(folder: Path):
    for name in ("notes.txt", ".gitlab-ci.yml"):
        evaluation = folder / "run" / "evaluation"
        evaluation.mkdir()
        (evaluation / "scores.json").write_text("{}", encoding="utf-8")
        (evaluation / name).write_text("mine", encoding="utf-8")
        with pytest.raises(GgnError, match=f"replace something else(?s:.*){name}"):
            ggn_tf.evaluate(folder / "run", own_dataset=folder / "dataset")
        assert (evaluation / name).read_text(encoding="utf-8") == "mine"
        shutil.rmtree(evaluation)


def test_an_evaluation_that_is_a_link_is_refused(folder: Path, tmp_path: Path):
    (tmp_path / "theirs").mkdir()
    (folder / "run" / "evaluation").symlink_to(tmp_path / "theirs")
    with pytest.raises(RunError, match="a link to"):
        ggn_tf.evaluate(folder / "run")
    assert (folder / "run" / "evaluation").is_symlink() and list((tmp_path / "theirs").iterdir()) == []
