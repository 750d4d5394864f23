import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.identity import Pseudonyms
from ggn_tf.dataset.own_splits import read_own_splits
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import Split, digest_of
from ggn_tf.errors import SplitError
from ggn_tf.protocol import SETS, PatchProtocol
from scripts.split_by_counts import draw_split
from tests.dataset.test_splits import record

SALT = b"0" * 32
# Two nodules per patient.
PATIENT_OF = {f"c{number}": f"p{number // 2}" for number in range(8)}
SETS_OF = {"train": ("c0", "c1", "c2", "c3"), "validation": ("c4", "c5"), "test": ("c6", "c7")}
EXPECTED = Split(1, **SETS_OF)


def dataset_of(cases: list[CaseRecord]) -> Dataset:
    return Dataset(Path("dataset"), PatchProtocol(), "", tuple(cases))


@pytest.fixture
def dataset() -> Dataset:
    return dataset_of([record(case, patient, "AIS") for case, patient in PATIENT_OF.items()])


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "splits.csv") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def rows(heading: str = "case_id,set", **changes: str) -> str:
    """A table of the nodules; a change is another set for one of them."""
    sets = {case: name for name, cases in SETS_OF.items() for case in cases} | changes
    return "\n".join([heading, *(f"{case},{name}" for case, name in sets.items() if name)])


def by_patient(name: Callable[[str], str] = str) -> str:
    sets = {PATIENT_OF[case]: chosen for chosen, cases in SETS_OF.items() for case in cases}
    return "\n".join(["patient_id,set", *(f"{name(patient)},{chosen}" for patient, chosen in sets.items())])


def test_a_table_assigns_nodules(dataset: Dataset, write: Callable[..., Path]) -> None:
    assert read_own_splits(write(rows()), dataset) == {1: EXPECTED}
    assert read_own_splits(write(rows("Case_ID;Set").replace(",", ";")), dataset) == {1: EXPECTED}


def test_a_table_assigns_patients_with_all_their_nodules(dataset: Dataset, write: Callable[..., Path]) -> None:
    assert read_own_splits(write(by_patient()), dataset) == {1: EXPECTED}


def test_a_json_file_lists_nodules(dataset: Dataset, write: Callable[..., Path]) -> None:
    one = write(json.dumps(SETS_OF), "a.json")
    several = write(json.dumps({"splits": [{"number": 2, **SETS_OF}], "seed": 1}), "b.json")
    assert read_own_splits(one, dataset) == {1: EXPECTED}
    assert read_own_splits(several, dataset) == {2: Split(2, **SETS_OF)}


def test_ids_of_the_case_table_are_known_by_their_hashes(write: Callable[..., Path]) -> None:
    hashed = Pseudonyms(SALT).id_of
    dataset = dataset_of([record(hashed(case), hashed(patient), "AIS") for case, patient in PATIENT_OF.items()])
    expected = Split(1, **{name: tuple(sorted(map(hashed, cases))) for name, cases in SETS_OF.items()})
    for text in (rows(), by_patient(), by_patient(hashed)):
        assert read_own_splits(write(text), dataset, SALT) == {1: expected}
    with pytest.raises(SplitError, match="not in the dataset"):
        read_own_splits(write(rows()), dataset)


def test_several_splits_have_numbers(dataset: Dataset, write: Callable[..., Path]) -> None:
    lines = rows().splitlines()[1:]
    table = ["case_id,set,split", *(f"{line},2" for line in lines), *(f"{line},1" for line in lines)]
    assert list(read_own_splits(write("\n".join(table)), dataset)) == [1, 2]


def test_nodules_may_be_left_out(dataset: Dataset, write: Callable[..., Path]) -> None:
    assert read_own_splits(write(rows(c0="")), dataset)[1].train == ("c1", "c2", "c3")


