"""An export in this process, without a server: the same signature, asked by the same messages."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from ggn_tf.errors import ServingError
from ggn_tf.serving.contract import MODEL_NAME, read_contract
from ggn_tf.serving.messages import Prediction, make_request, read_response
from ggn_tf.serving.predict import predict
from ggn_tf.serving.servable import open_servable
from ggn_tf.serving.status_error import StatusError
from ggn_tf.serving.version_folders import find_version


class LocalModel:
    """A loaded export.

    Args:
        folder: A model folder, of which the newest version is taken, or a version directory.

    Raises:
        ExportError: The folder holds no export of ours, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        """Load it."""
        version, self.folder = find_version(folder)
        self.contract = read_contract(self.folder)
        self._servable = open_servable(self.folder, MODEL_NAME, version)

    def predict(self, hu: np.ndarray) -> Prediction:
        """Ask about patches.

        Args:
            hu: [N, S, S, S, 1], Hounsfield units on the patch grid, axes z, y, x.

        Raises:
            ServingError: The patches do not have the shape that the model takes.
        """
        try:
            return read_response(predict(self._servable, make_request(hu, MODEL_NAME)), hu)
        except StatusError as error:
            raise ServingError("The export refuses.", case=self.folder, found=error.message) from error

    def close(self) -> None:
        """Give the memory back."""
        self._servable.close()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
