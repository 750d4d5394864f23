"""Serve a model folder over gRPC from this process."""

from contextlib import AbstractContextManager
from pathlib import Path

from ggn_tf.serving.contract.signing import read_public_key
from ggn_tf.serving.contract.tls import server_tls
from ggn_tf.serving.contract.trust import Trust
from ggn_tf.serving.contract.wire import MODEL_NAME, PORT
from ggn_tf.serving.server.server import ModelServer, ServerOptions


class Server(AbstractContextManager["Server"]):
    """A running model server, which stops on leaving its `with` block.

    Attributes:
        address: HOST:PORT, with an IPv6 address in brackets.
        version: The version that was loaded first.
    """

    def __init__(self, folder: Path, options: ServerOptions) -> None:
        self._server = ModelServer(folder, options)
        self.version = self._server.start()
        self.address = self._server.address

    def stop(self, grace_s: float = 30.0) -> None:
        """Reject new requests, finish those at work within `grace_s` seconds, then unload the model."""
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
    return Server(Path(folder), options)
