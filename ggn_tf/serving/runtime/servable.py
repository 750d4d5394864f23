"""One version of a model in memory: a SavedModel in a TF1 session, as in TensorFlow Serving.

The session was chosen by measurement: through `signatures[...]` of `tf.saved_model.load` a patch takes 15 % longer.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from ggn_tf.errors import ExportError
from ggn_tf.serving.contract.checksums import check_checksums
from ggn_tf.serving.contract.status_error import StatusError
from ggn_tf.serving.runtime.batching import BatchingParameters, add_batching

Signatures = Mapping[str, meta_graph_pb2.SignatureDef]


class Servable:
    """A loaded version.

    Args:
        name: Name of the model.
        version: Number of the version directory.
        session: Session with graph and weights.
        signatures: Signatures by name.
        batched: By name of an output tensor, the tensor that computes it through a batch scheduler.
    """

    def __init__(
        self,
        name: str,
        version: int,
        session: tf.compat.v1.Session,
        signatures: Signatures,
        batched: Mapping[str, str] | None = None,
    ) -> None:
        self._batched = batched or {}
        self.name = name
        self.version = version
        self.signatures = signatures
        self._session = session

    def run(self, feeds: Mapping[str, np.ndarray], fetches: Mapping[str, str]) -> dict[str, np.ndarray]:
        """Run the graph without a time limit: TensorFlow's own was seen to report late and to stop nothing.

        Args:
            feeds: Arrays by the name of the graph's tensor.
            fetches: Names of the graph's tensors by alias.

        Returns:
            Arrays by alias.

        Raises:
            StatusError: The run failed, with TensorFlow's own code and message.
        """
        try:
            names = {alias: self._batched.get(name, name) for alias, name in fetches.items()}
            fetched: dict[str, np.ndarray] = self._session.run(names, dict(feeds))
        except tf.errors.OpError as error:
            # The runtime's message: the one that Python makes of it shows clients the paths of our source files.
            cause = error.__context__ if isinstance(error.__context__, tf.errors.OpError) else error
            raise StatusError.from_number(cause.error_code, cause.message) from error
        return fetched

    def close(self) -> None:
        """Close the session; the graph's memory is free when Python's garbage collector has run."""
        self._session.close()


def open_servable(folder: Path, name: str, version: int, batching: BatchingParameters | None = None) -> Servable:
    """Load a SavedModel.

    Args:
        folder: The version directory.
        name: Name of the model.
        version: The number under which it is served.
        batching: How to join requests; None to run each by itself.

    Raises:
        ExportError: It is damaged, or TensorFlow cannot load it.
    """
    check_checksums(folder)
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    try:
        with graph.as_default(), _without_deprecation_warnings():
            meta_graph = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], str(folder))
            batched = {} if batching is None else add_batching(graph, meta_graph.signature_def, batching)
    except Exception as error:  # a damaged graph makes the loader raise anything
        session.close()
        raise ExportError(
            "The version cannot be loaded.",
            case=folder,
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            expected="a complete SavedModel",
            remedy="Export the run again.",
        ) from error
    return Servable(name, version, session, dict(meta_graph.signature_def), batched)


@contextmanager
def _without_deprecation_warnings() -> Iterator[None]:
    """Every user of the server would read that TensorFlow's TF1 loader is deprecated."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
