import csv
import dataclasses
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ggn_tf.dataset.case_outcome import AcceptedCase, RejectedCase
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.writer import write_dataset
from ggn_tf.errors import DatasetError, SplitError
from ggn_tf.protocol import PatchProtocol, SplitProtocol
from tests.support.synthetic import synthetic_nodules

PROTOCOL = PatchProtocol(size=8)


def write(folder: Path, outcomes: Iterable[AcceptedCase | RejectedCase]) -> Dataset:
    return write_dataset(folder, PROTOCOL, outcomes, split_protocol=SplitProtocol(), splits=1, previews=False)


def nodules(count: int = 6) -> list[AcceptedCase]:
    return list(synthetic_nodules(count, protocol=PROTOCOL))


def test_the_folder_contains_what_the_contract_says(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", PROTOCOL, nodules(), split_protocol=SplitProtocol())
    names = {str(path.relative_to(tmp_path / "dataset")) for path in (tmp_path / "dataset").rglob("*")}
    assert names == {
        "dataset.json",
        "patches-00000-of-00001.tfrecord",
        "previews",
        "previews/sheet-0001.png",
        "rejected.csv",
        "splits.json",
    }


def test_an_error_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def dying() -> Iterator[AcceptedCase]:
        yield from nodules()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "dataset", dying())
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        write(tmp_path / "dataset", nodules())
    assert caught.value.arguments == ("output",)
    assert [path.name for path in (tmp_path / "dataset").iterdir()] == ["notes.txt"]


def test_rejections_are_listed(tmp_path: Path) -> None:
    write(tmp_path / "dataset", [*nodules(), RejectedCase("c7", "No mask; found: a file, empty", "Segment it.")])
    with (tmp_path / "dataset" / "rejected.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["case", "reason", "remedy"],
            ["c7", "No mask; found: a file, empty", "Segment it."],
        ]


def test_no_case_left_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"No case is left for the dataset\.(?s:.*)1 rejected"):
        write(tmp_path / "dataset", [RejectedCase("c7", "No mask", "Segment it.")])
    assert list(tmp_path.iterdir()) == []


def test_the_same_id_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"Two cases have the same id\.(?s:.*)case-0000"):
        write(tmp_path / "dataset", [*nodules(), nodules()[0]])


def test_a_record_without_the_digest_of_its_patch_is_refused(tmp_path: Path) -> None:
    first, *others = nodules()
    record = dataclasses.replace(first.record, digest="")
    with pytest.raises(ValueError, match="none for case case-0000"):
        write(tmp_path / "dataset", [dataclasses.replace(first, record=record), *others])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("part", "values"), [("hu", np.zeros((7, 8, 8))), ("mask", np.zeros((7, 8, 8))), ("hu", np.full((8, 8, 8), np.nan))]
)
def test_a_patch_that_does_not_fit_is_refused(tmp_path: Path, part: str, values: np.ndarray) -> None:
    with pytest.raises(DatasetError, match=r"does not fit the dataset's protocol(?s:.*)case-0000(?s:.*)finite values"):
        write(tmp_path / "dataset", [dataclasses.replace(nodules()[0], **{part: values})])


def test_two_patients_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=r"too few patients(?s:.*)2 patients(?s:.*)at least three"):
        write(tmp_path / "dataset", nodules(2))
    assert list(tmp_path.iterdir()) == []


def test_memory_grows_by_less_than_two_kilobytes_per_case(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        write(tmp_path / str(count), synthetic_nodules(count, protocol=PROTOCOL))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(30)
    # What Python keeps for such small records; writing 0.7 kB of JSON as one text took 5 kB more.
    assert (peak(500) - peak(100)) / 400 < 2000
