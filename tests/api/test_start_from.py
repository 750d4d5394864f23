"""Runs that start from existing weights, with tiny networks."""

import dataclasses
import io
import json
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import ggn_tf
from ggn_tf.api.start_from import open_source
from ggn_tf.cli.terminal import training_text
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.errors import ExportError, GgnError, RunError
from ggn_tf.models.named_layers import named_layers
from ggn_tf.models.systems import BUILDERS
from ggn_tf.runs.ledger import read_json
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.started_from import TrainedOn
from ggn_tf.tasks import Task
from ggn_tf.training.initial_model import initial_model, reuse_stage
from ggn_tf.training.start_weights import hash_weights, keep_start, run_source
from ggn_tf.training.trainer import Plan, plan_run, started_plan
from tests.support.synthetic import write_synthetic_dataset
from tests.support.tiny_fit import results, tiny_description
from tests.support.tiny_protocol import tiny_protocol

TASK, THREE = "AAH+AIS,MIA+IAC", "AAH+AIS,MIA,IAC"
HEAD = "classification/probabilities"


def weights(model: keras.Model) -> dict[str, str]:
    return {name: hash_weights(layer.get_weights()) for name, layer in named_layers(model).items()}


def planned(dataset: Dataset, *, task: str = TASK, model: str = "cascade", split: int = 1) -> Plan:
    changed = {"task": Task.parse(task), "model": model, "split": split, "seed": 1}
    description = RunDescription(**{**vars(tiny_description(dataset)), **changed})
    return plan_run(description, dataset, read_split(dataset, split))


def started(dataset: Dataset, path: Path, freeze: int = 0, **changed: object) -> Plan:
    plan, nowhere = planned(dataset, **changed), path.parent / "nowhere"
    return started_plan(plan, nowhere, path, partial(open_source, path, dataset), dataset, freeze)


def start_model(plan: Plan) -> keras.Model:
    assert plan.start is not None
    return plan.start.model(plan.description)


def saved(folder: Path, kind: str, classes: int = 2, **numbers: int) -> Path:
    """A `.keras` file of an untrained network of another seed."""
    model = BUILDERS[kind](classes, tiny_protocol(**numbers), seed=5)
    model.save(folder / f"{kind}.keras")
    return folder / f"{kind}.keras"


@pytest.fixture(scope="module")
def cascade_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("file"), "cascade")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, whole_run: RunFolder) -> Path:
    return ggn_tf.export(whole_run.folder, tmp_path_factory.mktemp("models") / "ggn")


@pytest.mark.parametrize("task", [TASK, THREE])
def test_a_run_gives_what_keras_loads_with_skip_mismatch(dataset: Dataset, whole_run: RunFolder, task: str) -> None:
    plan = started(dataset, whole_run.folder, task=task)
    expected = initial_model(plan.description)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected.load_weights(whole_run.model_file(), skip_mismatch=True)
    assert weights(start_model(plan)) == weights(expected)
    record = plan.description.start_from
    assert record is not None and record.initialised == (() if task == TASK else (HEAD,))


def test_classes_of_other_names_get_a_new_head(dataset: Dataset, whole_run: RunFolder) -> None:
    record = started(dataset, whole_run.folder, task="AAH,IAC").description.start_from
    assert record is not None and record.initialised == (HEAD,) and record.task == TASK


@pytest.mark.parametrize(
    ("source", "model", "shared"),
    [
        ("cascade", "raw", {"classification"}),
        ("cascade", "reference", {"classification"}),
        ("cascade", "multitask", {"segmentation"}),
        ("raw", "cascade", {"classification"}),
        ("reference", "raw", {"classification"}),
        ("multitask", "cascade", {"segmentation"}),
        ("multitask", "multitask", {"segmentation", "branch"}),
    ],
)
def test_another_kind_of_model_gives_the_shared_part(
    dataset: Dataset, tmp_path: Path, source: str, model: str, shared: set[str]
) -> None:
    plan = started(dataset, saved(tmp_path, source), model=model)
    donor = weights(BUILDERS[source](2, tiny_protocol(), seed=5))
    own = weights(initial_model(plan.description))
    expected = {name: donor[name] if name.split("/")[0] in shared else value for name, value in own.items()}
    assert weights(start_model(plan)) == expected
    record = plan.description.start_from
    assert record is not None and set(record.taken) == {name for name in own if name.split("/")[0] in shared}


