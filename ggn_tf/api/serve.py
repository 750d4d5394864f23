"""Serve a model folder from this process: over gRPC, and to 3D Slicer and OHIF."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from ggn_tf.monailabel.server import MonaiLabelOptions, MonaiLabelServer
from ggn_tf.serving.contract.tls import server_tls
from ggn_tf.serving.contract.trust import Trust, read_public_key
from ggn_tf.serving.contract.wire import MODEL_NAME, PORT
from ggn_tf.serving.server.server import ModelServer, ServerOptions


class Server(AbstractContextManager["Server"]):
    """A running model server, which stops on leaving its `with` block.

    Attributes:
        address: HOST:PORT, with an IPv6 address in brackets.
        version: The version that was loaded first.
        monailabel_address: URL for clients of MONAI Label's protocol; None where it is not served.
    """

    def __init__(self, folder: Path, options: ServerOptions, monailabel: MonaiLabelOptions | None = None) -> None:
        self._server = ModelServer(folder, options)
        self.version = self._server.start()
        self.address = self._server.address
        self._monailabel = None if monailabel is None else MonaiLabelServer(self._server.versions, monailabel)
        self.monailabel_address: str | None = None
        if self._monailabel is not None:
            try:
                self._monailabel.start()
            except BaseException:
                self._server.stop()
                raise
            self.monailabel_address = self._monailabel.address

    def stop(self, grace_s: float = 30.0) -> None:
        """Reject new requests, finish those at work within `grace_s` seconds, then unload the model."""
        if self._monailabel is not None:
            self._monailabel.stop(grace_s)
        self._server.stop(grace_s)

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(
    folder: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    model_name: str = MODEL_NAME,
    poll_wait_seconds: float = 1.0,
    trust: bool = False,
    verify: str | Path | None = None,
    tls_cert: str | Path | None = None,
    tls_key: str | Path | None = None,
    tls_client_ca: str | Path | None = None,
    monailabel_port: int | None = None,
    monailabel_host: str = "127.0.0.1",
    monailabel_images: str | Path | None = None,
    monailabel_origins: Sequence[str] = (),
) -> Server:
    """Serve the newest version in a model folder, in TensorFlow Serving's protocol; newer versions replace it.

    Example:
        >>> with ggn_tf.serve("models/ggn", port=0) as server:  # doctest: +SKIP
        ...     server.version
        1

    Args:
        folder: The model folder that `export` writes to.
        host: Address to listen on. Without TLS nothing is encrypted.
        port: Port to listen on; 0 for a free one.
        model_name: The model's name in requests.
        poll_wait_seconds: Seconds between two looks for a new version; 0 to look once.
        trust: Also serve versions without checksums, and graphs with operations that may leave the process, such as
            those that read files. A model is a program.
        verify: PEM file with an Ed25519 public key: serve only versions that its owner has signed.
        tls_cert: PEM file with the server's certificate chain, for TLS.
        tls_key: PEM file with the key of the certificate.
        tls_client_ca: PEM file with the authorities of the certificates that clients must have; None for any client.
        monailabel_port: Port for MONAI Label's protocol (HTTP), by which 3D Slicer and OHIF use the model; 0 for a free
            one, None for none.
        monailabel_host: Address for MONAI Label's protocol, which has neither encryption nor accounts.
        monailabel_images: A DICOM folder whose series clients may name by SeriesInstanceUID, as OHIF does.
        monailabel_origins: Web pages whose scripts may use that protocol, such as `http://localhost:3000`.

    Raises:
        ExportError: The folder contains no export, or the key to verify with cannot be used.
        ServingError: The newest version cannot be loaded, or the port is in use.
    """
    options = ServerOptions(
        model_name=model_name,
        host=host,
        port=port,
        poll_wait_seconds=poll_wait_seconds,
        trust=Trust(trust, None if verify is None else read_public_key(Path(verify))),
        tls=server_tls(tls_cert, tls_key, tls_client_ca),
    )
    images = None if monailabel_images is None else Path(monailabel_images)
    monailabel = MonaiLabelOptions(monailabel_port or 0, monailabel_host, images, tuple(monailabel_origins))
    return Server(Path(folder), options, None if monailabel_port is None else monailabel)
