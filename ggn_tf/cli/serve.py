"""`ggn-tf serve`: the embedded model server, or TensorFlow Serving's with the same arguments."""

import contextlib
import gc
import logging
import math
import os
import signal
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ggn_tf.cli.options import AT_LEAST_0, AT_LEAST_1, FILE, PATH, FiniteRange
from ggn_tf.errors import GgnError
from ggn_tf.server_names import MODEL_NAME, PORT, PROGRAM
from ggn_tf.tensorflow_import import load_predictor, load_tensorflow

if TYPE_CHECKING:
    from ggn_tf.monailabel.server import MonaiLabelOptions
    from ggn_tf.serving.server.server import ModelServer, ServerOptions

EMBEDDED = "embedded"
_SWITCH_S = 0.001


def _channel_arguments(ctx: click.Context, param: click.Parameter, text: str) -> tuple[tuple[str, int | str], ...]:
    """Parse NAME=VALUE pairs; whole numbers become numbers, as in TensorFlow Serving."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    if not all(name and equals for name, equals, _ in pairs):
        raise click.BadParameter("Expected NAME=VALUE,NAME=VALUE,...", ctx, param)
    return tuple((name, int(value) if value.removeprefix("-").isdecimal() else value) for name, _, value in pairs)


class _TensorFlowFlags(click.Command):
    """Accepts a switch as TensorFlow's programs write it, `--enable_batching=true`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        switches = {"--enable_batching=true": ["--enable_batching"], "--enable_batching=false": []}
        return super().parse_args(ctx, [part for arg in args for part in switches.get(arg, [arg])])


