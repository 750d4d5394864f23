"""One version of a model in memory: a SavedModel in a TF1 session, as TensorFlow Serving holds it.

The session was chosen by measurement: one patch takes 24 ms at best, through `signatures[...]` of `tf.saved_model.load`
28 ms (24 patches: no difference), and repeated loading and closing does not make the process grow.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from ggn_tf.errors import ExportError
from ggn_tf.serving.status_error import StatusError

Signatures = Mapping[str, meta_graph_pb2.SignatureDef]


class Servable:
    """A loaded version.

    Args:
        name: Of the model.
        version: Number of the version directory.
        session: Holds graph and weights.
        signatures: By name.
    """

    def __init__(self, name: str, version: int, session: tf.compat.v1.Session, signatures: Signatures) -> None:
        """Use `open_servable`."""
        self.name = name
        self.version = version
        self.signatures = signatures
        self._session = session

    def run(self, feeds: Mapping[str, np.ndarray], fetches: Mapping[str, str]) -> dict[str, np.ndarray]:
        """Run the graph, to its end: TensorFlow's own timeout was seen to report late without stopping anything.

        Args:
            feeds: Arrays by the name of the graph's tensor.
            fetches: Names of the graph's tensors, by alias.

        Returns:
            Arrays by alias.

        Raises:
            StatusError: The run failed, with TensorFlow's own code and message.
        """
        try:
            fetched: dict[str, np.ndarray] = self._session.run(dict(fetches), dict(feeds))
        except tf.errors.OpError as error:
            raise StatusError.from_number(error.error_code, error.message) from error
        return fetched

    def close(self) -> None:
        """Give the memory back."""
        self._session.close()


def open_servable(folder: Path, name: str, version: int) -> Servable:
    """Load a SavedModel.

    Args:
        folder: The version directory.
        name: Of the model.
        version: The number it is served under.

    Raises:
        ExportError: TensorFlow cannot load it.
    """
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    try:
        with graph.as_default(), _without_deprecation_notes():
            meta_graph = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], str(folder))
    except (OSError, RuntimeError, ValueError, KeyError, tf.errors.OpError) as error:
        session.close()
        raise ExportError(
            "The version cannot be loaded.",
            case=folder,
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            expected="a whole SavedModel",
            remedy="Export the run anew.",
        ) from error
    return Servable(name, version, session, dict(meta_graph.signature_def))


@contextmanager
def _without_deprecation_notes() -> Iterator[None]:
    """Keep TensorFlow from telling every user of the server that its TF1 loader is old."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
