"""The contract that travels in an export: its signatures, classes, patch grid and protocol."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ggn_tf.errors import ExportError, RecordError
from ggn_tf.json_records import added_later, from_json, parse_document, to_json
from ggn_tf.protocol import Protocol
from ggn_tf.serving.contract import wire
from ggn_tf.serving.contract.version_folders import read_record
from ggn_tf.serving.contract.warning_texts import (
    ATYPICAL,
    MOVED_FAR,
    PATCH_WARNINGS,
    REGION_WARNINGS,
    UNDECIDED,
    WarningKind,
)
from ggn_tf.tasks import Task


@dataclass(frozen=True)
class UncertaintyContract:
    """How the outputs `in_set` and `typicality` were fitted: on held-out nodules, those outside the training sets.

    All members have one split. The thresholds are from its validation set, which also selected the weights.

    Attributes:
        coverage: Share of prediction sets that contain the true class, for nodules like the held-out ones.
        patients: Held-out patients with a nodule of each class.
        patients_needed: The fewest with which a set can exclude a class; below, every set contains it.
        least_probabilities: Lowest probability with which a set contains each class.
        held_out_nodules: Number of held-out nodules among whose distances `typicality` is a rank, of each member.
    """

    coverage: float
    patients: tuple[int, ...]
    patients_needed: int
    least_probabilities: tuple[float, ...]
    held_out_nodules: tuple[int, ...]


@dataclass(frozen=True)
class Member:
    """One of the runs.

    Attributes:
        stage: The stage whose weights were exported.
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


@dataclass(frozen=True)
class TensorContract:
    """One tensor of a signature: sizes are None where open, the first being the batch; the meaning is for a person."""

    name: str
    shape: tuple[int | None, ...]
    meaning: str

    @property
    def dtype(self) -> str:
        """`float32`, `float64` or `string`."""
        return wire.DTYPES[self.name]

    def to_dict(self) -> dict[str, Any]:
        """The tensor as JSON types."""
        return {"name": self.name, "dtype": self.dtype, "shape": self.shape, "meaning": self.meaning}


@dataclass(frozen=True)
class SignatureContract:
    """One signature of the SavedModel, and what its output `warning` may contain.

    The first dimension of inputs and outputs is the batch: TensorFlow Serving's batching splits them along it.
    """

    name: str
    inputs: tuple[TensorContract, ...]
    outputs: tuple[TensorContract, ...]
    warnings: tuple[WarningKind, ...]

    def to_dict(self) -> dict[str, Any]:
        """The signature as JSON types."""
        return {
            "inputs": [tensor.to_dict() for tensor in self.inputs],
            "outputs": [tensor.to_dict() for tensor in self.outputs],
            "warnings": {warning.code: warning.text for warning in self.warnings},
        }


_CENTERS = (
    TensorContract(wire.OUTPUT_CENTER, (None, 3), "the patch's centre in voxels of the region; batch, (S, P, L)"),
    TensorContract(wire.OUTPUT_MOVED, (None,), "its distance from the given centre, mm; batch"),
)


