"""An export loaded in this process, with the same requests and responses as a server's."""

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from tensorflow_serving.apis import predict_pb2

from ggn_tf.errors import ServingError
from ggn_tf.serving.contract.export_contract import read_contract
from ggn_tf.serving.contract.messages import Prediction, make_request, make_roi_request, read_response
from ggn_tf.serving.contract.names import MODEL_NAME
from ggn_tf.serving.contract.region_axes import MODEL_AXES, order_regions
from ggn_tf.serving.contract.status_error import StatusError
from ggn_tf.serving.contract.version_folders import find_version
from ggn_tf.serving.runtime.predict_request import predict
from ggn_tf.serving.runtime.servable import open_servable


class LocalModel(AbstractContextManager["LocalModel"]):
    """A loaded export.

    Args:
        folder: A version directory, or a model folder, whose newest version is taken.

    Raises:
        ExportError: The folder is not an export of ggn-tf, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        version, self.folder = find_version(folder)
        self.contract = read_contract(self.folder)
        self._servable = open_servable(self.folder, MODEL_NAME, version)

    def predict(self, hu: np.ndarray) -> Prediction:
        """Predict patches.

        Args:
            hu: [N, 32, 32, 32, 1], Hounsfield units on the patch grid, axes S, P, L.

        Raises:
            ServingError: The patches do not have the shape that the model takes.
        """
        return self._run(make_request(hu, MODEL_NAME), hu.shape)

    def predict_roi(
        self, hu: np.ndarray, spacing_mm: np.ndarray, center_index: np.ndarray, axes: str = MODEL_AXES
    ) -> Prediction:
        """Predict the nodules in regions of a CT, from which the graph cuts the patches.

        Args:
            hu: [N, D, H, W], Hounsfield units.
            spacing_mm: [N, 3], spacing of the regions' voxels, in the order of the axes of `hu`.
            center_index: [N, 3], the nodules' centres in voxels of the regions, 0 at the first voxel's centre.
            axes: The directions in which the axes of `hu` run, first axis first, for example `IPL`; see
                `order_regions`.

        Raises:
            ServingError: The arrays do not have these shapes.
        """
        request = make_roi_request(order_regions(hu, spacing_mm, center_index, axes), MODEL_NAME)
        return self._run(request, (len(hu), *(self.contract.protocol.patch.size,) * 3, 1))

    def _run(self, request: predict_pb2.PredictRequest, mask_shape: tuple[int, ...]) -> Prediction:
        try:
            return read_response(predict(self._servable, request), mask_shape)
        except StatusError as error:
            raise ServingError("The model cannot take this input.", case=self.folder, found=error.message) from error

    def close(self) -> None:
        """Free the memory."""
        self._servable.close()

    def __exit__(self, *_: object) -> None:
        self.close()
