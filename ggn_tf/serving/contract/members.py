"""The runs whose predictions an export averages, as its contract lists them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ggn_tf.json_records import added_later


@dataclass(frozen=True)
class Member:
    """One of the runs.

    Attributes:
        run: Name of the run folder.
        stage: The stage whose weights were exported.
        split: Number of the split.
        seed: Seed of the training.
        model_sha256: SHA-256 of the exported `.keras` file.
        dataset_fingerprint: Fingerprint of the dataset.
        split_digest: Digest of the split; None in runs that did not record it.
        fold: Number of the fold in a cross-validation, from 1; None outside of one.
    """

    run: str
    stage: str
    split: int
    seed: int
    model_sha256: str
    dataset_fingerprint: str
    split_digest: str | None = added_later(None)
    fold: int | None = added_later(None)


class Difference(StrEnum):
    """What the members' trainings differ in."""

    SEEDS = "seeds"
    FOLDS = "folds"
    DATASETS = "datasets"


def difference_of(members: Sequence[Member]) -> Difference:
    """Whether members were trained on the same data, on parts of one dataset, or on several datasets."""
    if len({member.dataset_fingerprint for member in members}) > 1:
        return Difference.DATASETS
    splits = {(member.fold, member.split, member.split_digest) for member in members}
    return Difference.FOLDS if len(splits) > 1 else Difference.SEEDS
