import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggn_tf.dataset.records import Dataset, digest_patch, fingerprint_of, open_dataset, read_patches
from ggn_tf.errors import DatasetError
from ggn_tf.json_records import to_json
from ggn_tf.protocol import PatchProtocol
from tests.support.description_edits import edit_description as change
from tests.support.synthetic import synthetic_nodules, write_synthetic_dataset

PROTOCOL = PatchProtocol(size=8)


@pytest.fixture
def copy(synthetic: Dataset, tmp_path: Path) -> Path:
    """A dataset's folder that may be damaged."""
    return Path(shutil.copytree(synthetic.folder, tmp_path / "copy"))


def test_opening_gives_what_was_written(synthetic: Dataset) -> None:
    assert open_dataset(synthetic.folder, PROTOCOL) == synthetic


def test_every_case_is_recorded(synthetic: Dataset) -> None:
    nodules = list(synthetic_nodules(24, nodules_per_patient=2, protocol=PROTOCOL))
    places = {"shard": "", "offset": 0}
    assert [dataclasses.replace(case, **places) for case in synthetic.cases] == [nodule.record for nodule in nodules]


def test_cases_are_in_numbered_shards(synthetic: Dataset) -> None:
    shards = [case.shard for case in synthetic.cases]
    assert shards == ["patches-00000-of-00002.tfrecord"] * 16 + ["patches-00001-of-00002.tfrecord"] * 8
    assert sorted(path.name for path in synthetic.folder.glob("*.tfrecord")) == sorted(set(shards))


def test_patches_come_back_exactly_in_the_order_asked_for(synthetic: Dataset) -> None:
    nodules = {nodule.record.case_id: nodule for nodule in synthetic_nodules(24, LABELS, 2, PROTOCOL)}
    case_ids = ["case-0020", "case-0003", "case-0017", "case-0003"]
    hu, mask = read_patches(synthetic, case_ids)
    assert hu.dtype == mask.dtype == np.float32
    assert hu.shape == mask.shape == (4, 8, 8, 8, 1)
    for row, case_id in enumerate(case_ids):
        np.testing.assert_array_equal(hu[row, ..., 0], nodules[case_id].hu)
        np.testing.assert_array_equal(mask[row, ..., 0], nodules[case_id].mask)


LABELS = ("AAH", "AIS", "MIA", "IAC")


def test_labels_are_counted(synthetic: Dataset) -> None:
    assert synthetic.labels == ("AAH", "AIS", "IAC", "MIA")
    stored = json.loads((synthetic.folder / "dataset.json").read_text(encoding="utf-8"))
    assert stored["labels"] == {"AAH": 6, "AIS": 6, "IAC": 6, "MIA": 6}


def test_the_fingerprint_is_a_sha256_over_protocol_and_sorted_cases(synthetic: Dataset) -> None:
    text = json.dumps(to_json(PROTOCOL), sort_keys=True)
    hu, mask = read_patches(synthetic, [case.case_id for case in synthetic.cases])
    for case, own_hu, own_mask in zip(synthetic.cases, hu, mask, strict=True):
        patch = hashlib.sha256(own_hu.astype("<f4").tobytes() + own_mask.astype(np.uint8).tobytes()).hexdigest()
        text += json.dumps([case.case_id, case.patient_id, case.label, patch])
    assert synthetic.fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_neither_shards_nor_their_number_change_the_fingerprint(synthetic: Dataset, tmp_path: Path) -> None:
    other = write_synthetic_dataset(tmp_path / "dataset", nodules_per_patient=2, size=8, cases_per_shard=5)
    assert len(list(other.folder.glob("*.tfrecord"))) == 5
    assert other.fingerprint == synthetic.fingerprint


def test_the_order_of_rows_does_not_change_the_fingerprint(synthetic: Dataset) -> None:
    assert fingerprint_of(PROTOCOL, synthetic.cases[::-1]) == synthetic.fingerprint


@pytest.mark.parametrize("field", ["case_id", "patient_id", "label", "digest"])
def test_the_fingerprint_changes_with_a_case(synthetic: Dataset, field: str) -> None:
    changed = [dataclasses.replace(synthetic.cases[0], **{field: "x"}), *synthetic.cases[1:]]
    assert fingerprint_of(PROTOCOL, changed) != synthetic.fingerprint


@pytest.mark.parametrize("part", [0, 1])
def test_the_digest_changes_with_one_voxel(part: int) -> None:
    arrays = [np.zeros((8, 8, 8), np.float32), np.zeros((8, 8, 8), np.uint8)]
    before = digest_patch(*arrays)
    arrays[part][3, 4, 5] = 1
    assert digest_patch(*arrays) != before


