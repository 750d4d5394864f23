"""What runs a graph: one of TensorFlow's two interfaces, behind one of ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from ggn_tf.errors import ExportError

Signatures = Mapping[str, meta_graph_pb2.SignatureDef]


class SessionError(Exception):
    """A run that failed, with TensorFlow's code, whose numbers are gRPC's, and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


class Session(Protocol):
    """A SavedModel in memory; several threads may run it at once."""

    def run(self, feeds: Mapping[str, np.ndarray], fetches: Mapping[str, str]) -> dict[str, np.ndarray]:
        """Compute tensors, by alias, from others, by name; raises SessionError, or MemoryError."""

    def close(self) -> None:
        """Refuse further runs.

        The memory is free when nothing refers to the session; of TensorFlow's package, when Python's garbage collector
        has run as well.
        """


class OpenedModel(NamedTuple):
    """A loaded SavedModel.

    Attributes:
        batched: The names of tensors that a batch scheduler computes, by the names of the plain ones.
    """

    session: Session
    signatures: Signatures
    batched: Mapping[str, str] = {}


def not_loaded(folder: Path, reason: str) -> ExportError:
    """The error about a version directory that TensorFlow cannot load, with the first line of its reason."""
    return ExportError(
        "The version cannot be loaded.",
        case=folder,
        found=reason.partition("\n")[0],
        expected="a complete SavedModel",
        remedy="Export the run again.",
    )