def test_of_a_run_of_stage_segment_alone_the_unet_is_taken(
    dataset: Dataset, whole_run: RunFolder, tmp_path: Path, description: RunDescription
) -> None:
    run = RunFolder.create(tmp_path / "run", description, dataset.folder, {}, "")
    reuse_stage(run, whole_run, "segment")
    record = started(dataset, run.folder).description.start_from
    assert record is not None and {name.split("/")[0] for name in record.taken} == {"segmentation"}


def test_an_export_gives_the_weights_of_its_run(dataset: Dataset, whole_run: RunFolder, exported: Path) -> None:
    plan = started(dataset, exported.parent)
    assert weights(start_model(plan)) == weights(start_model(started(dataset, whole_run.folder)))
    record = plan.description.start_from
    assert record is not None and (record.kind, record.name, record.task) == ("export", "ggn", TASK)
    assert not record.patients_checked and record.dataset_fingerprint == dataset.fingerprint


def test_weights_in_half_precision_are_taken(dataset: Dataset, cascade_file: Path, tmp_path: Path) -> None:
    content = io.BytesIO(zipfile.ZipFile(cascade_file).read("model.weights.h5"))
    with h5py.File(content, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for name in [name for name in names if isinstance(file[name], h5py.Dataset)]:
            values = file[name][()].astype(np.float16)
            del file[name]
            file[name] = values
    half = with_part(cascade_file, tmp_path / "half.keras", "model.weights.h5", content.getvalue())
    model = start_model(started(dataset, half))
    whole = BUILDERS["cascade"](2, tiny_protocol(), seed=5)
    for taken, original in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(taken, original.astype(np.float16).astype(np.float32))


def with_part(source: Path, file: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, "w") as new:
        for part in old.namelist():
            new.writestr(part, content if part == name else old.read(part))
    return file


def test_patients_of_its_training_are_refused_in_the_test_set(dataset: Dataset, whole_run: RunFolder) -> None:
    with pytest.raises(GgnError, match="patients of the test set") as caught:
        started(dataset, whole_run.folder, split=2)
    learned = set(read_split(dataset, 1).train) | set(read_split(dataset, 1).validation)
    patients = {case.patient_id for case in dataset.select(sorted(learned & set(read_split(dataset, 2).test)))}
    assert str(caught.value.found).startswith(f"{len(patients)} patients") and "split" in caught.value.arguments


def test_patients_of_its_training_set_are_refused_in_the_validation_set(dataset: Dataset, whole_run: RunFolder) -> None:
    first, plan = read_split(dataset, 1), planned(dataset)
    opened = partial(run_source, whole_run.folder, dataset)
    for stage, sets in ((plan.stages, "segment_cases"), (plan.stages[1:], "cases")):
        validating = {**plan.cases, "validation": first.train[:1]}
        changed = dataclasses.replace(plan, stages=stage, **{sets: validating})
        with pytest.raises(RunError, match="patients of the validation set") as caught:
            started_plan(changed, whole_run.folder.parent / "nowhere", whole_run.folder, opened, dataset)
        assert str(caught.value.found).startswith("1 patients") and "split" in caught.value.arguments


def test_whom_one_source_has_trained_on_does_not_only_select() -> None:
    selected, trained = TrainedOn(("a", "b"), ("x",), ("a", "b", "x")), TrainedOn(("b", "c"), ("y",))
    joined = trained.joined(selected)
    assert joined == selected.joined(trained) == TrainedOn(("a", "b", "c"), ("x", "y"), ("a", "x"))
    assert joined.training_sets() == TrainedOn(("b", "c"), ("y",))


def test_its_nodules_are_recognised_under_other_ids(tmp_path: Path, whole_run: RunFolder) -> None:
    other = write_synthetic_dataset(tmp_path / "other", 32, size=16, site="b", margin_mm=0.0, seed=0, splits=9)
    with pytest.raises(GgnError, match="identical patches under other ids"):
        for split in range(2, 10):
            started(other, whole_run.folder, split=split)


def test_patients_of_the_source_of_a_source_are_refused(
    dataset: Dataset, whole_run: RunFolder, tmp_path: Path, cascade_file: Path
) -> None:
    first = started(dataset, whole_run.folder)
    assert first.start is not None
    elsewhere = write_synthetic_dataset(tmp_path / "elsewhere", 24, size=16, site="b", seed=9)
    description = RunDescription(
        **{**vars(tiny_description(elsewhere)), "start_from": first.description.start_from, "seed": 3}
    )
    second = RunFolder.create(tmp_path / "second", description, elsewhere.folder, {}, "")
    second.keep_source_cases(first.start.trained_on)
    reuse_stage(second, whole_run, "segment")
    with pytest.raises(GgnError, match="patients of the test set"):
        started(dataset, second.folder, split=2)
    assert open_source(second.folder, dataset).patients_known


def test_a_source_without_its_dataset_cannot_be_checked(tmp_path: Path, whole_run: RunFolder) -> None:
    lost = tmp_path / "moved" / "run"
    shutil.copytree(whole_run.folder, lost)
    other = write_synthetic_dataset(tmp_path / "other", 24, size=16, site="b", seed=9)
    record = started(other, lost).description.start_from
    assert record is not None and not record.patients_checked


def edited_config(good: Path, file: Path, old: bytes, new: bytes) -> Path:
    config = zipfile.ZipFile(good).read("config.json")
    assert old in config
    return with_part(good, file, "config.json", config.replace(old, new))


BAD_FILES: dict[str, Callable[[Path, Path], object]] = {
    "a pickle": lambda file, good: file.write_bytes(pickle.dumps({"weights": [1.0]})),
    "HDF5": lambda file, good: file.write_bytes(zipfile.ZipFile(good).read("model.weights.h5")),
    "truncated": lambda file, good: file.write_bytes(good.read_bytes()[:-3000]),
    "empty": lambda file, good: file.write_bytes(b""),
    "a folder": lambda file, good: file.mkdir(),
    "missing": lambda file, good: None,
    "a foreign network": lambda file, good: keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(file),
    "other layers": lambda file, good: edited_config(good, file, b"conv_6", b"conv_7"),
    "no configuration": lambda file, good: with_part(good, file, "config.json", b"[]"),
    "a nested configuration": lambda file, good: with_part(good, file, "config.json", b"[" * 10**6 + b"]" * 10**6),
    "many classes": lambda file, good: edited_config(good, file, b'"units": 2,', b'"units": 999999999,'),
    "damaged weights": lambda file, good: with_part(good, file, "model.weights.h5", b"\x89HDF\r\n" + bytes(4000)),
    "weights that are not finite": lambda file, good: not_finite(file),
    "weights behind a link": lambda file, good: linked(file, good),
    "wider": lambda file, good: BUILDERS["cascade"](2, dataclasses.replace(tiny_protocol(), cnn=WIDER)).save(file),
    "patches of 32": lambda file, good: BUILDERS["cascade"](2, tiny_protocol(size=32)).save(file),
}
WIDER = dataclasses.replace(tiny_protocol().cnn, channels=(2, 2, 8, 8))


def not_finite(file: Path) -> None:
    model = BUILDERS["cascade"](2, tiny_protocol())
    layer = named_layers(model)[HEAD]
    layer.set_weights([weight + np.nan for weight in layer.get_weights()])
    model.save(file)


def linked(file: Path, good: Path) -> Path:
    content = io.BytesIO(zipfile.ZipFile(good).read("model.weights.h5"))
    (file.parent / "other.h5").write_bytes(content.getvalue())
    with h5py.File(content, "r+") as weights_file:
        del weights_file["layers"]
        weights_file["layers"] = h5py.ExternalLink(str(file.parent / "other.h5"), "/layers")
    return with_part(good, file, "model.weights.h5", content.getvalue())


@pytest.mark.parametrize("name", BAD_FILES)
def test_what_is_no_source_is_refused_before_anything_is_written(
    dataset: Dataset, tmp_path: Path, cascade_file: Path, name: str
) -> None:
    file = tmp_path / "weights.keras"
    BAD_FILES[name](file, cascade_file)
    with pytest.raises(GgnError) as caught:
        fit(dataset, tmp_path / "run", start_from=file)
    assert "start_from" in caught.value.arguments and caught.value.remedy
    assert not (tmp_path / "run").exists()


def fit(dataset: Dataset, run: Path, **arguments: object) -> ggn_tf.Run:
    tiny = {"task": TASK, "precision": "float32", "protocol": tiny_protocol(epochs=1), "stage": "segment"}
    return ggn_tf.fit(dataset.folder, run=run, **{**tiny, **arguments})


def test_a_folder_of_several_runs_is_refused(dataset: Dataset, tmp_path: Path, whole_run: RunFolder) -> None:
    shutil.copytree(whole_run.folder, tmp_path / "cv" / "fold1")
    with pytest.raises(GgnError, match="name one"):
        started(dataset, tmp_path / "cv")


def test_an_export_without_weights_or_with_other_ones_is_refused(
    dataset: Dataset, exported: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "1"
    shutil.copytree(exported, copy)
    file = copy / "assets.extra" / "model.keras"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ExportError, match="has changed"):
        started(dataset, copy)
    file.unlink()
    sums = copy / "assets.extra" / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.open() if "model.keras" not in line))
    with pytest.raises(GgnError, match="can be trained"):
        started(dataset, copy)


