import dataclasses
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.dataset.splits import Split, make_splits, read_split, scarce_labels
from ggn_tf.errors import SplitError
from ggn_tf.protocol import SETS, PatchProtocol, SplitProtocol

PAPER = SplitProtocol()


def record(case_id: object, patient_id: object, label: object) -> CaseRecord:
    geometry = ((1.0, 0.7, 0.7), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0))
    return CaseRecord(str(case_id), str(patient_id), str(label), {}, *geometry, *[1.0] * 4, *[0.0] * 9, 32, 1.0, ())


def single_nodules(counts: dict[str, int]) -> list[CaseRecord]:
    """Every nodule belongs to another patient."""
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [record(f"c{number:04d}", f"p{number:04d}", label) for number, label in enumerate(labels)]


def label_counts(cases: list[CaseRecord], split: Split) -> dict[str, Counter[str]]:
    label = {case.case_id: case.label for case in cases}
    return {name: Counter(label[case_id] for case_id in getattr(split, name)) for name in SETS}


def assert_is_a_split(cases: list[CaseRecord], split: Split) -> None:
    together = [case_id for name in SETS for case_id in getattr(split, name)]
    assert sorted(together) == sorted(case.case_id for case in cases)
    patient = {case.case_id: case.patient_id for case in cases}
    patients = [{patient[case_id] for case_id in getattr(split, name)} for name in SETS]
    assert all(patients)
    assert sum(map(len, patients)) == len(set.union(*patients))


tables = st.lists(st.tuples(st.integers(0, 14), st.sampled_from("abcd")), min_size=3, max_size=60).filter(
    lambda rows: len({patient for patient, _ in rows}) >= 3
)


@settings(max_examples=60, deadline=None)
@given(tables, st.integers(0, 3))
def test_every_case_once_and_no_patient_in_two_sets(rows: list[tuple[int, str]], seed: int) -> None:
    cases = [record(f"c{number}", patient, label) for number, (patient, label) in enumerate(rows)]
    for split in make_splits(cases, PAPER, 2, seed):
        assert_is_a_split(cases, split)


def test_the_papers_cohort_is_split_56_14_30_in_every_label() -> None:
    counts = {"AAH": 32, "AIS": 193, "MIA": 335, "IAC": 180}
    cases = single_nodules(counts)
    for split in make_splits(cases, PAPER, 2, 0):
        assert_is_a_split(cases, split)
        for name, share in zip(SETS, (0.56, 0.14, 0.30), strict=True):
            for label, found in label_counts(cases, split)[name].items():
                assert abs(found - share * counts[label]) < 1.5, (name, label)


def test_patients_with_many_nodules_move_whole_and_shares_stay_near() -> None:
    generator = np.random.default_rng(0)
    labels = generator.choice(["AAH", "AIS", "MIA", "IAC"], 400, p=[0.05, 0.26, 0.45, 0.24])
    cases = [record(f"c{n:03d}", patient, labels[n]) for n, patient in enumerate(generator.integers(0, 150, 400))]
    whole = Counter(case.label for case in cases)
    for split in make_splits(cases, PAPER, 3, 1):
        assert_is_a_split(cases, split)
        for label, found in label_counts(cases, split)["test"].items():
            assert abs(found - 0.3 * whole[label]) <= 2, label


@pytest.mark.real
def test_lidc_shares_stay_within_three_cases(real_data: Path) -> None:
    table = pd.read_csv(real_data / "lidc_voi" / "cases.csv")
    cases = [record(*row) for row in zip(table.case_id, table.patient_id, table.malignancy, strict=True)]
    whole = Counter(case.label for case in cases)
    for split in make_splits(cases, PAPER, 5, 0):
        assert_is_a_split(cases, split)
        found = label_counts(cases, split)
        for label, count in whole.items():
            assert abs(found["test"][label] - 0.30 * count) <= 3, label
            assert abs(found["validation"][label] - 0.14 * count) <= 3, label


def test_twelve_nodules_give_every_label_in_every_set() -> None:
    cases = single_nodules({"AAH": 3, "AIS": 3, "MIA": 3, "IAC": 3})
    for split in make_splits(cases, PAPER, 5, 0):
        assert_is_a_split(cases, split)
        assert all(len(counts) == 4 for counts in label_counts(cases, split).values())


def test_a_rare_label_with_three_patients_is_in_every_set() -> None:
    cases = single_nodules({"AAH": 3, "MIA": 60, "IAC": 40})
    for split in make_splits(cases, PAPER, 3, 0):
        assert all(counts["AAH"] == 1 for counts in label_counts(cases, split).values())


def test_labels_with_fewer_than_three_patients_are_scarce_but_no_error() -> None:
    cases = [*single_nodules({"MIA": 20, "IAC": 20}), record("x", "p", "AAH"), record("y", "p", "AAH")]
    assert scarce_labels(cases) == {"AAH": 1}
    for split in make_splits(cases, PAPER, 2, 0):
        assert_is_a_split(cases, split)


