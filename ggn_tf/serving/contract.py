"""The names on the wire and in an export, once: what a client, a server and an export agree on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggn_tf.errors import ExportError, GgnError
from ggn_tf.protocol import Protocol
from ggn_tf.tasks import Task

SIGNATURE = "serving_default"
INPUT_HU = "hu"
OUTPUT_PROBABILITIES = "probabilities"
OUTPUT_MASK = "mask"
OUTPUT_CLASS_NAMES = "class_names"

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

WARMUP_BATCHES = (1, 24)
LARGEST_BATCH = 24
"""Patches a request: `serving/batching.config` admits no more, and 24 patches stay under gRPC's default 4 MiB."""

SCHEMA = 1


@dataclass(frozen=True)
class TensorContract:
    """One tensor of the signature.

    Attributes:
        name: On the wire.
        dtype: `float32` or `string`.
        shape: None for the batch.
        meaning: Unit and axis order, for a person.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    meaning: str

    @property
    def shape_text(self) -> str:
        """As a person reads it, for example `[N,32,32,32,1]`."""
        return shape_text(self.shape)


def shape_text(shape: tuple[int | None, ...]) -> str:
    """A shape as a person reads it, `N` for what is open."""
    return "[" + ",".join("N" if size is None else str(size) for size in shape) + "]"


@dataclass(frozen=True)
class ExportContract:
    """What one export answers.

    Attributes:
        task: The classes, in the order of `probabilities`.
        protocol: The numbers that the weights were trained with; `patch` says how to cut what is sent.
        provenance: Run, dataset, versions and scores, as the model card tells them.
    """

    task: Task
    protocol: Protocol
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[TensorContract, ...]:
        """The one input: patches of `PatchProtocol.size` cubed, in Hounsfield units."""
        size = self.protocol.patch.size
        return (
            TensorContract(
                INPUT_HU, "float32", (None, size, size, size, 1), "Hounsfield units; batch, z, y, x, channel"
            ),
        )

    @property
    def outputs(self) -> tuple[TensorContract, ...]:
        """Every output leads with the batch: TensorFlow Serving's batching splits along it."""
        size, classes = self.protocol.patch.size, len(self.task.classes)
        return (
            TensorContract(OUTPUT_PROBABILITIES, "float32", (None, classes), "sums to 1; batch, class"),
            TensorContract(
                OUTPUT_MASK, "float32", (None, size, size, size, 1), "nodule, 0 to 1; batch, z, y, x, channel"
            ),
            TensorContract(OUTPUT_CLASS_NAMES, "string", (None, classes), "class names; batch, class"),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; `from_dict` gives an equal object back."""
        return {
            "schema": SCHEMA,
            "signature": SIGNATURE,
            "inputs": [vars(tensor) for tensor in self.inputs],
            "outputs": [vars(tensor) for tensor in self.outputs],
            "task": str(self.task),
            "class_names": list(self.task.class_names),
            "protocol": self.protocol.to_dict(),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "ExportContract":
        """Read what `to_dict` wrote.

        Raises:
            GgnError: Its task or protocol cannot be read.
            KeyError: A field is missing, or the schema is another.
        """
        if stored["schema"] != SCHEMA:
            raise KeyError("schema")
        return cls(Task.parse(stored["task"]), Protocol.from_dict(stored["protocol"]), stored["provenance"])


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