def test_a_source_of_another_window_is_refused(dataset: Dataset, tmp_path: Path, whole_run: RunFolder) -> None:
    other = tmp_path / "run"
    shutil.copytree(whole_run.folder, other)
    stored = json.loads((other / "run.json").read_text())
    stored["protocol"]["patch"]["window_hu"] = [-1000.0, 300.0]
    del stored["sha256"]
    (other / "run.json").write_text(json.dumps(stored))
    with pytest.raises(GgnError, match="other patches") as caught:
        started(dataset, other)
    assert "window_hu (-1000.0, 300.0)" in str(caught.value.found)


def test_nothing_shared_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(GgnError, match="shares no trained layer") as caught:
        started(dataset, saved(tmp_path, "multitask"), model="raw")
    assert caught.value.arguments == ("start_from", "model")


@pytest.mark.parametrize("freeze", [7, -1])
def test_blocks_that_are_not_there_cannot_be_frozen(dataset: Dataset, cascade_file: Path, freeze: int) -> None:
    with pytest.raises(GgnError, match="at most 6") as caught:
        started(dataset, cascade_file, freeze)
    assert caught.value.arguments == ("freeze",)


def test_blocks_without_a_source_cannot_be_frozen(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(GgnError) as caught:
        fit(dataset, tmp_path / "run", freeze=1)
    assert caught.value.arguments == ("freeze", "start_from") and not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, whole_run: RunFolder) -> Path:
    folder = tmp_path_factory.mktemp("sources") / "source"
    shutil.copytree(whole_run.folder, folder)
    return folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, source: Path) -> tuple[ggn_tf.Run, str]:
    """A run of stage segment with three frozen blocks, and its banner."""
    shown: list[str] = []
    folder = tmp_path_factory.mktemp("begun") / "run"
    run = fit(dataset, folder, start_from=source, freeze=3, on_start=lambda plan: shown.append(training_text(plan)))
    return run, shown[0]


