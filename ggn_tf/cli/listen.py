"""`ggn-tf listen`: a DICOM node that answers the studies that an archive routes to it."""

import contextlib
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import click

import ggn_tf
from ggn_tf.cli.options import FILE, PATH, FiniteRange, export_options, json_option, pacs_file_options, tls_options
from ggn_tf.cli.stop_signal import StopSignal
from ggn_tf.pacs.archive import CALLING_AET, TITLE_RULE, is_title
from ggn_tf.server_names import MODEL_NAME
from ggn_tf.tensorflow_import import load_predictor

_POLL_S = 0.2


class _Title(click.ParamType):
    name = "aet"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Reject what cannot be an AE title."""
        if not is_title(value):
            self.fail(f"an AE title has {TITLE_RULE}", param, ctx)
        return value


@click.command()
@click.option("--aet", type=_Title(), default=CALLING_AET, help="AE title of this node.")
@click.option("--port", type=click.IntRange(0, 65535), default=11112, help="Port for DICOM; 0 picks a free one.")
@click.option("--host", default="127.0.0.1", help="Address to listen on. Nothing is encrypted.")
@click.option(
    "--known-aet",
    "known_aets",
    type=_Title(),
    multiple=True,
    help="Calling AE title that may send; can be repeated. All others are refused.",
)
@export_options
@click.option(
    "--server", metavar="HOST:PORT", help="Address of the model server that predicts, instead of an --export."
)
@tls_options
@click.option("--model-name", "--model_name", default=MODEL_NAME, help="Name of the model on the server.")
@click.option(
    "--send-to",
    metavar="URL",
    help="Archive that stores the DICOM SEG and SR: https://HOST/PATH of DICOMweb, or dicom://AET@HOST:PORT. A token "
    "or user is read from the variables that predict --pacs uses.",
)
@pacs_file_options
@click.option(
    "--timeout",
    type=FiniteRange(min=0.1),
    default=60.0,
    help="Seconds for one request to the server, and for each wait for the archive.",
)
@click.option("--codes", type=FILE, help="Table with the codes of the classes in the DICOM SR, as for predict.")
@click.option(
    "--queue",
    type=PATH,
    required=True,
    help="Folder for received studies, which only its owner may enter. They are deleted when they are delivered.",
)
@click.option(
    "--quiet",
    "quiet_s",
    type=FiniteRange(min=0.1),
    default=30.0,
    help="Seconds without a new instance after which a study is complete.",
)
@click.option(
    "--status-port", type=click.IntRange(0, 65535), help="Port of a status page for this machine; 0 picks a free one."
)
@json_option
def command(
    aet: str,
    port: int,
    host: str,
    known_aets: tuple[str, ...],
    export: Path | None,
    server: str | None,
    send_to: str | None,
    pacs_credentials: Path | None,
    pacs_ca: Path | None,
    pacs_cert: Path | None,
    pacs_key: Path | None,
    timeout: float,
    queue: Path,
    status_port: int | None,
    as_json: bool,
    **others: Any,
) -> None:
    """Predict the nodules of studies that an archive sends with an SR or SEG that marks them, and send SEG and SR back.

    Each answer is stored once in the archive, also if the node is stopped and started again. With --json, only the
    status of the --queue is printed, whether a node runs or not.
    """
    if as_json:
        from ggn_tf.dicom_node.study_queue import StudyQueue

        studies = StudyQueue(queue)
        studies.refuse_other_folder(new=False)
        studies.scan()
        click.echo(json.dumps(studies.status(), indent=2))
        return
    if not known_aets or send_to is None or (export is None) == (server is None):
        raise click.UsageError("Give a --send-to, at least one --known-aet, and either an --export or a --server.")
    network = {name: others.pop(name) for name in ("model_name", "trust", "tls_ca", "tls_cert", "tls_key")}
    if server is None and any(network[name] for name in ("tls_ca", "tls_cert", "tls_key")):
        raise click.UsageError("The files for TLS need a --server.")
    from ggn_tf.api.listen import check_node, listen
    from ggn_tf.pacs.credentials import read_credentials

    credentials = read_credentials(pacs_credentials, pacs_ca, pacs_cert, pacs_key)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("ggn_tf").setLevel(logging.INFO)
    # Libraries quote values of data sets in theirs.
    warnings.simplefilter("ignore")
    # Before the model is loaded.
    check_node(aet, known_aets, send_to, queue, credentials, timeout, port, host, status_port)
    if export is not None:
        load_predictor()
    with (
        StopSignal("The node stops after what it answers and sends at the moment.") as stop,
        ggn_tf.load(export or f"grpc://{server}", timeout=timeout, proxy=None, **network) as model,
        listen(
            model,
            aet,
            known_aets,
            send_to,
            queue,
            port=port,
            host=host,
            credentials=credentials,
            timeout=timeout,
            status_port=status_port,
            **others,
        ) as node,
    ):
        with contextlib.suppress(OSError):  # a full disk behind stdout must not stop the node
            click.echo(f"{aet} receives on {node.address}, for {', '.join(known_aets)}")
            if node.status_address is not None:
                click.echo(f"status on {node.status_address}")
        while not stop.requested():
            time.sleep(_POLL_S)
