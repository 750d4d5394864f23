"""The split that a run was trained on: recorded, stored where it is the user's own, and verified when it is read."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest

import ggn_tf
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import SPLITS, Split, digest_of, make_splits, read_split, write_splits
from ggn_tf.errors import GgnError, RunError, SplitError
from ggn_tf.protocol import SplitProtocol
from ggn_tf.runs.run_folder import RunFolder, read_run_split
from tests.support.synthetic import write_synthetic_dataset
from tests.support.tiny_protocol import SIZE, tiny_protocol

TASK = "AAH+AIS,MIA+IAC"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_synthetic_dataset(tmp_path_factory.mktemp("split") / "dataset", 24, size=SIZE)


@pytest.fixture(scope="module")
def own(data: Dataset) -> Split:
    (split,) = make_splits(data.cases, SplitProtocol(), 1, seed=9)
    assert digest_of(split) != digest_of(read_split(data, 1))
    return split


def write_file(path: Path, split: Split) -> Path:
    sets = {name: list(getattr(split, name)) for name in ("train", "validation", "test")}
    path.write_text(json.dumps(sets), encoding="utf-8")
    return path


fit = partial(ggn_tf.fit, task=TASK, model="raw", precision="float32", protocol=tiny_protocol())


def begin(data: Dataset, run: Path, **arguments: object) -> None:
    """Begin a run, and stop after the first step."""
    with pytest.raises(KeyboardInterrupt):
        fit(data.folder, run=run, stop=lambda: True, **arguments)


@pytest.fixture(scope="module")
def run(data: Dataset, own: Split, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("run")
    begin(data, folder / "run", splits=write_file(folder / "own.json", own))
    return RunFolder.open(folder / "run")


def test_a_run_trains_on_the_users_split_and_keeps_it(run: RunFolder, data: Dataset, own: Split) -> None:
    assert run.description.split_digest == digest_of(own)
    assert read_run_split(run, data) == own


def test_a_run_is_not_resumed_on_another_split(run: RunFolder, data: Dataset, own: Split, tmp_path: Path) -> None:
    changed = dataclasses.replace(own, train=own.train[1:], validation=(*own.validation, own.train[0]))
    for arguments in ({}, {"splits": write_file(tmp_path / "changed.json", changed)}):
        with pytest.raises(RunError, match="split_digest"):
            fit(data.folder, run=run.folder, **arguments)


def test_a_kept_split_that_was_changed_is_refused(run: RunFolder, data: Dataset, own: Split) -> None:
    file = run.folder / "split.json"
    kept = file.read_text(encoding="utf-8")
    for text in (kept.replace(own.train[0], own.test[0]), kept[:-20], "[]", None):
        file.write_text(text, encoding="utf-8") if text else file.unlink()
        with pytest.raises(SplitError) as caught:
            read_run_split(run, data)
        assert caught.value.case and caught.value.remedy
    file.write_text(kept, encoding="utf-8")


def test_a_run_on_the_datasets_split_records_it_and_refuses_one_that_was_made_again(tmp_path: Path) -> None:
    data = write_synthetic_dataset(tmp_path / "dataset", 24, size=SIZE)
    begin(data, tmp_path / "run")
    run = RunFolder.open(tmp_path / "run")
    assert run.description.split_digest == digest_of(read_split(data, 1))
    assert read_run_split(run, data) == read_split(data, 1) and not (run.folder / "split.json").exists()
    write_splits(data, make_splits(data.cases, SplitProtocol(), 1, seed=9), SplitProtocol(), 9)
    assert (data.folder / SPLITS).is_file()
    with pytest.raises(SplitError, match="could be scored as test cases"):
        read_run_split(run, data)


@pytest.mark.parametrize(
    ("sets", "number", "found"),
    [
        ({}, 2, "splits 1"),
        ({"test": slice(1, None)}, 1, "1 nodules in no set"),
        ({"train": slice(0, 1)}, 1, "nodules in no set|0 "),
    ],
)
def test_a_split_that_does_not_suit_is_refused_before_anything_is_written(
    data: Dataset, own: Split, tmp_path: Path, sets: dict[str, slice], number: int, found: str
) -> None:
    changed = dataclasses.replace(own, **{name: getattr(own, name)[part] for name, part in sets.items()})
    with pytest.raises(GgnError, match=found):
        fit(data.folder, split=number, splits=write_file(tmp_path / "own.json", changed), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