def test_three_patients_are_enough() -> None:
    cases = single_nodules({"AAH": 1, "AIS": 1, "MIA": 1})
    assert_is_a_split(cases, make_splits(cases, PAPER, 1, 0)[0])


def test_two_patients_are_not() -> None:
    with pytest.raises(SplitError, match=r"too few patients(?s:.*)2 patients"):
        make_splits(single_nodules({"AAH": 2}), PAPER, 1, 0)


def test_other_fractions_are_kept_too() -> None:
    cases = single_nodules({"a": 100, "b": 50})
    split = make_splits(cases, SplitProtocol(test_fraction=0.25, validation_fraction=1 / 3), 1, 0)[0]
    assert [len(split.train), len(split.validation), len(split.test)] == pytest.approx([75, 37.5, 37.5], abs=1)


def test_neither_the_order_of_rows_nor_the_number_of_splits_changes_a_split() -> None:
    cases = single_nodules({"a": 30, "b": 20})
    assert make_splits(cases, PAPER, 2, 4) == make_splits(cases[::-1], PAPER, 5, 4)[:2]


def test_splits_and_seeds_differ() -> None:
    cases = single_nodules({"a": 30, "b": 20})
    tests = [split.test for seed in (0, 1) for split in make_splits(cases, PAPER, 3, seed)]
    assert len(set(tests)) == 6


@pytest.fixture
def copy(synthetic: Dataset, tmp_path: Path) -> Dataset:
    shutil.copytree(synthetic.folder, tmp_path / "copy")
    return open_dataset(tmp_path / "copy", PatchProtocol(size=8))


def tamper(dataset: Dataset, edit: Callable[[dict[str, Any]], object], *, with_checksum: bool) -> None:
    path = dataset.folder / "splits.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    checksum = content.pop("checksum")
    edit(content)
    if with_checksum:
        checksum = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**content, "checksum": checksum}), encoding="utf-8")


def test_reading_gives_what_was_made(synthetic: Dataset) -> None:
    made = make_splits(synthetic.cases, PAPER, 2, 0)
    assert [read_split(synthetic, 1), read_split(synthetic, 2)] == made


def test_a_split_that_does_not_exist_is_refused(synthetic: Dataset) -> None:
    with pytest.raises(SplitError, match="splits 1, 2") as caught:
        read_split(synthetic, 3)
    assert caught.value.arguments == ("split", "splits")


def test_a_tampered_file_is_refused(copy: Dataset) -> None:
    def move(content: dict[str, Any]) -> None:
        content["splits"][0]["train"].append(content["splits"][0]["test"].pop())

    tamper(copy, move, with_checksum=False)
    with pytest.raises(SplitError, match=r"were changed after they were made(?s:.*)splits\.json(?s:.*)checksum"):
        read_split(copy, 1)


def leak_patient(content: dict[str, Any]) -> None:
    # Cases 2k and 2k + 1 share a patient.
    sets = content["splits"][0]
    sets["train"].append(sets["test"].pop(0))


def empty_set(content: dict[str, Any]) -> None:
    sets = content["splits"][0]
    sets["train"] += sets["validation"]
    sets["validation"] = []


TAMPERINGS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "patient": (leak_patient, r"patient patient-\d{4} in train and in test"),
    "twice": (
        lambda content: content["splits"][0]["train"].append(content["splits"][0]["test"][0]),
        r"case-\d* 2 times",
    ),
    "empty": (empty_set, "no case in set validation"),
    "left out": (lambda content: content["splits"][0]["train"].pop(), r"case case-\d* is in no set"),
    "unknown": (lambda content: content["splits"][0]["train"].append("x"), "case x is not in the dataset"),
    "no number": (lambda content: content["splits"][0].pop("number"), "cannot be read"),
    "no test": (lambda content: content["splits"][0].pop("test"), "cannot be read"),
    "number as a case": (lambda content: content["splits"][0].update(test=3), "cannot be read"),
    "schema": (lambda content: content.update(schema=2), "another format"),
}


@pytest.mark.parametrize(("edit", "message"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_a_wrong_split_with_a_right_checksum_is_refused(
    copy: Dataset, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    tamper(copy, edit, with_checksum=True)
    with pytest.raises(SplitError, match=message):
        read_split(copy, 1)


def test_splits_of_another_dataset_are_refused(copy: Dataset) -> None:
    other = dataclasses.replace(copy, fingerprint="0" * 64)
    with pytest.raises(SplitError, match=r"belong to another dataset(?s:.*)0000"):
        read_split(other, 1)


def test_missing_splits_are_refused(copy: Dataset) -> None:
    (copy.folder / "splits.json").unlink()
    with pytest.raises(SplitError, match=r"has no splits(?s:.*)no file"):
        read_split(copy, 1)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3"])
def test_a_file_of_something_else_is_refused(copy: Dataset, content: str) -> None:
    (copy.folder / "splits.json").write_text(content, encoding="utf-8")
    with pytest.raises(SplitError, match="The splits cannot be read"):
        read_split(copy, 1)
