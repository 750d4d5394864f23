"""`ggn-tf predict`: a CT and where its nodules are; probabilities and masks on the CT's grid come back."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ggn_tf.cli.patch_options import repair_options
from ggn_tf.errors import ServingError
from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving.contract.names import MODEL_NAME
from ggn_tf.tensorflow_import import load_tensorflow

if TYPE_CHECKING:
    import numpy as np

    from ggn_tf.cases.dicom.repair import RepairPolicy
    from ggn_tf.cases.geometry.grid import Vector
    from ggn_tf.cases.volumes import Volume
    from ggn_tf.prediction.locations import NoduleLocation
    from ggn_tf.prediction.nodules import CtPrediction, NodulePrediction
    from ggn_tf.serving.client.client import PredictionClient
    from ggn_tf.serving.contract.messages import Prediction

_BAR = 24
_CAUTION = "for research only; not a medical device"


@click.command()
@click.option("--ct", type=click.Path(path_type=Path), required=True, help="Volume file or DICOM folder.")
@click.option("--series", help="SeriesInstanceUID, where the DICOM folder holds several that may be meant.")
@click.option("--mask", type=click.Path(path_type=Path), help="A nodule's mask: its centroid is the patch's centre.")
@click.option("--segment", help="Name of the nodule in a mask with several segments.")
@click.option(
    "--center-mm", type=float, nargs=3, multiple=True, metavar="X Y Z", help="A nodule's centre, LPS mm; repeatable."
)
@click.option("--ras", is_flag=True, help="Read --center-mm as RAS, as 3D Slicer shows it.")
@click.option(
    "--center-index",
    type=int,
    nargs=3,
    multiple=True,
    metavar="I J K",
    help="A nodule's centre as a voxel of the CT, from 0, in the order x, y, z; repeatable.",
)
@click.option("--fiducials", type=click.Path(path_type=Path), help="3D Slicer's .mrk.json with a point on each nodule.")
@repair_options
@click.option("--server", metavar="HOST:PORT", help="Ask a model server.")
@click.option("--model-name", "--model_name", default=MODEL_NAME, show_default=True, help="As the server calls it.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Seconds, of --server."
)
@click.option("--export", type=click.Path(path_type=Path), help="Ask an export: a model folder or a version directory.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for result.json, masks (NIfTI, DICOM) and overlays."
)
@click.option("--keep-ids", is_flag=True, help="Tell the path of the CT in result.json, which often names the patient.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    ct: Path,
    series: str | None,
    mask: Path | None,
    segment: str | None,
    center_mm: "Sequence[Vector]",
    ras: bool,
    center_index: Sequence[tuple[int, int, int]],
    fiducials: Path | None,
    repair: bool,
    align_masks: bool,
    server: str | None,
    model_name: str,
    timeout: float,
    export: Path | None,
    output: Path | None,
    keep_ids: bool,
    as_json: bool,
) -> None:
    """Classify one or more nodules of a CT, and segment them.

    What lies outside the range that the model was trained on is answered with warnings. A DICOM SEG names the patient
    as its series does.
    """
    if sum(map(bool, (mask, center_mm, center_index, fiducials))) != 1:
        raise click.UsageError("Give the nodules by one of --mask, --center-mm, --center-index and --fiducials.")
    if segment is not None and mask is None:
        raise click.UsageError("A --segment is a part of a --mask.")
    if align_masks and mask is None:
        raise click.UsageError("--align-masks says what to do with a --mask.")
    if ras and not center_mm:
        raise click.UsageError("--ras says how to read --center-mm; voxels and files need no such word.")
    if (server is None) == (export is None):
        raise click.UsageError("Ask either a --server or an --export.")
    from ggn_tf.cases.dicom.repair import RepairPolicy
    from ggn_tf.prediction.locations import open_ct, read_locations
    from ggn_tf.prediction.result_folder import refuse_foreign_folder

    if output is not None:
        refuse_foreign_folder(output)
    given = read_locations(mask, segment, center_mm, ras, center_index, fiducials)
    repair_policy = RepairPolicy(repair, align_masks)
    volume, places = open_ct(ct, series, given, repair_policy)

    def answer(protocol: PatchProtocol, predict: "Callable[[np.ndarray], Prediction]") -> "CtPrediction":
        return _answer(volume, places, repair_policy, protocol, predict)

    load_tensorflow()
    if server is not None:
        answers = _ask_server(server, model_name, timeout, answer)
        source = {"server": server, "model_name": model_name}
    else:
        answers = _ask_export(Path(export or ""), answer)
        source = {"export": str(export)}
    _report(answers, volume, {"ct": str(ct) if keep_ids else None, **source}, output, as_json)


def _answer(
    volume: "Volume",
    places: "Sequence[NoduleLocation]",
    repair_policy: "RepairPolicy",
    protocol: PatchProtocol,
    predict: "Callable[[np.ndarray], Prediction]",
) -> "CtPrediction":
    """Cut every patch before anything is asked: one place that is wrong refuses the call."""
    from ggn_tf.cases.patches import cut_patches
    from ggn_tf.prediction.nodules import NodulePatch, predict_nodules

    targets = [place.target(place.name if len(places) > 1 else None) for place in places]
    patches = cut_patches(volume, targets, protocol, repair_policy)
    questions = [NodulePatch(place.name, patch) for place, patch in zip(places, patches, strict=True)]
    return predict_nodules(volume, questions, predict)


def _ask_server(
    target: str, model_name: str, timeout_s: float, answer: "Callable[[PatchProtocol, Any], CtPrediction]"
) -> "CtPrediction":
    from ggn_tf.serving.client.client import PredictionClient

    with PredictionClient(target, model_name, timeout_s) as client:
        return answer(_served_protocol(client), client.predict)


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


def _ask_export(folder: Path, answer: "Callable[[PatchProtocol, Any], CtPrediction]") -> "CtPrediction":
    from ggn_tf.serving.runtime.local_model import LocalModel

    with LocalModel(folder) as model:
        return answer(model.contract.protocol.patch, model.predict)


def _report(
    answers: "CtPrediction", volume: "Volume", asked: dict[str, str | None], output: Path | None, as_json: bool
) -> None:
    from ggn_tf.prediction.result_folder import write_results

    document: dict[str, Any] = {
        **asked,
        "model_version": answers.model_version,
        "nodules": [{"label": label, **nodule.to_dict()} for label, nodule in enumerate(answers.nodules, start=1)],
        "mask": None,
        "segmentation": None,
        "overlays": [],
        "warnings": [],
        "caution": _CAUTION,
    }
    if output is not None:
        document = write_results(answers, volume, document, output)
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    for label, nodule in enumerate(answers.nodules, start=1):
        if len(answers.nodules) > 1:
            click.echo(f"{label}: {nodule.name}")
        click.echo("\n".join(_lines(nodule)) + "\n")
    for warning in document["warnings"]:
        click.echo(f"warning    {warning['text']}")
    click.echo(f"model      version {answers.model_version}")
    if output is not None:
        click.echo(f"written    {output}")
    click.echo(_CAUTION)


def _lines(nodule: "NodulePrediction") -> list[str]:
    width = max(9, *(len(name) for name in nodule.probabilities))
    point = ", ".join(f"{value:.1f}" for value in nodule.center_mm_lps)
    measures = nodule.measures
    return [
        *(
            f"{name:<{width}}  {probability:5.3f}  {'#' * round(probability * _BAR)}".rstrip()
            for name, probability in nodule.probabilities.items()
        ),
        f"decision   {nodule.decision}",
        f"centre     {point} mm (LPS)",
        *(
            ["volume     0 mm3"]
            if measures is None
            else [
                f"volume     {measures.volume_mm3:.0f} mm3, diameter {measures.diameter_mm:.1f} mm",
                f"density    {measures.mean_hu:.0f} HU on average, {measures.solid_fraction:.0%} solid",
            ]
        ),
        *(f"warning    {warning.text}" for warning in nodule.warnings),
    ]
