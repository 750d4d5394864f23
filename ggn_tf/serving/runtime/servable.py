"""One version of a model in memory: a SavedModel in a session, as in TensorFlow Serving."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np

from ggn_tf.serving.contract.trust import Trust
from ggn_tf.serving.contract.wire import ASSETS_EXTRA, CONTRACT_FILE
from ggn_tf.serving.runtime import c_session
from ggn_tf.serving.runtime.session import Session, SessionError, Signatures
from ggn_tf.tensorflow_import import import_for_model

if TYPE_CHECKING:
    from ggn_tf.serving.runtime.batching import BatchingParameters

# A batch of 24 in three runs of 8 took 17 % less processor time than in one, in bfloat16.
_ROWS_AT_ONCE = 8
# gRPC sends the message in a header, whose size is limited.
_LONGEST_MESSAGE_BYTES = 1024
_ABSOLUTE_PATH = re.compile(r"""(?<![^\s'"`(\[{=:;,])(?:\w+:)?/[^\s'"`)\]};,]+""")


def client_text(message: str) -> str:
    """A message for a client: at most 1024 bytes, one line, no control characters, no absolute path of the server."""
    message = (
        message[:_LONGEST_MESSAGE_BYTES]
        .encode("utf-8", errors="replace")[:_LONGEST_MESSAGE_BYTES]
        .decode(errors="ignore")
    )
    message = "".join(character if character.isprintable() else "?" for character in message)
    return _ABSOLUTE_PATH.sub("(path)", message)


# Not UNIMPLEMENTED, which only TensorFlow's run has: the graph cannot run on this machine.
_OF_CLIENTS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
}


class StatusError(Exception):
    """A request that ends with a gRPC status and a message as `client_text` has it; it never leaves the server.

    `by_client` is whether the request is wrong, not the state of the server; by default, as the code says.
    """

    def __init__(self, code: grpc.StatusCode, message: str, *, by_client: bool = False) -> None:
        message = client_text(message)
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.by_client = by_client or code in _OF_CLIENTS

    @classmethod
    def from_number(cls, number: int, message: str) -> "StatusError":
        """From TensorFlow's error code, whose numbers are gRPC's."""
        return cls(
            next((code for code in grpc.StatusCode if code.value[0] == number), grpc.StatusCode.UNKNOWN), message
        )


def invalid(message: str) -> StatusError:
    """INVALID_ARGUMENT: the request is wrong, whatever the state of the server."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_served(model_name: str, version: int | None) -> StatusError:
    """NOT_FOUND: the server has no such model, or no such version of it (None: none at all)."""
    version_text = "" if version is None else f", version {version},"
    return StatusError(grpc.StatusCode.NOT_FOUND, f"Model {model_name}{version_text} is not served here.")


class Servable:
    """A loaded version.

    Attributes:
        rows_at_once: Rows of a batch in one run, so that a large request does not keep others waiting. Our graphs
            compute each row by itself; of other programs' it is not known, and their batches are not divided.
    """

    def __init__(
        self,
        name: str,
        version: int,
        session: Session,
        signatures: Signatures,
        batched: Mapping[str, str] | None = None,
        rows_at_once: int = sys.maxsize,
    ) -> None:
        self._batched = batched or {}
        self.rows_at_once = rows_at_once
        self.name = name
        self.version = version
        self.signatures = signatures
        self._session = session

    def run(self, feeds: Mapping[str, np.ndarray], fetches: Mapping[str, str]) -> dict[str, np.ndarray]:
        """Run the graph without a time limit: TensorFlow's own was seen to report late and to stop nothing.

        Raises:
            StatusError: The run failed, with TensorFlow's own code and message.
        """
        try:
            return self._session.run(feeds, {alias: self._batched.get(name, name) for alias, name in fetches.items()})
        except MemoryError as error:
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "The server has too little memory.") from error
        except SessionError as error:
            raise StatusError.from_number(error.code, error.message) from error

    def close(self) -> None:
        """Close the session; when its memory is free, `Session.close` says."""
        self._session.close()


def open_servable(
    folder: Path,
    name: str,
    version: int,
    batching: "BatchingParameters | None" = None,
    trust: Trust | None = None,
    *,
    by_library: bool | None = None,
) -> Servable:
    """Load a version directory's SavedModel, to be served under this name and number.

    TensorFlow's C library is used or not as `by_library` says; by default where the process has not imported the Python
    package, whose settings it does not have. The package is also used where requests are joined, and for signatures
    with tensors that ours never have.

    Raises:
        ExportError: It is damaged or not to be trusted (see `Trust`), or TensorFlow cannot load it.
        MemoryError: Loading needs more than there is.
    """
    (trust or Trust()).check(folder)
    by_library = "tensorflow" not in sys.modules if by_library is None else by_library
    opened = c_session.open_session(folder) if by_library and batching is None else None
    if opened is None:
        import_for_model()
        from ggn_tf.serving.runtime.tensorflow_session import open_session

        opened = open_session(folder, batching)
    ours = (folder / ASSETS_EXTRA / CONTRACT_FILE).exists()
    rows_at_once = _ROWS_AT_ONCE if ours and batching is None else sys.maxsize
    return Servable(name, version, opened.session, opened.signatures, opened.batched, rows_at_once)
