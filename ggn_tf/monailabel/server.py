"""MONAI Label's protocol beside a model server, with the versions that this serves."""

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np

from ggn_tf.cases.recentring import WARNING_MM
from ggn_tf.errors import ServingError
from ggn_tf.files import working_folder
from ggn_tf.monailabel.application import Application
from ggn_tf.monailabel.http_server import HttpServer
from ggn_tf.monailabel.sessions import SessionLimits, Sessions
from ggn_tf.prediction.ct_patches import open_patches
from ggn_tf.prediction.locations import Voxel
from ggn_tf.prediction.nodules import CtPrediction, predict_nodules
from ggn_tf.prediction.patch_warnings import WITHOUT_SHIFTS
from ggn_tf.serving.contract.export_contract import ExportContract, read_contract
from ggn_tf.serving.contract.messages import Prediction, make_request, read_response
from ggn_tf.serving.contract.tls import is_loopback, join_address
from ggn_tf.serving.contract.version_folders import list_versions
from ggn_tf.serving.runtime.predict_request import predict
from ggn_tf.serving.runtime.servable import Servable, not_served
from ggn_tf.serving.server.version_manager import VersionManager

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MonaiLabelOptions:
    """Options of the server.

    Attributes:
        port: Port to listen on; 0 picks a free one.
        host: Address to listen on; loopback by default, because nothing is encrypted or authenticated.
        images: A DICOM folder whose series OHIF may name by their SeriesInstanceUIDs; None for none.
        origins: Web pages whose scripts may use the server, such as OHIF's `http://localhost:3000`.
    """

    port: int
    host: str = "127.0.0.1"
    images: Path | None = None
    origins: tuple[str, ...] = ()
    limits: SessionLimits = field(default_factory=SessionLimits)


class MonaiLabelServer:
    """Serves a model to MONAI Label's clients; their CTs are in a private folder, which `stop` deletes.

    Args:
        versions: The versions of the model, at least one of them available.

    Attributes:
        address: The URL for clients, once it was started.
    """

    def __init__(self, versions: VersionManager, options: MonaiLabelOptions) -> None:
        self._versions, self._options = versions, options
        self._turn, self._open = threading.Lock(), ExitStack()
        # A version's folder may be deleted while it is served.
        self._contracts = WeakKeyDictionary[Servable, ExportContract]()
        self.address = ""

    def start(self) -> None:
        """Take the port and accept requests.

        Raises:
            ServingError: The port is taken, or there is no folder of images.
            ExportError: The model is not an export of ggn-tf.
        """
        options, loopback = self._options, is_loopback(self._options.host)
        if options.images is not None and not options.images.is_dir():
            raise ServingError(
                "There is no folder of CTs for OHIF.",
                case=options.images,
                expected="a folder of DICOM series",
                remedy="Name the folder with the series that OHIF shows.",
                arguments=("monailabel_images",),
            )
        with self._versions.lease(None) as servable, ExitStack() as opened:
            self._contract(servable)
            sessions = Sessions(opened.enter_context(working_folder("monailabel")), options.limits)
            application = Application(servable.name, sessions, self.predict, options.images, options.origins, loopback)
            self._http = self._listen(application, sessions)
            self._http.start()
            self._open = opened.pop_all()
        self.address = f"http://{join_address(options.host.strip('[]'), self._http.server_port)}"
        if not loopback:
            log.warning("%s can be reached from other machines, without accounts or encryption", self.address)

    def stop(self, grace_s: float = 30.0) -> None:
        """Accept no more requests, let those at work end, within `grace_s` seconds, and delete the CTs."""
        if self.address:
            self._http.close(grace_s)
        self._open.close()

    def _listen(self, application: Application, sessions: Sessions) -> HttpServer:
        try:
            return HttpServer(self._options.host, self._options.port, application, sessions.expire)
        except OSError as error:
            raise ServingError(
                "The server of MONAI Label's protocol cannot listen.",
                case=join_address(self._options.host, self._options.port),
                found=error.strerror or error,
                expected="a free port of this machine",
                remedy="Choose another port (0 picks a free one), or stop the program that uses it.",
                arguments=("monailabel_port",),
            ) from error

    def _contract(self, servable: Servable) -> ExportContract:
        contract = self._contracts.get(servable)
        if contract is None:
            folder = list_versions(self._versions.folder).get(servable.version)
            if folder is None:
                raise not_served(servable.name, servable.version)
            contract = self._contracts[servable] = read_contract(folder)
        return contract

    def predict(self, ct: Path, series: str | None, nodules: Sequence[Voxel]) -> CtPrediction:
        """Predict the nodules of a CT by the newest version, one call after another; their centres move to them.

        Raises:
            LocationError, VolumeError: A voxel is outside the CT, or the CT cannot be used.
            StatusError: No version is available.
        """
        with self._turn, self._versions.lease(None) as servable:
            contract = self._contract(servable)
            patch = contract.protocol.patch

            def run(hu: np.ndarray) -> Prediction:
                return read_response(predict(servable, make_request(hu, servable.name)), hu.shape)

            volume, patches = open_patches(ct, series, nodules, patch, margin_mm=WARNING_MM)
            warnings = [] if contract.protocol.training.largest_shift_mm else [WITHOUT_SHIFTS]
            return predict_nodules(volume, patches, run, recenter=patch, warnings=warnings)
