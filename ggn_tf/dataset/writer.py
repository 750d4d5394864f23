"""Writing a dataset folder: it exists whole or not at all."""

import csv
import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ggn_tf import __version__
from ggn_tf.dataset.case_outcome import AcceptedCase, RejectedCase
from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.dataset_json import DESCRIPTION, SCHEMA, refuse_existing
from ggn_tf.dataset.previews import PreviewWriter
from ggn_tf.dataset.radiomics import RadiomicsWriter
from ggn_tf.dataset.records import Dataset, digest_patch, fingerprint_of
from ggn_tf.dataset.shards import CASES_PER_SHARD, ShardWriter
from ggn_tf.dataset.splits import make_splits, write_splits
from ggn_tf.errors import DatasetError
from ggn_tf.files import atomic_folder
from ggn_tf.json_records import to_json
from ggn_tf.protocol import PatchProtocol, SplitProtocol

REJECTED = "rejected.csv"


def write_dataset(
    folder: Path,
    protocol: PatchProtocol,
    outcomes: Iterable[AcceptedCase | RejectedCase],
    *,
    split_protocol: SplitProtocol,
    splits: int = 5,
    seed: int = 0,
    previews: bool = True,
    cases_per_shard: int = CASES_PER_SHARD,
    radiomics: Mapping[str, Any] | None = None,
) -> Dataset:
    """Write a dataset with its splits; an error from `outcomes` or on the way leaves nothing behind.

    Memory holds one case's patch at a time, and every case's record.

    Args:
        folder: Must not exist, or be empty.
        protocol: How the patches were cut.
        outcomes: The cases in the order of the table.
        split_protocol: The parts of a split.
        splits: How many splits, numbered from 1.
        seed: Of the splits.
        previews: Whether to draw contact sheets.
        cases_per_shard: Cases in a TFRecord file.
        radiomics: How the nodules' radiomic features were measured; None where they have none.

    Raises:
        DatasetError: The folder exists, no case is left, an id occurs twice, or a patch does not fit the protocol.
        SplitError: There are too few patients for three sets.
    """
    folder = Path(folder)
    refuse_existing(folder)
    with atomic_folder(folder) as temporary:
        with (
            ShardWriter(temporary, cases_per_shard) as shards,
            PreviewWriter(temporary, previews) as sheets,
            RadiomicsWriter(temporary, radiomics) as features,
        ):
            records, rejections = _write_cases(protocol, outcomes, shards, sheets, features)
            paths = shards.finish()
        names = [path.name for path in paths]
        cases = tuple(dataclasses.replace(record, shard=names[int(record.shard)]) for record in records)
        written = Dataset(temporary, protocol, fingerprint_of(protocol, cases), cases)
        _write_rejections(temporary / REJECTED, rejections)
        sizes = {path.name: path.stat().st_size for path in paths}
        _write_description(temporary / DESCRIPTION, written, sizes, features.description())
        write_splits(written, make_splits(cases, split_protocol, splits, seed), split_protocol, seed)
    return dataclasses.replace(written, folder=folder)


def _write_cases(
    protocol: PatchProtocol,
    outcomes: Iterable[AcceptedCase | RejectedCase],
    shards: ShardWriter,
    sheets: PreviewWriter,
    features: RadiomicsWriter,
) -> tuple[list[CaseRecord], list[RejectedCase]]:
    records, known, rejections = [], set(), []
    for outcome in outcomes:
        if isinstance(outcome, RejectedCase):
            rejections.append(outcome)
            continue
        record = outcome.record
        _check_nodule(outcome, protocol, record.case_id in known)
        shard, offset = shards.write(record.case_id, outcome.hu, outcome.mask)
        digest = digest_patch(outcome.hu, outcome.mask)
        records.append(dataclasses.replace(record, shard=str(shard), offset=offset, digest=digest))
        known.add(record.case_id)
        sheets.add(f"{record.case_id}  {record.label}", outcome.hu, outcome.mask)
        features.add(record.case_id, outcome.radiomics)
    if not records:
        raise DatasetError(
            "No case is left for the dataset.",
            found=f"{len(rejections)} rejected",
            expected="at least one case that can be used",
            remedy="Mend the rejected cases.",
        )
    return records, rejections


def _check_nodule(nodule: AcceptedCase, protocol: PatchProtocol, twice: bool) -> None:
    shape = (protocol.size,) * 3
    if twice:
        raise DatasetError(
            "Two cases have the same id.",
            case=nodule.record.case_id,
            expected="every id once",
            remedy="Give every nodule a case_id of its own.",
        )
    if nodule.hu.shape != shape or nodule.mask.shape != shape or not np.isfinite(nodule.hu).all():
        raise DatasetError(
            "A patch does not fit the dataset's protocol.",
            case=nodule.record.case_id,
            found=f"patch {nodule.hu.shape}, mask {nodule.mask.shape}",
            expected=f"finite values, both {shape}",
            remedy="Cut the patches with the protocol that the dataset is written by.",
        )


def _write_rejections(path: Path, rejections: list[RejectedCase]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["case", "reason", "remedy"])
        rows.writerows([rejection.case_id, rejection.reason, rejection.remedy] for rejection in rejections)


def _write_description(path: Path, dataset: Dataset, shards: dict[str, int], further: dict[str, Any]) -> None:
    description = {
        "schema": SCHEMA,
        "made_by": f"ggn-tf {__version__}",
        "protocol": to_json(dataset.protocol),
        "fingerprint": dataset.fingerprint,
        "labels": dict(sorted(dataset.label_counts.items())),
        "shards": shards,
        **further,
        "cases": dataset.cases,
    }
    with path.open("w", encoding="utf-8") as file:
        # Piece by piece, a record made a dict when it is written: as a whole it takes several times its size.
        json.dump(description, file, indent=1, default=to_json)
        file.write("\n")
