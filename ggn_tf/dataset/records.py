"""A dataset folder: what is known about every case, and where its patch lies."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.dataset_json import REMAKE, check_protocol, check_shard, damaged, read_description
from ggn_tf.errors import DatasetError, RecordError
from ggn_tf.json_records import from_json, to_json
from ggn_tf.protocol import PatchProtocol

# Records decoded at a time: what is read and not yet in its array stays below 50 MB.
_READ_AT_ONCE = 256


@dataclass(frozen=True)
class Dataset:
    """A dataset that was opened and checked.

    Attributes:
        folder: Where it lies.
        protocol: How its patches were cut.
        fingerprint: SHA-256 over the protocol and every case's ids, label, patch and mask.
        cases: In the order of the case table.
    """

    folder: Path
    protocol: PatchProtocol
    fingerprint: str
    cases: tuple[CaseRecord, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that occur, sorted."""
        return tuple(sorted(self.label_counts))

    @property
    def label_counts(self) -> Counter[str]:
        """Cases a label."""
        return Counter(case.label for case in self.cases)

    @cached_property
    def case_by_id(self) -> dict[str, CaseRecord]:
        """Every case under its id."""
        return {case.case_id: case for case in self.cases}

    def copies(self) -> list[list[str]]:
        """Cases of different patients with the same patch and mask: one nodule under two names can be in two sets."""
        return duplicate_patches(self.cases)

    def select(self, case_ids: Iterable[str]) -> list[CaseRecord]:
        """The cases with these ids, in their order.

        Raises:
            DatasetError: An id is not in the dataset.
        """
        case_ids = list(case_ids)
        unknown = [case_id for case_id in case_ids if case_id not in self.case_by_id]
        if unknown:
            raise DatasetError(
                "The dataset does not hold a case.",
                case=self.folder,
                found=", ".join(unknown[:5]),
                expected=f"ids of its {len(self.cases)} cases",
                remedy="Use the dataset that the split or run was made with.",
            )
        return [self.case_by_id[case_id] for case_id in case_ids]


def duplicate_patches(cases: Iterable[CaseRecord]) -> list[list[str]]:
    """As `Dataset.copies`, of cases that are not in a dataset yet."""
    same: defaultdict[str, list[CaseRecord]] = defaultdict(list)
    for case in cases:
        same[case.digest].append(case)
    groups = [some for some in same.values() if len({case.patient_id for case in some}) > 1]
    return [[case.case_id for case in some] for some in groups]


def digest_patch(hu: np.ndarray, mask: np.ndarray) -> str:
    """SHA-256 of a patch and its mask.

    Args:
        hu: float32 [S, S, S].
        mask: uint8 [S, S, S].
    """
    return hashlib.sha256(hu.astype("<f4").tobytes() + mask.astype(np.uint8).tobytes()).hexdigest()


def fingerprint_of(protocol: PatchProtocol, cases: Iterable[CaseRecord]) -> str:
    """What makes two datasets the same: protocol, ids, labels, patches and masks, in whatever order and shards."""
    whole = hashlib.sha256(json.dumps(to_json(protocol), sort_keys=True).encode())
    for case in sorted(cases, key=lambda case: case.case_id):
        whole.update(json.dumps([case.case_id, case.patient_id, case.label, case.digest]).encode())
    return whole.hexdigest()


def open_dataset(folder: Path, protocol: PatchProtocol) -> Dataset:
    """Open a dataset folder and check that it is whole and fits; patches are checked when they are read.

    Args:
        folder: Made by `ggn-tf prepare`.
        protocol: The patches that are asked for.

    Raises:
        DatasetError: The folder is missing or no dataset, has another schema, was made by another protocol, is damaged,
            or a shard is missing or has another size.
    """
    folder = Path(folder)
    stored = read_description(folder)
    try:
        own_protocol = from_json(PatchProtocol, stored["protocol"])
        cases = tuple(from_json(CaseRecord, case) for case in stored["cases"])
        shards = {str(name): int(size) for name, size in stored["shards"].items()}
        fingerprint = fingerprint_of(own_protocol, cases)
    except (KeyError, TypeError, ValueError, AttributeError, RecordError) as error:
        raise damaged(folder, f"{type(error).__name__}: {error.args[0] if error.args else error}") from error
    check_protocol(folder, own_protocol, protocol)
    if fingerprint != stored.get("fingerprint"):
        raise damaged(folder, "cases that do not give the fingerprint it carries")
    if not {case.shard for case in cases} <= set(shards):
        raise damaged(folder, "cases in shards that it does not list")
    for name, size in shards.items():
        check_shard(folder / name, size)
    return Dataset(folder, own_protocol, fingerprint, cases)


def read_patches(dataset: Dataset, case_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read patches and masks.

    Args:
        dataset: An opened dataset.
        case_ids: Which cases, in the order wanted.

    Returns:
        Hounsfield units and masks, float32 [N, S, S, S, 1] each, z, y, x.

    Raises:
        DatasetError: A case is unknown, or a record is corrupt, cut off, or not the one that was written.
    """
    hu, mask = read_patches_uint8(dataset, case_ids)
    return hu, mask.astype(np.float32)


def read_patches_uint8(dataset: Dataset, case_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """As `read_patches`, with the masks as uint8: five bytes a voxel instead of eight."""
    cases, size = dataset.select(case_ids), dataset.protocol.size
    hu = np.empty((len(cases), size, size, size, 1), np.float32)
    mask = np.empty(hu.shape, np.uint8)
    for name in sorted({case.shard for case in cases}):
        rows = [row for row, case in enumerate(cases) if case.shard == name]
        for start in range(0, len(rows), _READ_AT_ONCE):
            some = rows[start : start + _READ_AT_ONCE]
            hu[some], mask[some] = _read_checked(dataset, name, [cases[row] for row in some])
    return hu, mask


def _read_checked(dataset: Dataset, name: str, cases: Sequence[CaseRecord]) -> tuple[np.ndarray, np.ndarray]:
    # Imported here, as TensorFlow comes with it: a table is checked by these records without either.
    from ggn_tf.dataset.shards import read_shard

    path = dataset.folder / name
    hu, mask = read_shard(path, [case.offset for case in cases], dataset.protocol.size)
    for case, own_hu, own_mask in zip(cases, hu, mask, strict=True):
        if digest_patch(own_hu, own_mask) != case.digest:
            raise DatasetError(
                "A shard holds another patch than the one that was written.",
                case=path,
                found=f"other values for case {case.case_id}",
                expected=f"digest {case.digest}",
                remedy=REMAKE,
            )
    return hu, mask