def test_the_digest_is_of_the_sets_alone() -> None:
    turned = Split(7, **{name: cases[::-1] for name, cases in SETS_OF.items()})
    assert digest_of(turned) == digest_of(EXPECTED)
    assert digest_of(Split(1, ("c0",), ("c1",), ("c2",))) != digest_of(Split(1, ("c0",), ("c2",), ("c1",)))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (rows(c1="test"), "patient p0 in train and in test"),
        (rows(c9="test"), "c9 is not in the dataset"),
        (rows() + "\nc7,test", "case c7 2 times"),
        (rows() + "\nc7,train", "case c7 2 times"),
        (rows(c6="validation", c7="validation"), "no case in set test"),
        (rows(c1="holdout"), "row 3: set 'holdout'"),
        (rows() + "\n,test", "row 10: no case_id"),
        (rows() + "\nc7,test,1", "row 10: 3 cells for 2 columns"),
        ("case_id,set,split\nc1,train,0", "row 2: split '0'"),
        ("case_id,set,split\nc1,train,1.5", "row 2: split '1.5'"),
        ("case_id,set", "no row"),
        ("case_id,group\nc1,train", "columns case_id, group"),
        ("case_id,set,set\nc1,train,test", "column 2 'set' and column 3 'set'"),
        (by_patient() + "\np0,train", "patient p0 in 2 rows"),
        (by_patient() + "\np9,train", "patient p9 is not in the dataset"),
        ("", "columns"),
    ],
)
def test_a_wrong_table_is_refused_with_what_is_wrong(
    dataset: Dataset, write: Callable[..., Path], text: str, found: str
) -> None:
    with pytest.raises(SplitError) as caught:
        read_own_splits(write(text), dataset)
    assert found in str(caught.value.found)
    assert caught.value.case and caught.value.expected and caught.value.remedy
    assert caught.value.arguments == ("splits",)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "no json",
        '{"splits": []}',
        json.dumps({"train": "c0", "validation": ["c4"], "test": ["c6"]}),
        json.dumps({"splits": [{"number": 1, **SETS_OF}] * 2}),
        json.dumps({"splits": [{"number": 0, **SETS_OF}]}),
        json.dumps({**SETS_OF, "train": ["c0", "c0"]}),
        json.dumps({"train": [], **{name: SETS_OF[name] for name in ("validation", "test")}}),
    ],
)
def test_a_wrong_json_file_is_refused(dataset: Dataset, write: Callable[..., Path], text: str) -> None:
    with pytest.raises(SplitError) as caught:
        read_own_splits(write(text, "splits.json"), dataset)
    assert caught.value.found and caught.value.expected


@pytest.mark.parametrize("name", ["missing.csv", "missing.json", "."])
def test_a_file_that_is_not_there_is_refused(dataset: Dataset, tmp_path: Path, name: str) -> None:
    with pytest.raises(SplitError, match="does not exist"):
        read_own_splits(tmp_path / name, dataset)


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"\xff\xfe\x00"])
def test_what_is_no_table_is_refused(dataset: Dataset, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "splits.xlsx").write_bytes(content)
    with pytest.raises(SplitError, match="cannot be read"):
        read_own_splits(tmp_path / "splits.xlsx", dataset)


@pytest.mark.parametrize("largest", [1, 4])
def test_the_papers_table_1_is_reached_by_whole_patients(tmp_path: Path, largest: int) -> None:
    labels = [label for label, count in TABLE_1.items() for _ in range(sum(count))]
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, largest + 1, len(labels))
    patients = np.repeat(np.arange(len(labels)), sizes)[: len(labels)]
    cases = pd.DataFrame(
        {
            "case_id": [f"c{number:03d}" for number in range(len(labels))],
            "patient_id": [f"p{number:03d}" for number in patients],
            "label": generator.permutation(labels),
        }
    )
    test_counts = {label: test for label, (_, test) in TABLE_1.items()}
    draw_split(cases, test_counts, 0.2, seed=0).to_csv(tmp_path / "table-1.csv", index=False)
    dataset = dataset_of([record(*row) for row in cases.itertuples(index=False)])
    (split,) = read_own_splits(tmp_path / "table-1.csv", dataset).values()
    counts = {name: Counter(case.label for case in dataset.select(getattr(split, name))) for name in SETS}
    for label, (training, test) in TABLE_1.items():
        assert counts["test"][label] == test
        assert counts["train"][label] + counts["validation"][label] == training
        assert counts["validation"][label] == round(0.2 * training)
    assert [sum(counts[name].values()) for name in SETS] == [412, 103, 225]


TABLE_1 = {"AAH": (21, 11), "AIS": (135, 58), "MIA": (234, 101), "IAC": (125, 55)}
