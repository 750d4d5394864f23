"""Load a model and predict the nodules of a CT."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ggn_tf.api.arguments import check_solid_hu, ignore
from ggn_tf.cases.dicom.repair import RepairPolicy
from ggn_tf.cases.recentring import WARNING_MM
from ggn_tf.cases.volumes import Volume
from ggn_tf.errors import ServingError
from ggn_tf.prediction.ct_patches import NodulePatch, open_patches
from ggn_tf.prediction.locations import Location
from ggn_tf.prediction.nodules import CtPrediction, predict_nodules
from ggn_tf.prediction.patch_warnings import WITHOUT_SHIFTS
from ggn_tf.protocol import SOLID_HU, PatchProtocol
from ggn_tf.serving.client.client import PredictionClient
from ggn_tf.serving.contract.tls import client_tls
from ggn_tf.serving.contract.trust import Trust
from ggn_tf.serving.contract.version_folders import read_record, version_sha256
from ggn_tf.serving.contract.wire import MODEL_CARD_FILE, MODEL_NAME, OUTPUT_SET
from ggn_tf.serving.runtime.predict_request import LocalModel

_SCHEME = "grpc://"


class Model(AbstractContextManager["Model"]):
    """A model that predicts: an export in this process, or one behind a server. Closed on leaving its `with` block.

    Attributes:
        protocol: The patch that the model takes.
        source: Where the model is: `export`, or `server` and `model_name`.
        sha256: The SHA-256 of the export's list of checksums; None for a server, which does not report it.
        card: The model card in Markdown; None for a server, or where an export has none.
    """

    def __init__(
        self,
        network: LocalModel | PredictionClient,
        protocol: PatchProtocol,
        source: Mapping[str, str],
        sha256: str | None = None,
        card: str | None = None,
    ) -> None:
        self.card = card
        self.protocol, self.source, self.sha256, self._network = protocol, dict(source), sha256, network

    def predict(
        self,
        ct: str | Path,
        locations: Sequence[Location],
        *,
        series: str | None = None,
        repair: bool = False,
        align_masks: bool = False,
        recenter: bool = True,
        solid_hu: float = SOLID_HU,
        sets: bool = False,
        on_start: Callable[[Volume], None] = ignore,
    ) -> CtPrediction:
        """Classify and segment nodules of one CT, which is opened once.

        Example:
            >>> prediction = model.predict("ct/", [ggn_tf.Point(10, -20, 105)])  # doctest: +SKIP
            >>> list(prediction.nodules[0].probabilities)  # doctest: +SKIP
            ['AAH+AIS', 'MIA+IAC']
            >>> prediction.write("result/")["mask"]  # doctest: +SKIP
            'nodule_mask.nii.gz'

        Args:
            ct: A volume file or a DICOM folder.
            locations: The nodules.
            series: SeriesInstanceUID, where the folder contains several series and the first location is in none or in
                more than one of them.
            repair: Whether slices with a gantry tilt or non-uniform spacing are resampled instead of being rejected.
            align_masks: Whether masks on another grid of the same scan are resampled onto the CT's grid.
            recenter: Whether the centre of a point or voxel moves to the centroid of the nodule that the model finds,
                at most three times, before it is classified. The paper does not.
            solid_hu: Voxels above it are solid, in the measurements. HU.
            sets: Whether a model without prediction sets and typicality is refused. One that has them gives them in any
                case, the set only where it finds a nodule.
            on_start: Called with the CT once it was read, before the model predicts.

        Raises:
            LocationError: There is no location, or one is outside the CT.
            VolumeError, MaskError: The CT or a mask cannot be used.
            ServingError: The server rejects the request or cannot be reached, or the model gives no prediction sets.
        """
        check_solid_hu(solid_hu)
        if sets and OUTPUT_SET not in self._network.output_names():
            raise ServingError(
                "The model gives no prediction sets.",
                case=", ".join(self.source.values()),
                found="an export without them",
                expected=f"an export with the output {OUTPUT_SET}",
                remedy="Export the run again with a coverage, for example 0.9, or predict without sets.",
                arguments=("sets",),
            )
        policy = RepairPolicy(repair, align_masks)
        margin_mm = WARNING_MM if recenter else 0.0
        volume, patches = open_patches(Path(ct), series, locations, self.protocol, policy, margin_mm)
        on_start(volume)
        prediction = predict_nodules(
            volume,
            patches,
            self._network.predict,
            self.source,
            recenter=self.protocol if recenter else None,
            warnings=[WITHOUT_SHIFTS] if recenter and self._needs_centers(patches) else [],
            model_sha256=self.sha256,
            solid_hu=solid_hu,
        )
        return replace(prediction, model_card=self.card)

    def class_names(self) -> tuple[str, ...]:
        """The classes, in the model's order, by a prediction about air: a server reports them with one only.

        Raises:
            ServingError: The server cannot be reached.
        """
        air = np.full((1, *(self.protocol.size,) * 3, 1), -1000, np.float32)
        return self._network.predict(air).class_names

    def _needs_centers(self, patches: Sequence[NodulePatch]) -> bool:
        """Whether there are points, and the model was trained without shifts; a server does not report this."""
        if isinstance(self._network, PredictionClient) or all(nodule.patch.mask is not None for nodule in patches):
            return False
        return self._network.contract.protocol.training.largest_shift_mm == 0

    def close(self) -> None:
        """Release the memory or the connection."""
        self._network.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def load(
    export: str | Path,
    *,
    model_name: str = MODEL_NAME,
    timeout: float = 60.0,
    proxy: str | None = None,
    tls_ca: str | Path | None = None,
    tls_cert: str | Path | None = None,
    tls_key: str | Path | None = None,
    trust: bool = False,
) -> Model:
    """Load an export, or connect to a model server.

    Example:
        >>> with ggn_tf.load("models/ggn") as model:  # doctest: +SKIP
        ...     prediction = model.predict("ct.nii.gz", [ggn_tf.Voxel(31, 30, 36)])

    Args:
        export: A model folder, of which the newest version is taken; a version directory; or `grpc://HOST:PORT`
            (an IPv6 address in brackets).
        model_name: The model's name on the server.
        timeout: Seconds for one request to the server, retries included.
        proxy: HTTP proxy to the server, HOST:PORT; None for none, whatever the environment names.
        tls_ca: PEM file with the authorities whose servers are trusted, for TLS; None for no encryption.
        tls_cert: PEM file with the client's certificate chain, where the server asks for one.
        tls_key: PEM file with the key of the certificate.
        trust: Also load an export without checksums, or whose graph may leave the process. A model is a program.

    Raises:
        ExportError: The folder contains no export, or a damaged one.
        ServingError: The server cannot be reached, or serves another kind of model.
    """
    if not str(export).startswith(_SCHEME):
        network = LocalModel(Path(export), Trust(trust))
        digest = version_sha256(network.folder)
        return Model(network, network.contract.protocol.patch, {"export": str(export)}, digest, _card(network.folder))
    target = str(export).removeprefix(_SCHEME)
    client = PredictionClient(target, model_name, timeout, proxy=proxy, tls=client_tls(tls_ca, tls_cert, tls_key))
    try:
        return Model(client, _served_protocol(client), {"server": client.target, "model_name": model_name})
    except BaseException:
        client.close()
        raise


def _card(version_folder: Path) -> str | None:
    """The model card of an export; None where another program wrote the export without one."""
    try:
        return read_record(version_folder, MODEL_CARD_FILE).decode("utf-8", errors="replace")
    except OSError:
        return None


def _served_protocol(client: PredictionClient) -> PatchProtocol:
    """The wire contains a patch's size and not its spacing, so only a model of the paper's patch can be used."""
    protocol, shape = PatchProtocol(), client.patch_shape()
    if shape != (protocol.size,) * 3 + (1,):
        raise ServingError(
            "The served model takes another patch than the paper's.",
            case=client.target,
            found=f"patches of {' x '.join(map(str, shape))}",
            expected=f"patches of {protocol.size} voxels along each axis",
            remedy="Use the export itself, which contains its patch's numbers.",
            arguments=("export",),
        )
    return protocol
