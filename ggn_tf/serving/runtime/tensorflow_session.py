"""A SavedModel in a TF1 session of TensorFlow's Python package.

The session was chosen by measurement: through `signatures[...]` of `tf.saved_model.load` a patch takes 15 % longer.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from ggn_tf.serving.runtime.batching import BatchingParameters, add_batching
from ggn_tf.serving.runtime.session import OpenedModel, SessionError, not_loaded


class TensorflowSession:
    """A `Session` of TensorFlow's Python package."""

    def __init__(self, session: tf.compat.v1.Session) -> None:
        self._session = session

    def run(self, feeds: Mapping[str, np.ndarray], fetches: Mapping[str, str]) -> dict[str, np.ndarray]:
        """As `Session.run`."""
        try:
            fetched: dict[str, np.ndarray] = self._session.run(dict(fetches), dict(feeds))
        except tf.errors.OpError as error:
            # The runtime's message: the one that Python makes of it shows clients the paths of our source files.
            cause = error.__context__ if isinstance(error.__context__, tf.errors.OpError) else error
            raise SessionError(cause.error_code, cause.message) from error
        return fetched

    def close(self) -> None:
        """As `Session.close`."""
        self._session.close()


def open_session(folder: Path, batching: BatchingParameters | None = None) -> OpenedModel:
    """Load a version directory's SavedModel; raises ExportError where TensorFlow cannot load it."""
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    try:
        with graph.as_default(), _without_deprecation_warnings():
            meta_graph = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], str(folder))
            batched = {} if batching is None else add_batching(graph, meta_graph.signature_def, batching)
    except Exception as error:  # a damaged graph makes the loader raise anything
        session.close()
        raise not_loaded(folder, f"{type(error).__name__}: {error}") from error
    return OpenedModel(TensorflowSession(session), dict(meta_graph.signature_def), batched)


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
