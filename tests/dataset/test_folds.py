import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from ggn_tf.dataset.fold_list import read_fold_list
from ggn_tf.dataset.folds import FoldRequest, Folds, check_folds, draw_folds, read_folds, write_folds
from ggn_tf.dataset.identity import Pseudonyms
from ggn_tf.dataset.records import Dataset
from ggn_tf.errors import SplitError
from ggn_tf.json_records import with_digest
from ggn_tf.protocol import PatchProtocol
from ggn_tf.tasks import Task
from tests.dataset.test_splits import record

TASK = Task.parse("AIS,IAC")
SALT = b"0" * 32


def dataset_of(patients: Sequence[tuple[str, str, int]], rename: Callable[[str], str] = str) -> Dataset:
    """Patients with their label and number of nodules."""
    cases = [
        record(rename(f"{patient}n{number}"), rename(patient), label)
        for patient, label, count in patients
        for number in range(count)
    ]
    return Dataset(Path("dataset"), PatchProtocol(), "f1", tuple(cases))


def request(count: int = 5, seed: int = 0) -> FoldRequest:
    return FoldRequest(count, seed, 0.2)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """40 patients with one to three nodules; MIA is in no class of the task."""
    rng = np.random.default_rng(0)
    labels = ["AIS"] * 20 + ["IAC"] * 12 + ["MIA"] * 8
    return dataset_of([(f"p{number:02}", label, rng.integers(1, 4)) for number, label in enumerate(labels)])


@pytest.mark.parametrize("seed", [0, 3])
def test_folds_are_those_of_scikit_learn(dataset: Dataset, seed: int) -> None:
    folds = draw_folds(dataset, [TASK], request(seed=seed))
    cases = sorted(dataset.cases, key=lambda case: case.case_id)
    labels, patients = [case.label for case in cases], [case.patient_id for case in cases]
    drawn = StratifiedGroupKFold(5, shuffle=True, random_state=folds.random_state).split(labels, labels, patients)
    assert folds.random_state == seed
    assert [split.test for split in folds.splits] == [tuple(cases[i].case_id for i in test) for _, test in drawn]


def test_validation_is_a_fifth_of_the_training_part_by_patient_and_label(dataset: Dataset) -> None:
    for split in draw_folds(dataset, [TASK], request()).splits:
        sets = [
            {case.patient_id for case in dataset.select(part)} for part in (split.train, split.validation, split.test)
        ]
        assert sum(map(len, sets)) == len(set.union(*sets)) == 40
        assert sorted([*split.train, *split.validation, *split.test]) == sorted(dataset.case_by_id)
        rest = len(split.train) + len(split.validation)
        assert abs(len(split.validation) - 0.2 * rest) <= 3
        assert {case.label for case in dataset.select(split.validation)} == {"AIS", "IAC", "MIA"}


def test_the_same_request_gives_the_same_folds_in_any_order_of_cases(dataset: Dataset) -> None:
    turned = Dataset(dataset.folder, dataset.protocol, dataset.fingerprint, dataset.cases[::-1])
    assert draw_folds(turned, [TASK], request()) == draw_folds(dataset, [TASK], request())


def test_a_draw_without_a_class_in_a_fold_is_drawn_again() -> None:
    # Of the patients with IAC one has most nodules, so that the counts of nodules can be balanced without one in each.
    dataset = dataset_of(
        [*((f"a{i}", "AIS", 3) for i in range(12)), ("b0", "IAC", 9), ("b1", "IAC", 1), ("b2", "IAC", 1)]
    )
    for seed in range(10):
        folds = draw_folds(dataset, [TASK], request(3, seed))
        assert all({case.label for case in dataset.select(split.test)} == {"AIS", "IAC"} for split in folds.splits)


def test_fewer_patients_of_a_class_than_folds_are_refused() -> None:
    dataset = dataset_of([*((f"a{i}", "AIS", 1) for i in range(12)), *((f"b{i}", "IAC", 5) for i in range(4))])
    assert len(draw_folds(dataset, [TASK], request(4)).splits) == 4
    with pytest.raises(SplitError, match=re.escape("12 patients with AIS, 4 patients with IAC")) as error:
        draw_folds(dataset, [TASK], request(5))
    assert error.value.arguments == ("folds", "task")


@pytest.fixture
def stored(dataset: Dataset, tmp_path: Path) -> Path:
    write_folds(draw_folds(dataset, [TASK], request()), tmp_path / "folds.json")
    return tmp_path / "folds.json"


def test_folds_are_read_as_written(dataset: Dataset, stored: Path) -> None:
    folds = read_folds(stored)
    check_folds(folds, stored, dataset, [TASK])
    assert folds == draw_folds(dataset, [TASK], request())


def changed(stored: Path, change: Callable[[dict], None]) -> None:
    """Change the file's content and write its new digest, as someone who knows the format."""
    document = json.loads(stored.read_text(encoding="utf-8"))
    del document["sha256"]
    change(document)
    stored.write_text(json.dumps(with_digest(document)), encoding="utf-8")


def test_a_changed_file_is_refused(stored: Path) -> None:
    text = stored.read_text(encoding="utf-8")
    for tampered in (
        text.replace('"seed": 0', '"seed": 1'),
        re.sub(r',\s+"sha256": "\w+"', "", text),
        text[:-20],
        "[]",
    ):
        assert tampered != text
        stored.write_text(tampered, encoding="utf-8")
        with pytest.raises(SplitError, match="The folds cannot be read"):
            read_folds(stored)
    stored.unlink()
    with pytest.raises(SplitError, match="The folds cannot be read"):
        read_folds(stored)


