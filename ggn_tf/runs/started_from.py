"""From which weights a run has started, other than the initial ones of its seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ggn_tf.json_records import added_later

SourceKind = Literal["run", "export", "file"]


@dataclass(frozen=True)
class StartedFrom:
    """The source of a run's first weights, for `run.json`.

    Attributes:
        kind: A run, an export, or a `.keras` file.
        name: Name of its folder or file.
        sha256: Of the `.keras` file that the weights were read from.
        model: `raw`, `reference`, `cascade` or `multitask`.
        task: The source's task; None where it is not known.
        dataset_fingerprint: The fingerprint of the dataset that the source was trained on; None where it is not known.
        patients_checked: Whether it was checked that the source has not learned of a patient of the test set, and was
            not trained on one of the validation set.
        freeze: Number of convolution blocks, from the input of each part whose weights were taken, that stay fixed.
        taken: The layers whose weights were taken, each with their SHA-256.
        initialised: The layers with the initial weights of the run's seed.
        frozen: The layers that stay fixed.
    """

    kind: SourceKind
    name: str
    sha256: str
    model: str
    task: str | None
    dataset_fingerprint: str | None
    patients_checked: bool
    freeze: int
    taken: Mapping[str, str]
    initialised: tuple[str, ...]
    frozen: tuple[str, ...]


@dataclass(frozen=True)
class TrainedOn:
    """Of whom a network has learned: the patients of its training set and of the set that selected its weights.

    Attributes:
        patients: Their ids, as in the datasets.
        patches: SHA-256 of each nodule's patch and mask, without the margin.
        selecting: Those of both that have only selected weights, and are in no training set.
    """

    patients: tuple[str, ...]
    patches: tuple[str, ...]
    selecting: tuple[str, ...] = added_later(())

    def joined(self, *others: "TrainedOn") -> "TrainedOn":
        """Of whom this network or one of the others has learned."""
        parts = (self, *others)
        trained = {key for part in parts for key in {*part.patients, *part.patches} - set(part.selecting)}
        return TrainedOn(
            tuple(sorted({patient for part in parts for patient in part.patients})),
            tuple(sorted({patch for part in parts for patch in part.patches})),
            tuple(sorted({key for part in parts for key in part.selecting} - trained)),
        )

    def training_sets(self) -> "TrainedOn":
        """Without those that have only selected weights."""
        selecting = set(self.selecting)
        patients, patches = (
            tuple(key for key in keys if key not in selecting) for keys in (self.patients, self.patches)
        )
        return TrainedOn(patients, patches)


UNTRAINED = TrainedOn((), ())
"""Initial weights have learned of no patient."""
