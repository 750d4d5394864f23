"""`ggn-tf serve`: the embedded model server."""

import logging
import signal
import threading
from pathlib import Path

import click

from ggn_tf.cli.quiet import load_tensorflow
from ggn_tf.serving.contract import MODEL_NAME, PORT


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 picks a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; nothing is encrypted.")
@click.option("--model_name", "--model-name", default=MODEL_NAME, show_default=True, help="What clients call it.")
@click.option(
    "--file_system_poll_wait_seconds",
    "--file-system-poll-wait-seconds",
    "poll_wait_seconds",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Between two looks for a new version; 0 looks once.",
)
@click.option("--running", type=click.IntRange(min=1), help="Requests at work at a time.  [default: half the cores]")
@click.option("--waiting", type=click.IntRange(min=0), default=64, show_default=True, help="Requests that may wait.")
def command(
    model: Path, port: int, host: str, model_name: str, poll_wait_seconds: float, running: int | None, waiting: int
) -> None:
    """Serve the newest version in MODEL (MODELS/NAME) over gRPC, in TensorFlow Serving's protocol.

    A newer version that appears is loaded and warmed up, and then takes over. Ctrl-C or SIGTERM answers what is at
    work, then stops.
    """
    load_tensorflow()
    from ggn_tf.serving.server import ModelServer, ServerOptions

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("ggn_tf").setLevel(logging.INFO)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    server = ModelServer(model, ServerOptions(model_name, host, port, poll_wait_seconds, running, waiting))
    version = server.start()
    click.echo(f"serving {model_name} version {version} on {host}:{server.port}")
    stopping.wait()
    server.stop()
