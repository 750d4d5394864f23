"""`ggn-tf predict`: a CT in, probabilities and a mask on the CT's grid out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ggn_tf.cli.quiet import load_tensorflow
from ggn_tf.errors import ServingError
from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving.contract import MODEL_NAME

if TYPE_CHECKING:
    from ggn_tf.cases.patches import Patch
    from ggn_tf.serving.client import PredictionClient
    from ggn_tf.serving.nodule import NoduleAnswer

_BAR = 24
_CAUTION = "for research only; not a medical device"


@click.command()
@click.option("--ct", type=click.Path(path_type=Path), required=True, help="Volume file or DICOM folder.")
@click.option("--mask", type=click.Path(path_type=Path), help="The nodule's mask: its centroid is the patch's centre.")
@click.option("--segment", help="Name of the nodule in a mask with several segments.")
@click.option("--center-mm", type=float, nargs=3, metavar="X Y Z", help="The nodule's centre, LPS mm.")
@click.option("--server", metavar="HOST:PORT", help="Ask a model server.")
@click.option("--model-name", "--model_name", default=MODEL_NAME, show_default=True, help="As the server calls it.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Seconds, of --server."
)
@click.option("--export", type=click.Path(path_type=Path), help="Ask an export: a model folder or a version directory.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder for the predicted mask and result.json.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    ct: Path,
    mask: Path | None,
    segment: str | None,
    center_mm: tuple[float, float, float] | None,
    server: str | None,
    model_name: str,
    timeout: float,
    export: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Classify one nodule on a CT, and segment it."""
    if (mask is None) == (center_mm is None):
        raise click.UsageError("Give the nodule by either --mask or --center-mm.")
    if segment is not None and mask is None:
        raise click.UsageError("A --segment is a part of a --mask.")
    if (server is None) == (export is None):
        raise click.UsageError("Ask either a --server or an --export.")
    place = {"mask_path": mask, "segment": segment, "center_mm_lps": center_mm}
    load_tensorflow()
    if server is not None:
        answer = _ask_server(server, model_name, timeout, ct, place)
        source = {"server": server, "model_name": model_name}
    else:
        answer = _ask_export(Path(export or ""), ct, place)
        source = {"export": str(export)}
    _report(answer, {"ct": str(ct), **source}, output, as_json)


def _ask_server(target: str, model_name: str, timeout_s: float, ct: Path, place: dict[str, Any]) -> "NoduleAnswer":
    from ggn_tf.serving.client import PredictionClient
    from ggn_tf.serving.nodule import ask

    with PredictionClient(target, model_name, timeout_s) as client:
        protocol = _served_protocol(client)
        return ask(_cut(ct, protocol, place), client.predict)


def _served_protocol(client: "PredictionClient") -> PatchProtocol:
    """The wire tells a patch's size and not its spacing, so a server can be asked about the paper's patch only."""
    protocol, shape = PatchProtocol(), client.patch_shape()
    if shape != (protocol.size,) * 3 + (1,):
        raise ServingError(
            "The served model takes another patch than the paper's.",
            case=client.target,
            found=f"patches of {' x '.join(map(str, shape))}",
            expected=f"patches of {protocol.size} voxels along each axis",
            remedy="Ask the export itself with --export: it knows its patch.",
        )
    return protocol


def _ask_export(folder: Path, ct: Path, place: dict[str, Any]) -> "NoduleAnswer":
    from ggn_tf.serving.local_model import LocalModel
    from ggn_tf.serving.nodule import ask

    with LocalModel(folder) as model:
        return ask(_cut(ct, model.contract.protocol.patch, place), model.predict)


def _cut(ct: Path, protocol: PatchProtocol, place: dict[str, Any]) -> "Patch":
    from ggn_tf.cases.patches import cut_patch

    return cut_patch(ct, protocol, **place)


def _report(answer: "NoduleAnswer", asked: dict[str, str], output: Path | None, as_json: bool) -> None:
    from ggn_tf.serving.nodule import MASK_FILE, write_answer

    document = {**asked, **answer.to_dict(), "mask": None if output is None else MASK_FILE, "caution": _CAUTION}
    if output is not None:
        write_answer(answer, document, output)
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    click.echo("\n".join(_lines(answer)))
    if output is not None:
        click.echo(f"mask       {output / MASK_FILE}")
    click.echo(_CAUTION)


def _lines(answer: "NoduleAnswer") -> list[str]:
    width = max(9, *(len(name) for name in answer.probabilities))
    point = ", ".join(f"{value:.1f}" for value in answer.center_mm_lps)
    beyond = "  (reaches the patch's edge: it may be larger)" if answer.touches_edge else ""
    return [
        *(
            f"{name:<{width}}  {probability:5.3f}  {'#' * round(probability * _BAR)}"
            for name, probability in answer.probabilities.items()
        ),
        "",
        f"decision   {answer.decision}",
        f"volume     {answer.volume_mm3:.0f} mm3{beyond}",
        f"centre     {point} mm (LPS)",
        f"model      version {answer.model_version}",
    ]
