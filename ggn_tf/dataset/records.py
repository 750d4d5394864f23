"""A dataset folder: the record of every case, and where its patch is stored."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.dataset_json import COPY_AGAIN, check_protocol, check_shard, damaged, read_description
from ggn_tf.errors import DatasetError, RecordError
from ggn_tf.json_records import from_json, to_json
from ggn_tf.protocol import PatchProtocol

# Number of records decoded together: keeps what is not yet in its array below 50 MB.
_READ_AT_ONCE = 256


@dataclass(frozen=True)
class Dataset:
    """A dataset that was opened and checked.

    Attributes:
        folder: Its folder.
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
        """Number of cases per label."""
        return Counter(case.label for case in self.cases)

    @cached_property
    def case_by_id(self) -> dict[str, CaseRecord]:
        """The cases by id."""
        return {case.case_id: case for case in self.cases}

    def select(self, case_ids: Iterable[str]) -> list[CaseRecord]:
        """The cases with these ids, in the order of the ids.

        Raises:
            DatasetError: An id is not in the dataset.
        """
        case_ids = list(case_ids)
        unknown = [case_id for case_id in case_ids if case_id not in self.case_by_id]
        if unknown:
            raise DatasetError(
                "The dataset does not contain a case.",
                case=self.folder,
                found=", ".join(unknown[:5]),
                expected=f"ids of its {len(self.cases)} cases",
                remedy="Use the dataset from which the split or run was made.",
            )
        return [self.case_by_id[case_id] for case_id in case_ids]


@dataclass(frozen=True)
class _Shards:
    """The sizes of the shards by name, in bytes."""

    sizes: dict[str, int]


def digest_patch(hu: np.ndarray, mask: np.ndarray) -> str:
    """SHA-256 of a patch and its mask.

    Args:
        hu: float32 [D, H, W], with the margin.
        mask: uint8 [D, H, W].
    """
    digest = hashlib.sha256(np.ascontiguousarray(hu, "<f4").data)
    digest.update(np.ascontiguousarray(mask, np.uint8).data)
    return digest.hexdigest()


def patch_digests(dataset: Dataset, *, stored: bool, case_ids: Sequence[str] | None = None) -> dict[str, str]:
    """The digests of patches and masks by case id, of all cases or of some.

    With the margin they are `stored` in the description; without it, the patches are read.

    Raises:
        DatasetError: As in `read_patches`.
    """
    cases = dataset.cases if case_ids is None else dataset.select(case_ids)
    ids = [case.case_id for case in cases]
    if stored:
        return {case.case_id: case.digest for case in cases}
    digests: dict[str, str] = {}
    for start in range(0, len(ids), _READ_AT_ONCE):
        part = ids[start : start + _READ_AT_ONCE]
        hu, mask = read_patches_uint8(dataset, part)
        digests |= dict(zip(part, map(digest_patch, hu[..., 0], mask[..., 0]), strict=True))
    return digests


def fingerprint_of(protocol: PatchProtocol, cases: Iterable[CaseRecord]) -> str:
    """SHA-256 over protocol, ids, labels, patches and masks, independent of their order and shards."""
    digest = hashlib.sha256(json.dumps(to_json(protocol), sort_keys=True).encode())
    for case in sorted(cases, key=lambda case: case.case_id):
        digest.update(json.dumps([case.case_id, case.patient_id, case.label, case.digest]).encode())
    return digest.hexdigest()


def open_dataset(folder: Path, protocol: PatchProtocol) -> Dataset:
    """Open a dataset and check that it is whole and without links; patches are checked when they are read.

    Raises:
        DatasetError: The folder is missing or not a dataset, has another schema or protocol, or is damaged; or a shard
            is missing or has another size.
    """
    folder = Path(folder)
    stored = read_description(folder)
    try:
        stored_protocol = from_json(PatchProtocol, stored["protocol"])
        cases = tuple(from_json(CaseRecord, case) for case in stored["cases"])
        shards = from_json(_Shards, {"sizes": stored["shards"]}).sizes
        fingerprint = fingerprint_of(stored_protocol, cases)
    except (KeyError, TypeError, ValueError, RecordError) as error:
        raise damaged(folder, f"{type(error).__name__}: {error.args[0] if error.args else error}") from error
    check_protocol(folder, stored_protocol, protocol)
    if fingerprint != stored.get("fingerprint"):
        raise damaged(folder, "cases that do not have its fingerprint")
    if not {case.shard for case in cases} <= set(shards):
        raise damaged(folder, "cases in shards that it does not list")
    if len({case.case_id for case in cases}) != len(cases):
        raise damaged(folder, "a case twice")
    for name, size in shards.items():
        check_shard(folder, name, size)
    return Dataset(folder, stored_protocol, fingerprint, cases)


def read_patches(dataset: Dataset, case_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read patches and masks, in the order of the ids.

    Returns:
        Hounsfield units and masks, float32 [N, S, S, S, 1] each, z, y, x.

    Raises:
        DatasetError: A case is unknown, or a record is corrupt, cut off, or not the one that was written.
    """
    hu, mask = read_patches_uint8(dataset, case_ids)
    return hu, mask.astype(np.float32)


def read_patches_uint8(dataset: Dataset, case_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """As `read_patches`, with the masks as uint8: five bytes per voxel instead of eight."""
    return _read(dataset, case_ids, (dataset.protocol.size,) * 3)


def read_with_margin(dataset: Dataset, case_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """As `read_patches_uint8`, with the dataset's margin: [N, *PatchProtocol.stored_zyx, 1]."""
    return _read(dataset, case_ids, dataset.protocol.stored_zyx)


def _read(dataset: Dataset, case_ids: Sequence[str], shape_zyx: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    cases = dataset.select(case_ids)
    hu = np.empty((len(cases), *shape_zyx, 1), np.float32)
    mask = np.empty(hu.shape, np.uint8)
    whole = shape_zyx == dataset.protocol.stored_zyx
    for name in sorted({case.shard for case in cases}):
        rows = [row for row, case in enumerate(cases) if case.shard == name]
        for start in range(0, len(rows), _READ_AT_ONCE):
            part = rows[start : start + _READ_AT_ONCE]
            stored = _read_checked(dataset, name, [cases[row] for row in part])
            hu[part], mask[part] = stored if whole else map(dataset.protocol.without_margin, stored)
    return hu, mask


def _read_checked(dataset: Dataset, name: str, cases: Sequence[CaseRecord]) -> tuple[np.ndarray, np.ndarray]:
    # Imported here because it imports TensorFlow, which checking a table does not need.
    from ggn_tf.dataset.shards import read_shard

    path = dataset.folder / name
    hu, mask = read_shard(path, [case.offset for case in cases], dataset.protocol.stored_zyx)
    for case, case_hu, case_mask in zip(cases, hu, mask, strict=True):
        if digest_patch(case_hu, case_mask) != case.digest:
            raise DatasetError(
                "A shard contains another patch than was written.",
                case=path,
                found=f"other values for case {case.case_id}",
                expected=f"digest {case.digest}",
                remedy=COPY_AGAIN,
            )
    return hu, mask