@click.command(cls=_TensorFlowFlags, context_settings={"ignore_unknown_options": True})
@click.argument("given", metavar="MODEL", nargs=-1, type=click.UNPROCESSED)
@click.option("--model_base_path", help="Model folder, the same as MODEL.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, help="Port for gRPC; 0 picks a free one.")
@click.option("--host", default="127.0.0.1", help="Address to listen on. Connections are encrypted with --tls-cert.")
@click.option("--model_name", "--model-name", default=MODEL_NAME, help="Name of the model for clients.")
@click.option(
    "--file_system_poll_wait_seconds",
    "--file-system-poll-wait-seconds",
    "poll_wait_seconds",
    type=FiniteRange(min=0),
    default=1.0,
    help="Time between two checks for a new version, in seconds; 0 checks once.",
)
@click.option("--enable_batching", is_flag=True, help="Join requests of several clients into batches.")
@click.option(
    "--batching_parameters_file",
    type=PATH,
    help="File with the settings of batching: a text BatchingParameters, as serving/batching.config.",
)
@click.option(
    "--grpc_channel_arguments",
    default="",
    show_default=False,
    callback=_channel_arguments,
    help="Options of gRPC's core, NAME=VALUE,..., for example grpc.max_receive_message_length=67108864: the largest "
    "request, in bytes (default 8 MiB); it also bounds the rows of a request, at 128 KiB each.",
)
@click.option(
    "--tensorflow_intra_op_parallelism",
    "cores_each",
    type=AT_LEAST_0,
    default=0,
    help="Cores that one request may use; 0 for all. 1 gives the highest throughput for single patches, at a higher "
    "latency each.",
)
@click.option(
    "--running",
    type=AT_LEAST_1,
    help="Requests processed in parallel.  [default: cores / cores per request (2 if all), at least 2; with "
    "--enable_batching two batches]",
)
@click.option(
    "--waiting", type=AT_LEAST_0, default=64, help="Requests that may wait; further ones are refused as UNAVAILABLE."
)
@click.option(
    "--trust",
    is_flag=True,
    help="Also serve versions without checksums, and graphs that may use files or the network. A model is a program: "
    "use this only for models of authors whom you trust.",
)
@click.option(
    "--verify",
    type=FILE,
    metavar="KEY",
    help="PEM file with an Ed25519 public key: serve only versions that export --sign has signed with its private key.",
)
@click.option("--tls-cert", type=FILE, help="PEM file with the server's certificate chain, for encrypted connections.")
@click.option("--tls-key", type=FILE, help="PEM file with the key of --tls-cert, without a password.")
@click.option(
    "--tls-client-ca",
    type=FILE,
    help="PEM file with authorities: only clients with a certificate of one of them may connect.",
)
@click.option(
    "--monailabel-port",
    type=click.IntRange(0, 65535),
    help="Port for MONAI Label's protocol, by which 3D Slicer and OHIF use the model; 0 picks a free one. Without this "
    "option it is not served.",
)
@click.option(
    "--monailabel-host",
    default="127.0.0.1",
    help="Address on which MONAI Label's protocol is served. It has neither encryption nor accounts.",
)
@click.option(
    "--monailabel-images",
    type=PATH,
    metavar="FOLDER",
    help="DICOM folder whose series OHIF may name by their SeriesInstanceUIDs; 3D Slicer sends its CTs.",
)
@click.option(
    "--monailabel-origin",
    "monailabel_origins",
    multiple=True,
    metavar="URL",
    help="Web page whose scripts may use MONAI Label's protocol, such as OHIF's http://localhost:3000; can be "
    "repeated.",
)
@click.option(
    "--engine",
    type=click.Choice([EMBEDDED, PROGRAM]),
    default=EMBEDDED,
    help="Server to start. tensorflow_model_server also takes its own further flags, as --NAME=VALUE; --running and "
    "--waiting have no effect on it.",
)
def command(
    given: tuple[str, ...],
    model_base_path: str | None,
    port: int,
    host: str,
    model_name: str,
    poll_wait_seconds: float,
    enable_batching: bool,
    batching_parameters_file: Path | None,
    grpc_channel_arguments: tuple[tuple[str, int | str], ...],
    cores_each: int,
    running: int | None,
    waiting: int,
    trust: bool,
    verify: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    monailabel_port: int | None,
    monailabel_host: str,
    monailabel_images: Path | None,
    monailabel_origins: tuple[str, ...],
    engine: str,
) -> None:
    """Serve the newest version in MODEL (MODELS/NAME) over gRPC, in TensorFlow Serving's protocol.

    With --monailabel-port also to 3D Slicer and OHIF, in MONAI Label's protocol. A newer version that appears is loaded
    and warmed up, and then replaces the old one. Ctrl-C or SIGTERM completes the requests that run and wait, then
    stops.
    """
    flags = tuple(argument for argument in given if argument.startswith("-"))
    folders = [argument for argument in (*given, model_base_path) if argument and not argument.startswith("-")]
    if flags and engine == EMBEDDED:
        raise click.UsageError(f"No such option: {flags[0]}. Flags of TensorFlow Serving need --engine {PROGRAM}.")
    if len(folders) != 1:
        raise click.UsageError("Give one model folder: MODEL, or --model_base_path.")
    if monailabel_port is None and (monailabel_images is not None or monailabel_origins):
        raise click.UsageError("--monailabel-images and --monailabel-origin need --monailabel-port.")
    if batching_parameters_file is not None and not enable_batching:
        raise click.UsageError("--batching_parameters_file needs --enable_batching.")
    folder = Path(folders[0])
    if engine == PROGRAM:
        if any(option is not None for option in (verify, tls_cert, tls_key, tls_client_ca, monailabel_port)):
            raise click.UsageError(
                f"--verify, the files for TLS and MONAI Label's protocol (--monailabel-port) need --engine {EMBEDDED}."
            )
        from ggn_tf.serving.server.tensorflow_model_server import program_command

        shared = _shared_flags(
            poll_wait_seconds, enable_batching, batching_parameters_file, grpc_channel_arguments, cores_each
        )
        arguments = program_command(folder, model_name, host, port or PORT, shared + flags)
        os.execv(arguments[0], arguments)
    if enable_batching or cores_each:
        load_tensorflow(keras=False)
    else:
        load_predictor()
    from ggn_tf.monailabel.server import MonaiLabelOptions
    from ggn_tf.serving.contract.tls import server_tls
    from ggn_tf.serving.contract.trust import Trust, read_public_key
    from ggn_tf.serving.runtime.batching import BatchingParameters, read_batching_parameters
    from ggn_tf.serving.server.server import ServerOptions

    batching = BatchingParameters() if enable_batching else None
    if batching_parameters_file is not None:
        batching = read_batching_parameters(batching_parameters_file)
    if cores_each:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(cores_each)
    limits = (running, waiting, grpc_channel_arguments)
    safety = (
        Trust(trust, None if verify is None else read_public_key(verify)),
        server_tls(tls_cert, tls_key, tls_client_ca),
    )
    viewers = None
    if monailabel_port is not None:
        viewers = MonaiLabelOptions(monailabel_port, monailabel_host, monailabel_images, monailabel_origins)
    options = ServerOptions(model_name, host, port, poll_wait_seconds, batching, *limits, *safety, cores_each)
    _serve(folder, options, viewers)


def _shared_flags(
    poll_wait_seconds: float,
    batching: bool,
    file: Path | None,
    channel_arguments: tuple[tuple[str, int | str], ...],
    cores_each: int,
) -> tuple[str, ...]:
    """The options that both servers have, as TensorFlow Serving's flags; it polls in whole seconds."""
    pairs = ",".join(f"{name}={value}" for name, value in channel_arguments)
    return (
        f"--file_system_poll_wait_seconds={math.ceil(poll_wait_seconds)}",
        *(["--enable_batching=true"] if batching else []),
        *([f"--batching_parameters_file={file}"] if file else []),
        *([f"--grpc_channel_arguments={pairs}"] if pairs else []),
        *([f"--tensorflow_intra_op_parallelism={cores_each}"] if cores_each else []),
    )


def _serve(folder: Path, options: "ServerOptions", viewers: "MonaiLabelOptions | None") -> None:
    from ggn_tf.monailabel.server import MonaiLabelServer
    from ggn_tf.serving.server.server import ModelServer

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("ggn_tf").setLevel(logging.INFO)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    _limit_waits_for_python()
    server = ModelServer(folder, options)
    version = _start(server, stopping)
    monailabel = None if viewers is None else MonaiLabelServer(server.versions, viewers)
    if monailabel is not None:
        try:
            monailabel.start()
        except GgnError:
            server.stop()
            raise
    with contextlib.suppress(OSError):  # a full disk behind stdout must not stop the server
        click.echo(f"serving {options.model_name} version {version} on {server.address}")
        if monailabel is not None:
            click.echo(f"serving MONAI Label's protocol on {monailabel.address}")
    stopping.wait()
    if monailabel is not None:
        monailabel.stop()
    server.stop()
    # Python's own end would wait for threads that may hang in TensorFlow.
    os._exit(0)


def _limit_waits_for_python() -> None:
    """While a version is loaded, and the former one's graph collected, requests wait for Python's lock less long."""
    sys.setswitchinterval(_SWITCH_S)
    # What is imported is never garbage, and takes 0.16 s to search.
    gc.collect()
    gc.freeze()


def _start(server: "ModelServer", stopping: threading.Event) -> int:
    """Start in a thread, so that a signal ends the process even if TensorFlow does not return."""
    started: Future[int] = Future()

    def start() -> None:
        try:
            started.set_result(server.start())
        except BaseException as error:
            started.set_exception(error)

    threading.Thread(target=start, name="start", daemon=True).start()
    while not started.done():
        if stopping.wait(0.05):
            os._exit(0)
    return started.result()