@dataclass(frozen=True)
class ExportContract:
    """What one export takes and predicts; provenance is run, dataset, versions and scores, as in the model card.

    Attributes:
        members: The runs whose predictions are averaged; none in the export of a single run.
        mirrored: Whether the prediction is the mean over the eight mirrors of the patch.
        uncertainty: How prediction sets and typicality were fitted; None in exports without them.
    """

    task: Task
    protocol: Protocol
    precision: str = "float32"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    mirrored: bool = False
    uncertainty: UncertaintyContract | None = None

    @property
    def signatures(self) -> tuple[SignatureContract, ...]:
        """`serving_default` for cut patches, `roi` for regions of a CT, `roi_recentered`, which moves the centre."""
        size = self.protocol.patch.size
        patch = TensorContract(wire.INPUT_HU, (None, size, size, size, 1), "Hounsfield units; batch, S, P, L, channel")
        center_meaning = "the nodule's centre in voxels of the region, 0 at the first voxel's centre; batch, (S, P, L)"
        region = (
            TensorContract(wire.INPUT_HU, (None,) * 4, "a region of the CT, Hounsfield units; batch, S, P, L"),
            TensorContract(wire.INPUT_SPACING, (None, 3), "distance of the region's voxels, mm; batch, (S, P, L)"),
            TensorContract(wire.INPUT_CENTER, (None, 3), center_meaning),
        )
        return (
            SignatureContract(wire.SIGNATURE, (patch,), self.outputs, self._patch_warnings),
            SignatureContract(wire.SIGNATURE_ROI, region, self.outputs, REGION_WARNINGS + self._patch_warnings),
            SignatureContract(
                wire.SIGNATURE_RECENTERED,
                region,
                (*self.outputs, *_CENTERS),
                (*REGION_WARNINGS, MOVED_FAR, *self._patch_warnings),
            ),
        )

    @property
    def outputs(self) -> tuple[TensorContract, ...]:
        """The outputs that all signatures have."""
        size, classes = self.protocol.patch.size, len(self.task.classes)
        mask_meaning = "nodule, 0 to 1, on the patch's grid; batch, S, P, L, channel"
        return (
            TensorContract(wire.OUTPUT_PROBABILITIES, (None, classes), "sums to 1; batch, class"),
            TensorContract(wire.OUTPUT_MASK, (None, size, size, size, 1), mask_meaning),
            TensorContract(wire.OUTPUT_CLASS_NAMES, (None, classes), "class names; batch, class"),
            TensorContract(wire.OUTPUT_WARNING, (None,), "lines `code: text`, empty without a reason; batch"),
            *self.further_outputs,
        )

    @property
    def further_outputs(self) -> tuple[TensorContract, ...]:
        """The outputs that this export adds to those of every export; `further_outputs` of its graph computes them."""
        by_class, outputs = (None, len(self.task.classes)), []
        if len(self.members) > 1:
            meaning = "standard deviation (ddof 0) of the members' probabilities; batch, class"
            outputs.append(TensorContract(wire.OUTPUT_SPREAD, by_class, meaning))
        if self.uncertainty is not None:
            meaning = "1 where the prediction set contains the class, else 0; batch, class"
            outputs.append(TensorContract(wire.OUTPUT_SET, by_class, meaning))
            meaning = "p value of the distance from the training nodules, the mean over the members; batch"
            outputs.append(TensorContract(wire.OUTPUT_TYPICALITY, (None,), meaning))
        return tuple(outputs)

    @property
    def _patch_warnings(self) -> tuple[WarningKind, ...]:
        return PATCH_WARNINGS if self.uncertainty is None else (*PATCH_WARNINGS, UNDECIDED, ATYPICAL)

    @property
    def tolerances(self) -> dict[str, float]:
        """The largest difference of an output on another machine, by its name."""
        allowed = wire.TOLERANCES[self.precision]
        return {output.name: allowed[output.name] for output in self.outputs if output.name in allowed}

    def to_dict(self) -> dict[str, Any]:
        """The contract as JSON types; `from_dict` reads it back."""
        return {
            "schema": wire.SCHEMA,
            "model_name": wire.MODEL_NAME,
            "signatures": {signature.name: signature.to_dict() for signature in self.signatures},
            "task": str(self.task),
            "class_names": list(self.task.class_names),
            "patch_grid": self._patch_grid(),
            "largest_batch": wire.LARGEST_BATCH,
            "precision": self.precision,
            "tolerances": self.tolerances,
            "protocol": to_json(self.protocol),
            "protocol_sha256": _hash(to_json(self.protocol)),
            "provenance": dict(self.provenance),
            **({"members": [to_json(member) for member in self.members]} if self.members else {}),
            **({"mirrored": True} if self.mirrored else {}),
            **({} if self.uncertainty is None else {"uncertainty": to_json(self.uncertainty)}),
        }

    def _patch_grid(self) -> dict[str, Any]:
        """The position of a voxel of patch and mask in a region."""
        patch = self.protocol.patch
        middle = (patch.size - 1) / 2
        return {
            "size_zyx": [patch.size] * 3,
            "spacing_mm_zyx": list(patch.spacing_mm_zyx),
            "region_index_zyx": f"{wire.INPUT_CENTER} + (i - {middle:g}) * spacing_mm_zyx / {wire.INPUT_SPACING}",
            "region_mm_zyx": [round((patch.size - 1) * step, 6) for step in patch.spacing_mm_zyx],
            "outside_hu": patch.outside_hu,
        }

    @classmethod
    def from_dict(cls, stored: Any) -> "ExportContract":
        """Read what `to_dict` wrote.

        Raises:
            RecordError: A field is missing or not of its type.
            ValueError: Schema or precision is unknown, or the protocol is not the one that was hashed.
        """
        document = from_json(StoredContract, stored, ignore_unknown=True)
        if document.schema != wire.SCHEMA:
            raise ValueError(f"schema is {document.schema}")
        if _hash(stored["protocol"]) != document.protocol_sha256:
            raise ValueError("protocol_sha256 is not the hash of protocol")
        if document.precision not in wire.TOLERANCES:
            raise ValueError(f"precision is {document.precision}")
        return cls(
            document.task,
            document.protocol,
            document.precision,
            document.provenance,
            document.members,
            document.mirrored,
            document.uncertainty,
        )


@dataclass(frozen=True)
class StoredContract:
    """The fields of `contract.json` that are read; the others are for other programs."""

    schema: int
    task: Task
    precision: str
    protocol: Protocol
    protocol_sha256: str
    provenance: dict[str, Any]
    members: tuple[Member, ...] = added_later(())
    mirrored: bool = added_later(False)
    uncertainty: UncertaintyContract | None = added_later(None)  # noqa: RUF009


def _hash(protocol: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(protocol, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_contract(version_folder: Path) -> ExportContract:
    """Read the contract of a version directory; raises ExportError where it is damaged, or not from ggn-tf."""
    try:
        return ExportContract.from_dict(parse_document(read_record(version_folder, wire.CONTRACT_FILE)))
    except (OSError, ValueError, RecordError) as error:
        raise ExportError(
            "The folder is not an export of ggn-tf, or a damaged one.",
            case=version_folder,
            found=f"{error.case}: {error.found}" if isinstance(error, RecordError) else error,
            expected=f"a version directory with {wire.ASSETS_EXTRA}/{wire.CONTRACT_FILE} of schema {wire.SCHEMA}",
            remedy="Give the folder that ggn-tf export wrote, or export the run again.",
        ) from error