def test_the_record_names_source_and_layers(begun: tuple[ggn_tf.Run, str], whole_run: RunFolder) -> None:
    run, banner = begun
    record = read_json(run.folder / "run.json")["start_from"]
    entry = whole_run.ledger.entry("joint")
    assert entry is not None and record["sha256"] == entry["sha256"]
    assert (record["kind"], record["name"], record["task"], record["patients_checked"]) == ("run", "source", TASK, True)
    assert record["dataset_fingerprint"] == whole_run.description.dataset_fingerprint
    assert record["initialised"] == [] and len(record["taken"]) == len(named_layers(whole_run.load_model()))
    assert "source" in banner and "a tenth" in banner


def test_default_learning_rates_are_a_tenth(begun: tuple[ggn_tf.Run, str]) -> None:
    training = RunFolder.open(begun[0].folder).description.protocol.training
    assert training.segment.learning_rate == training.joint.learning_rate == 1e-4
    assert begun[0].history["learning_rate"].iloc[0] == 1e-4


def test_frozen_layers_have_not_changed(begun: tuple[ggn_tf.Run, str]) -> None:
    run = RunFolder.open(begun[0].folder)
    record, entry = run.description.start_from, run.ledger.entry("segment")
    assert record is not None and entry is not None
    blocks = {f"segmentation/{kind}_{number}" for kind in ("conv", "norm") for number in (1, 2, 3)}
    assert blocks < entry["frozen"].keys() == set(record.frozen)
    assert all(record.taken[name] == digest for name, digest in entry["frozen"].items())
    assert weights(run.load_model())["segmentation/conv_4"] != record.taken["segmentation/conv_4"]


