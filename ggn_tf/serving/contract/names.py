"""The names on the wire and in an export, once: what a client, a server and an export agree on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggn_tf.errors import ExportError, GgnError
from ggn_tf.json_records import from_json, to_json
from ggn_tf.protocol import Protocol
from ggn_tf.serving.contract.warning_texts import OF_PATCHES, OF_REGIONS, WarningKind
from ggn_tf.tasks import Task

SIGNATURE = "serving_default"
SIGNATURE_ROI = "roi"
INPUT_HU = "hu"
INPUT_SPACING = "spacing_mm"
INPUT_CENTER = "center_index"
OUTPUT_PROBABILITIES = "probabilities"
OUTPUT_MASK = "mask"
OUTPUT_CLASS_NAMES = "class_names"
OUTPUT_WARNING = "warning"

INPUTS = {SIGNATURE: (INPUT_HU,), SIGNATURE_ROI: (INPUT_HU, INPUT_SPACING, INPUT_CENTER)}
OUTPUTS = (OUTPUT_PROBABILITIES, OUTPUT_MASK, OUTPUT_CLASS_NAMES, OUTPUT_WARNING)
"""Of both signatures."""
DTYPES = {
    INPUT_HU: "float32",
    INPUT_SPACING: "float64",
    INPUT_CENTER: "float64",
    OUTPUT_PROBABILITIES: "float32",
    OUTPUT_MASK: "float32",
    OUTPUT_CLASS_NAMES: "string",
    OUTPUT_WARNING: "string",
}
"""Voxels are float32; where they lie is float64, as in DICOM."""

MODEL_NAME = "ggn"
PORT = 8500

ASSETS_EXTRA = "assets.extra"
"""The folder of a SavedModel that TensorFlow carries along without reading it."""
WARMUP_FILE = "tf_serving_warmup_requests"
"""The name is TensorFlow Serving's: it replays these requests before a version answers."""
GOLDEN_FILE = "golden_predictions"
LABELS_FILE = "labels.txt"
CONTRACT_FILE = "contract.json"
MODEL_CARD_FILE = "model_card.md"

WARMUP_BATCHES = (1, 2, 4, 8, 16, 24)
"""Of `serving_default`: what batching rounds up to (`allowed_batch_sizes` in `serving/batching.config`)."""
WARMUP_BATCHES_ROI = (1, 24)
"""Of `roi`: its convolutions are those of `serving_default`, and kernels are kept by shape, whoever asked."""
LARGEST_BATCH = 24
"""Patches a request: `serving/batching.config` admits no more, and 24 patches stay under gRPC's default 4 MiB."""

TOLERANCES = {
    "float32": {OUTPUT_PROBABILITIES: 1e-3, OUTPUT_MASK: 1e-2},
    "bfloat16": {OUTPUT_PROBABILITIES: 0.02, OUTPUT_MASK: 0.1},
}
"""How far the same weights may answer apart on another machine, by precision: another order of the same sums."""

SCHEMA = 3


@dataclass(frozen=True)
class TensorContract:
    """One tensor of a signature.

    Attributes:
        name: On the wire.
        shape: None for what is open; the first is the batch.
        meaning: Unit and axis order, for a person.
    """

    name: str
    shape: tuple[int | None, ...]
    meaning: str

    @property
    def dtype(self) -> str:
        """`float32`, `float64` or `string`."""
        return DTYPES[self.name]

    @property
    def shape_text(self) -> str:
        """As a person reads it, for example `[N,32,32,32,1]`."""
        return shape_text(self.shape)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {"name": self.name, "dtype": self.dtype, "shape": self.shape, "meaning": self.meaning}


def shape_text(shape: tuple[int | None, ...]) -> str:
    """A shape as a person reads it: `N` for an open first size, the batch, then `D`, `H` and `W`."""
    letters = iter("NDHW")
    return "[" + ",".join(next(letters, "?") if size is None else str(size) for size in shape) + "]"


@dataclass(frozen=True)
class SignatureContract:
    """One way to ask.

    Attributes:
        name: On the wire.
        inputs: Every one leads with the batch.
        outputs: So does every one of them: TensorFlow Serving's batching splits along it.
        doubts: What its `warning` may say.
    """

    name: str
    inputs: tuple[TensorContract, ...]
    outputs: tuple[TensorContract, ...]
    doubts: tuple[WarningKind, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "inputs": [tensor.to_dict() for tensor in self.inputs],
            "outputs": [tensor.to_dict() for tensor in self.outputs],
            "warnings": {doubt.code: doubt.text for doubt in self.doubts},
        }