def test_the_fingerprint_changes_with_the_protocol(synthetic: Dataset) -> None:
    other = PatchProtocol(size=8, outside_hu=-1000.0)
    assert fingerprint_of(other, synthetic.cases) != synthetic.fingerprint


@pytest.mark.parametrize(("name", "message"), [("nowhere", r"There is no dataset\."), ("", r"not a dataset\.")])
def test_a_folder_without_a_dataset_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path / name, PROTOCOL)


def test_another_protocol_is_refused_and_the_fields_are_named(synthetic: Dataset) -> None:
    asked = PatchProtocol(size=16, window_hu=(-1000.0, 400.0))
    with pytest.raises(DatasetError) as caught:
        open_dataset(synthetic.folder, asked)
    assert caught.value.found == "size 8, window_hu (-1024.0, 400.0)"
    assert caught.value.expected == "size 16, window_hu (-1000.0, 400.0)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": 7}', r"schema 7(?s:.*)schema 3"),
        ('{"schema": 3, ', r"description is damaged(?s:.*)dataset\.json"),
        *((content, "schema None") for content in ("[]", "3", '"text"', "{}")),
    ],
)
def test_a_description_of_another_kind_is_refused(copy: Path, content: str, message: str) -> None:
    (copy / "dataset.json").write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        open_dataset(copy, PROTOCOL)


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no cases": lambda stored: stored.pop("cases"),
    "no protocol": lambda stored: stored.pop("protocol"),
    "a protocol of another version": lambda stored: stored["protocol"].pop("size"),
    "a case without a label": lambda stored: stored["cases"][0].pop("label"),
    "a case with an unknown field": lambda stored: stored["cases"][0].update(x=1),
    "a case that is a number": lambda stored: stored["cases"].append(4),
    "shards as a list": lambda stored: stored.update(shards=[]),
    "a case in an unlisted shard": lambda stored: stored["cases"][0].update(shard="other"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_description_is_refused(copy: Path, damage: Callable[[dict[str, Any]], object]) -> None:
    change(copy, damage)
    with pytest.raises(DatasetError, match=r"description is damaged(?s:.*)Copy the dataset again"):
        open_dataset(copy, PROTOCOL)


@pytest.mark.parametrize(("field", "value"), [("label", "IAC"), ("patient_id", "patient-0001"), ("case_id", "case-1")])
def test_an_edited_case_is_refused(copy: Path, field: str, value: str) -> None:
    change(copy, lambda stored: stored["cases"][0].update({field: value}))
    with pytest.raises(DatasetError, match="cases that do not have its fingerprint"):
        open_dataset(copy, PROTOCOL)


@pytest.mark.parametrize("left", [None, -5])
def test_a_missing_or_truncated_shard_is_refused(copy: Path, left: int | None) -> None:
    shard = copy / "patches-00001-of-00002.tfrecord"
    content = shard.read_bytes()
    shard.unlink() if left is None else shard.write_bytes(content[:left])
    with pytest.raises(DatasetError) as caught:
        open_dataset(copy, PROTOCOL)
    assert (caught.value.case, caught.value.expected) == (str(shard), f"{len(content)} bytes")
    assert caught.value.found == ("no file" if left is None else f"{len(content) - 5} bytes")


@pytest.mark.parametrize("position", [3, 9, 500, 2700, -3])
def test_one_flipped_bit_is_found_when_the_patches_are_read(copy: Path, position: int) -> None:
    shard = copy / "patches-00001-of-00002.tfrecord"
    content = bytearray(shard.read_bytes())
    content[position] ^= 4
    shard.write_bytes(content)
    dataset = open_dataset(copy, PROTOCOL)
    read_patches(dataset, [case.case_id for case in dataset.cases[:16]])
    with pytest.raises(DatasetError) as caught:
        read_patches(dataset, [case.case_id for case in dataset.cases])
    assert caught.value.case == str(shard)


def test_records_in_exchanged_positions_are_found(copy: Path) -> None:
    shard = copy / "patches-00001-of-00002.tfrecord"
    content = shard.read_bytes()
    half = len(content) // 2
    shard.write_bytes(content[half:] + content[:half])
    dataset = open_dataset(copy, PROTOCOL)
    with pytest.raises(DatasetError, match="other values for case case-0016"):
        read_patches(dataset, ["case-0016"])


def test_a_shard_that_vanished_after_opening_is_named(copy: Path) -> None:
    dataset = open_dataset(copy, PROTOCOL)
    (copy / "patches-00000-of-00002.tfrecord").unlink()
    with pytest.raises(DatasetError, match=r"cannot be read(?s:.*)patches-00000-of-00002"):
        read_patches(dataset, ["case-0000"])


def test_an_unknown_case_is_refused(synthetic: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"case-9999(?s:.*)24 cases"):
        read_patches(synthetic, ["case-0000", "case-9999"])