def test_a_run_that_was_stopped_resumes_without_its_source(
    dataset: Dataset, begun: tuple[ggn_tf.Run, str], source: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "source"
    shutil.copytree(source, moved)
    weights_file = moved / "stages" / "joint.keras"
    for change in (partial(weights_file.write_bytes, b"another one"), partial(shutil.rmtree, moved)):
        asked = iter([False, True])
        with pytest.raises(KeyboardInterrupt):
            fit(dataset, tmp_path / "run", start_from=moved, freeze=3, stop=lambda steps=asked: next(steps))
        change()
    resumed = fit(dataset, tmp_path / "run", start_from=moved, freeze=3)
    assert results(RunFolder.open(resumed.folder)) == results(RunFolder.open(begun[0].folder))


def test_a_source_that_changed_before_its_weights_were_taken_is_named_by_digest(
    dataset: Dataset, whole_run: RunFolder, cascade_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "weights.keras"
    shutil.copy(cascade_file, file)
    plan = started(dataset, file)
    RunFolder.create(tmp_path / "run", plan.description, dataset.folder, {}, "")
    shutil.copy(whole_run.model_file(), file)
    changed = started_plan(planned(dataset), tmp_path / "run", file, partial(open_source, file, dataset), dataset)
    with pytest.raises(RunError) as caught:
        RunFolder.create(tmp_path / "run", changed.description, dataset.folder, {}, "")
    record = plan.description.start_from
    assert record is not None and str(caught.value.found) == f"start_from.sha256 = {record.sha256}"


@pytest.mark.parametrize("kind", ["file", "run"])
def test_another_source_of_the_same_name_is_refused(
    dataset: Dataset, whole_run: RunFolder, cascade_file: Path, tmp_path: Path, kind: str
) -> None:
    first, second = tmp_path / "a" / "source.keras", tmp_path / "b" / "source.keras"
    first.parent.mkdir(), second.parent.mkdir()
    shutil.copy(cascade_file, first)
    if kind == "file":
        shutil.copy(whole_run.model_file(), second)
    else:
        shutil.copytree(whole_run.folder, second)
    plan = started(dataset, first)
    assert plan.start is not None
    run = RunFolder.create(tmp_path / "run", plan.description, dataset.folder, {}, "")
    keep_start(run, plan.start)

    def again(path: Path) -> Plan:
        return started_plan(planned(dataset), run.folder, path, partial(open_source, path, dataset), dataset)

    assert again(first).start is None and again(tmp_path / "gone" / "source.keras").start is None
    changed = again(second)
    with pytest.raises(RunError, match="start_from.sha256"):
        RunFolder.create(run.folder, changed.description, dataset.folder, {}, "")


def test_other_settings_of_the_source_are_another_run(
    dataset: Dataset, begun: tuple[ggn_tf.Run, str], source: Path
) -> None:
    for arguments in ({"freeze": 2, "start_from": source}, {}):
        with pytest.raises(RunError, match="start_from"):
            fit(dataset, begun[0].folder, **arguments)


@pytest.mark.nightly
def test_three_stages_with_frozen_blocks_resume_with_the_same_bits(
    dataset: Dataset, source: Path, tmp_path: Path
) -> None:
    arguments = {"start_from": source, "freeze": 2, "stage": "joint", "task": THREE}
    whole = RunFolder.open(fit(dataset, tmp_path / "whole", **arguments).folder)
    # An epoch has five steps: it is stopped twice in each stage.
    for _ in range(4):
        asked = iter([False, False, True])
        with pytest.raises(KeyboardInterrupt):
            fit(dataset, tmp_path / "stopped", stop=lambda steps=asked: next(steps), **arguments)
    stopped = RunFolder.open(fit(dataset, tmp_path / "stopped", **arguments).folder)
    assert results(stopped) == results(whole)
    record = whole.description.start_from
    assert record is not None and len(record.frozen) == 8
    for entry, other in zip(whole.ledger.entries(), stopped.ledger.entries(), strict=True):
        assert entry["frozen"] == other["frozen"] == {name: record.taken[name] for name in record.frozen}
        assert entry["changes"] == other["changes"]