@dataclass(frozen=True)
class ExportContract:
    """What one export answers.

    Attributes:
        task: The classes, in the order of `probabilities`.
        protocol: The numbers that the weights were trained with; `patch` says how to cut what is sent.
        precision: `float32` or `bfloat16`, what the network computes in.
        provenance: Run, dataset, versions and scores, as the model card tells them.
    """

    task: Task
    protocol: Protocol
    precision: str = "float32"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def signatures(self) -> tuple[SignatureContract, ...]:
        """`serving_default` for patches that are cut already, `roi` for regions of a CT; the same outputs."""
        size = self.protocol.patch.size
        patch = TensorContract(INPUT_HU, (None, size, size, size, 1), "Hounsfield units; batch, z, y, x, channel")
        region = (
            TensorContract(INPUT_HU, (None,) * 4, "a region of the CT, Hounsfield units; batch, z, y, x"),
            TensorContract(INPUT_SPACING, (None, 3), "distance of the region's voxels, mm; batch, (z, y, x)"),
            TensorContract(
                INPUT_CENTER,
                (None, 3),
                "the nodule's centre in voxels of the region, 0 at the first voxel's centre; batch, (z, y, x)",
            ),
        )
        return (
            SignatureContract(SIGNATURE, (patch,), self.outputs, OF_PATCHES),
            SignatureContract(SIGNATURE_ROI, region, self.outputs, OF_REGIONS + OF_PATCHES),
        )

    @property
    def outputs(self) -> tuple[TensorContract, ...]:
        """Of every signature."""
        size, classes = self.protocol.patch.size, len(self.task.classes)
        return (
            TensorContract(OUTPUT_PROBABILITIES, (None, classes), "sums to 1; batch, class"),
            TensorContract(
                OUTPUT_MASK,
                (None, size, size, size, 1),
                "nodule, 0 to 1, on the patch's grid; batch, z, y, x, channel",
            ),
            TensorContract(OUTPUT_CLASS_NAMES, (None, classes), "class names; batch, class"),
            TensorContract(OUTPUT_WARNING, (None,), "lines `code: text`, empty without a reason; batch"),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; `from_dict` gives an equal object back."""
        return {
            "schema": SCHEMA,
            "model_name": MODEL_NAME,
            "signatures": {signature.name: signature.to_dict() for signature in self.signatures},
            "task": str(self.task),
            "class_names": list(self.task.class_names),
            "patch_grid": self._patch_grid(),
            "largest_batch": LARGEST_BATCH,
            "precision": self.precision,
            "tolerances": TOLERANCES[self.precision],
            "protocol": to_json(self.protocol),
            "protocol_sha256": _hash(to_json(self.protocol)),
            "provenance": dict(self.provenance),
        }

    def _patch_grid(self) -> dict[str, Any]:
        """Where a voxel of patch and mask lies in a region."""
        patch = self.protocol.patch
        middle = (patch.size - 1) / 2
        return {
            "size_zyx": [patch.size] * 3,
            "spacing_mm_zyx": list(patch.spacing_mm_zyx),
            "region_index_zyx": f"{INPUT_CENTER} + (i - {middle:g}) * spacing_mm_zyx / {INPUT_SPACING}",
            "region_mm_zyx": [round((patch.size - 1) * step, 6) for step in patch.spacing_mm_zyx],
            "outside_hu": patch.outside_hu,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "ExportContract":
        """Read what `to_dict` wrote.

        Raises:
            GgnError: Its task or protocol cannot be read.
            KeyError: A field is missing, or the schema or the precision is another.
            ValueError: The protocol is not the one that was hashed.
        """
        if stored["schema"] != SCHEMA:
            raise KeyError("schema")
        if _hash(stored["protocol"]) != stored["protocol_sha256"]:
            raise ValueError("protocol_sha256 is not that of protocol")
        TOLERANCES[stored["precision"]]
        protocol = from_json(Protocol, stored["protocol"])
        return cls(Task.parse(stored["task"]), protocol, stored["precision"], stored["provenance"])


def _hash(protocol: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(protocol, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_contract(version_folder: Path) -> ExportContract:
    """Read the contract that travels in an export.

    Args:
        version_folder: A version directory, for example MODELS/ggn/1.

    Raises:
        ExportError: The folder holds no export of ours.
    """
    file = version_folder / ASSETS_EXTRA / CONTRACT_FILE
    try:
        return ExportContract.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, GgnError) as error:
        raise ExportError(
            "The folder holds no export of ggn-tf, or a damaged one.",
            case=version_folder,
            found=f"{type(error).__name__}: {error}",
            expected=f"a version directory with {ASSETS_EXTRA}/{CONTRACT_FILE} of schema {SCHEMA}",
            remedy="Name the folder that ggn-tf export wrote, or export the run anew.",
        ) from error
