"""`ggn-tf serve-check`: check a live server against an export."""

import json
from pathlib import Path
from typing import Any

import click

from ggn_tf.cli.options import AT_LEAST_1, PATH, FiniteRange, json_option, proxy_option, tls_options
from ggn_tf.server_names import MODEL_NAME

_TOLERANCE = "Largest difference of a value of {} from the recorded one.  [default: by the export's precision]"


@click.command()
@click.option(
    "--server", required=True, metavar="HOST:PORT", help="gRPC port of the model server; an IPv6 address in brackets."
)
@proxy_option
@tls_options
@click.option("--export", type=PATH, required=True, help="Folder of the export: MODELS/NAME, or a version.")
@click.option("--model_name", "--model-name", default=MODEL_NAME, help="Name of the model on the server.")
@click.option("--version", type=AT_LEAST_1, help="Version that must respond.  [default: the export's own number]")
@click.option(
    "--probability-tolerance", type=FiniteRange(min=0), help=_TOLERANCE.format("the probabilities, or their spread")
)
@click.option("--mask-tolerance", type=FiniteRange(min=0), help=_TOLERANCE.format("the mask"))
@click.option(
    "--repeats", type=AT_LEAST_1, default=5, help="Repetitions of one request per signature, for the median latency."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=FiniteRange(min=0.1),
    default=60.0,
    help="Time for the connection and for each request, in seconds.",
)
@json_option
def command(
    server: str,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    export: Path,
    model_name: str,
    probability_tolerance: float | None,
    mask_tolerance: float | None,
    as_json: bool,
    **others: Any,
) -> None:
    """Replay the golden requests of an export on a live server, compare its predictions, and measure its latency.

    The server may be ggn-tf serve or TensorFlow Serving. Exits with 1 if a prediction differs from the recorded one.
    """
    from ggn_tf.serving.client.server_check import check_server
    from ggn_tf.serving.contract.tls import client_tls
    from ggn_tf.serving.contract.wire import OUTPUT_MASK, OUTPUT_PROBABILITIES, OUTPUT_SPREAD

    given = {
        OUTPUT_PROBABILITIES: probability_tolerance,
        OUTPUT_SPREAD: probability_tolerance,
        OUTPUT_MASK: mask_tolerance,
    }
    check = check_server(
        server,
        export,
        model_name=model_name,
        tolerances={name: value for name, value in given.items() if value is not None},
        tls=client_tls(tls_ca, tls_cert, tls_key),
        **others,
    )
    if as_json:
        click.echo(json.dumps(check.to_dict(), indent=2))
    else:
        click.echo(f"{model_name} version {check.version} on {server}, compared with {check.export}")
        for part in check.signatures:
            differences = ", ".join(f"{name} within {value:.2g}" for name, value in part.differences.items())
            click.echo(
                f"  {part.signature:<16} {part.requests} requests, {differences}; "
                f"first response {part.first_ms:.1f} ms, median {part.median_ms:.1f} ms"
            )
    check.refuse_drift()
