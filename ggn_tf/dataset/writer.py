"""Writes a dataset folder: it exists whole or not at all."""

import csv
import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ggn_tf import __version__
from ggn_tf.dataset.case_outcome import AcceptedCase, RejectedCase
from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.dataset_json import DESCRIPTION, DIGEST, SCHEMA, description_digest, refuse_existing
from ggn_tf.dataset.previews import PreviewWriter
from ggn_tf.dataset.radiomics import RadiomicsWriter
from ggn_tf.dataset.records import Dataset, fingerprint_of
from ggn_tf.dataset.shards import CASES_PER_SHARD, ShardWriter
from ggn_tf.dataset.splits import make_splits, write_splits
from ggn_tf.errors import DatasetError
from ggn_tf.files import atomic_folder
from ggn_tf.json_records import to_json
from ggn_tf.protocol import PatchProtocol, SplitProtocol
from ggn_tf.shown_text import in_spreadsheet

REJECTED = "rejected.csv"


class _Written(NamedTuple):
    """A case in a shard whose file has no name yet: it names the number of shards."""

    record: CaseRecord
    shard_number: int


def write_dataset(
    folder: Path,
    protocol: PatchProtocol,
    outcomes: Iterable[AcceptedCase | RejectedCase],
    *,
    split_protocol: SplitProtocol,
    splits: int = SplitProtocol.splits,
    seed: int = SplitProtocol.seed,
    previews: bool = True,
    cases_per_shard: int = CASES_PER_SHARD,
    radiomics: Mapping[str, Any] | None = None,
    shared: bool = False,
) -> Dataset:
    """Write a dataset with its splits; an error leaves nothing behind.

    One case's patch is in memory at a time, and every case's record.

    Args:
        folder: A folder that is empty or does not exist.
        protocol: How the patches were cut.
        outcomes: The cases in the order of the table.
        split_protocol: Fractions of the test and the validation set.
        splits: Number of splits; they are numbered from 1.
        seed: Seed of the splits.
        previews: Whether to draw contact sheets.
        cases_per_shard: Number of cases in a TFRecord file.
        radiomics: Settings of the nodules' radiomic features; None where they have none.
        shared: Whether the umask decides who may enter the folder, and not its owner alone.

    Raises:
        DatasetError: The folder exists, no case is left, an id occurs twice, or a patch does not fit the protocol.
        SplitError: There are too few patients for three sets.
        ValueError: A record has no digest.
    """
    folder = Path(folder)
    refuse_existing(folder)
    with atomic_folder(folder, private=not shared) as temporary:
        with (
            ShardWriter(temporary, cases_per_shard) as shards,
            PreviewWriter(temporary, previews) as sheets,
            RadiomicsWriter(temporary, radiomics) as features,
        ):
            written, rejections = _write_cases(protocol, outcomes, shards, sheets, features)
            paths = shards.finish()
        cases = tuple(dataclasses.replace(case.record, shard=paths[case.shard_number].name) for case in written)
        dataset = Dataset(temporary, protocol, fingerprint_of(protocol, cases), cases)
        _write_rejections(temporary / REJECTED, rejections)
        sizes = {path.name: path.stat().st_size for path in paths}
        _write_description(temporary / DESCRIPTION, dataset, sizes, features.description())
        write_splits(dataset, make_splits(cases, split_protocol, splits, seed), split_protocol, seed)
    return dataclasses.replace(dataset, folder=folder)


def _write_cases(
    protocol: PatchProtocol,
    outcomes: Iterable[AcceptedCase | RejectedCase],
    shards: ShardWriter,
    sheets: PreviewWriter,
    features: RadiomicsWriter,
) -> tuple[list[_Written], list[RejectedCase]]:
    written, known, rejections = [], set(), []
    for outcome in outcomes:
        if isinstance(outcome, RejectedCase):
            rejections.append(outcome)
            continue
        record = outcome.record
        _check_case(outcome, protocol, record.case_id in known)
        shard_number, offset = shards.write(record.case_id, outcome.hu, outcome.mask)
        written.append(_Written(dataclasses.replace(record, offset=offset), shard_number))
        known.add(record.case_id)
        patch, mask = protocol.without_margin(outcome.hu), protocol.without_margin(outcome.mask)
        sheets.add(f"{record.case_id}  {record.label}", patch, mask)
        features.add(record.case_id, outcome.radiomics)
    if not written:
        raise DatasetError(
            "No case is left for the dataset.",
            found=f"{len(rejections)} rejected",
            expected="at least one case that can be used",
            remedy="Correct the rejected cases.",
        )
    return written, rejections


def _check_case(accepted: AcceptedCase, protocol: PatchProtocol, twice: bool) -> None:
    if not accepted.record.digest:
        raise ValueError(f"Expected the digest of the patch. Received: none for case {accepted.record.case_id}")
    shape = protocol.stored_zyx
    if twice:
        raise DatasetError(
            "Two cases have the same id.",
            case=accepted.record.case_id,
            expected="every id once",
            remedy="Give every nodule its own case_id.",
        )
    if accepted.hu.shape != shape or accepted.mask.shape != shape or not np.isfinite(accepted.hu).all():
        raise DatasetError(
            "A patch does not fit the dataset's protocol.",
            case=accepted.record.case_id,
            found=f"patch {accepted.hu.shape}, mask {accepted.mask.shape}",
            expected=f"finite values, both {shape}",
            remedy="Cut the patches with the dataset's protocol.",
        )


def _write_rejections(path: Path, rejections: list[RejectedCase]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["case", "reason", "remedy"])
        for rejection in rejections:
            rows.writerow(map(in_spreadsheet, (rejection.case_id, rejection.reason, rejection.remedy)))


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
        # Each record becomes a dict only when it is written: all of them together take several times the memory.
        json.dump({**description, DIGEST: description_digest(description)}, file, indent=1, default=to_json)
        file.write("\n")