def test_a_patient_in_two_folds_is_refused_by_name(dataset: Dataset, stored: Path) -> None:
    def plant(document: dict) -> None:
        first, second = document["splits"][:2]
        moved = next(case for case in first["test"] if case in second["train"])
        second["train"].remove(moved)
        second["test"].append(moved)

    folds = read_folds(stored)
    changed(stored, plant)
    planted = next(case for case in read_folds(stored).splits[1].test if case in folds.splits[0].test)
    with pytest.raises(SplitError, match=f"patient {dataset.case_by_id[planted].patient_id} in"):
        check_folds(read_folds(stored), stored, dataset, [TASK])


def test_folds_of_another_dataset_or_without_a_nodule_are_refused(dataset: Dataset, stored: Path) -> None:
    other = Dataset(dataset.folder, dataset.protocol, "f2", dataset.cases)
    with pytest.raises(SplitError, match="another dataset"):
        check_folds(read_folds(stored), stored, other, [TASK])
    changed(stored, lambda document: document["splits"].pop())
    with pytest.raises(SplitError, match="in 0 test parts"):
        check_folds(read_folds(stored), stored, dataset, [TASK])


SMALL = [(f"a{i}", "AIS", 2) for i in range(6)] + [(f"b{i}", "IAC", 1) for i in range(6)]


def listed(dataset: Dataset, count: int = 3, ids: Callable[[str], Sequence[str]] = lambda patient: [patient]) -> list:
    """Folds as nnU-Net writes them: patient by patient in turn."""
    patients = sorted({case.patient_id for case in dataset.cases})
    return [
        {
            "train": [name for i, patient in enumerate(patients) if i % count != fold for name in ids(patient)],
            "val": [name for i, patient in enumerate(patients) if i % count == fold for name in ids(patient)],
        }
        for fold in range(count)
    ]


def read(tmp_path: Path, content: object, dataset: Dataset, salt: bytes | None = None) -> Folds:
    (tmp_path / "splits_final.json").write_text(json.dumps(content), encoding="utf-8")
    return read_fold_list(tmp_path / "splits_final.json", dataset, [TASK], 0, salt)


def test_a_list_names_nodules_or_patients(tmp_path: Path) -> None:
    dataset = dataset_of(SMALL)
    nodules = listed(dataset, ids=lambda patient: [c.case_id for c in dataset.cases if c.patient_id == patient])
    by_nodule, by_patient = (read(tmp_path, content, dataset) for content in (nodules, listed(dataset)))
    assert [split.test for split in by_nodule.splits] == [tuple(sorted(fold["val"])) for fold in nodules]
    assert by_patient.splits == by_nodule.splits and by_nodule.random_state is None
    for split, fold in zip(by_nodule.splits, nodules, strict=True):
        assert sorted([*split.train, *split.validation]) == sorted(fold["train"]) and split.validation
    write_folds(by_nodule, tmp_path / "folds.json")
    check_folds(read_folds(tmp_path / "folds.json"), tmp_path / "folds.json", dataset, [TASK])


def test_a_list_may_have_the_ids_of_the_case_table(tmp_path: Path) -> None:
    hashed = dataset_of(SMALL, Pseudonyms(SALT).id_of)
    folds = read(tmp_path, listed(dataset_of(SMALL)), hashed, SALT)
    assert [len(split.test) for split in folds.splits] == [6, 6, 6]
    with pytest.raises(SplitError, match="a1 is not in the dataset"):
        read(tmp_path, listed(dataset_of(SMALL)), hashed)


def _both_lists(folds: list) -> None:
    folds[0]["train"].append(folds[0]["val"][0])


def _two_folds(folds: list) -> None:
    folds[1]["val"].append(folds[0]["val"][0])
    folds[1]["train"].remove(folds[0]["val"][0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_both_lists, "patient a0 in the training and in the test part of fold 1"),
        (_two_folds, "patient a0 in the test parts of folds 1 and 2"),
        (lambda folds: folds[2]["val"].remove("a2"), "nodule a2n0 in 0 test parts"),
        (lambda folds: folds[2]["val"].append("a2"), "nodule a2n0 in 2 test parts"),
        (lambda folds: folds[0]["train"].append("x"), "x is not in the dataset"),
        (lambda folds: folds[0]["val"].clear(), "1 with an empty list"),
        (lambda folds: folds.__delitem__(slice(1, None)), "1 folds"),
        (lambda folds: folds[0].pop("val"), "train"),
        (lambda folds: folds[0]["val"].append(3), "3"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, change: Callable[[list], None], message: str) -> None:
    dataset = dataset_of(SMALL)
    folds = listed(dataset)
    change(folds)
    with pytest.raises(SplitError, match=re.escape(message)) as error:
        read(tmp_path, folds, dataset)
    assert error.value.arguments == ("folds_from",)


@pytest.mark.parametrize("content", [b"", b"[", b"{}", b"null", b"[[]]", b"[" * 5000])
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "folds.json").write_bytes(content)
    with pytest.raises(SplitError, match="cannot be read"):
        read_fold_list(tmp_path / "folds.json", dataset_of(SMALL), [TASK], 0)
    with pytest.raises(SplitError, match="cannot be read"):
        read_fold_list(tmp_path / "none.json", dataset_of(SMALL), [TASK], 0)
