"""`ggn-tf predict`: probabilities, masks and warnings for the nodules of a CT."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

import ggn_tf
from ggn_tf.cases.reader_process import start_ahead
from ggn_tf.cli.options import (
    FILE,
    PATH,
    FiniteRange,
    export_options,
    json_option,
    pacs_options,
    proxy_option,
    repair_options,
    shared_option,
    solid_option,
    tls_options,
    with_options,
)
from ggn_tf.pacs.archive import CALLING_AET, is_dicom_url
from ggn_tf.pacs.credentials import PacsCredentials, read_credentials
from ggn_tf.server_names import MODEL_NAME
from ggn_tf.tensorflow_import import load_predictor

if TYPE_CHECKING:
    from ggn_tf.api.archive import ArchivedSeries
    from ggn_tf.prediction.locations import Location

_BAR = 24


@click.command()
@click.option("--ct", type=PATH, help="Volume file or DICOM folder of the CT.")
@click.option("--series", help="SeriesInstanceUID of the CT, where the DICOM folder or the --study contains several.")
@pacs_options
@click.option(
    "--mask", type=PATH, help="Mask of one or more nodules; the centroid of each becomes the centre of a patch."
)
@click.option("--segment", help="Name or value of the nodule in a mask with several segments.")
@click.option(
    "--center-mm",
    type=float,
    nargs=3,
    multiple=True,
    metavar="X Y Z",
    help="Centre of a nodule in LPS mm; can be repeated.",
)
@click.option("--ras", is_flag=True, help="Read --center-mm as RAS, which 3D Slicer shows.")
@click.option(
    "--center-index",
    type=int,
    nargs=3,
    multiple=True,
    metavar="I J K",
    help="Centre of a nodule as a voxel of the CT, from 0, in the order x, y, z; can be repeated.",
)
@click.option(
    "--fiducials", type=PATH, help="Markups file of 3D Slicer (.mrk.json, .fcsv) with one point on each nodule."
)
@click.option(
    "--points-from",
    type=FILE,
    help="DICOM SR (TID 1500) with a point, line or outline on each nodule, for example a length that OHIF saved; or a "
    "DICOM SEG with a segment for each.",
)
@click.option("--points-series", help="SeriesInstanceUID of such an SR or SEG in the --pacs.")
@click.option("--line-midpoints", is_flag=True, help="Use the midpoint of each line in the --fiducials file.")
@click.option(
    "--recenter/--no-recenter",
    default=True,
    show_default=True,
    help="Move a given centre to the centroid of the mask that the model predicts, at most three times, and classify "
    "the patch around it. --no-recenter classifies the patch around the given centre, as the paper does.",
)
@solid_option
@repair_options
@click.option(
    "--server", metavar="HOST:PORT", help="Address of the model server that predicts; an IPv6 address in brackets."
)
@proxy_option
@tls_options
@click.option("--model-name", "--model_name", default=MODEL_NAME, help="Name of the model on the server.")
@click.option(
    "--timeout",
    type=FiniteRange(min=0.1),
    default=60.0,
    help="Seconds for one request to the server, retries included, and for each wait for data of a --pacs.",
)
@export_options
@click.option(
    "-o",
    "--output",
    type=PATH,
    help="Folder for result.json, answer.html, masks (NIfTI, DICOM SEG), DICOM SR and overlays. An earlier result is "
    "replaced, unless it is of a CT in another place or of another extent, or its DICOM SEG or SR is of another "
    "series.",
)
@click.option(
    "--codes",
    type=FILE,
    help="Table with the codes of the classes in the DICOM SR: columns class, code, scheme, meaning. Classes without a "
    "row get codes of a private scheme.",
)
@click.option(
    "--volumetric-sr",
    is_flag=True,
    help="Write a second DICOM SR, whose groups refer to the segments of the SEG, for dcmqi. OHIF 3.13 cannot open it.",
)
@click.option(
    "--keep-ids", is_flag=True, help="Include the path of the CT in the result, which often names the patient."
)
@shared_option
@click.option("--sets", is_flag=True, help="Refuse a model that gives no prediction sets.")
@json_option
def command(
    ct: Path | None,
    series: str | None,
    pacs: str | None,
    calling_aet: str | None,
    move_port: int | None,
    study: str | None,
    send: bool,
    pacs_credentials: Path | None,
    pacs_ca: Path | None,
    pacs_cert: Path | None,
    pacs_key: Path | None,
    mask: Path | None,
    segment: str | None,
    center_mm: Sequence[tuple[float, float, float]],
    ras: bool,
    center_index: Sequence[tuple[int, int, int]],
    fiducials: Path | None,
    points_from: Path | None,
    points_series: str | None,
    line_midpoints: bool,
    repair: bool,
    align_masks: bool,
    server: str | None,
    timeout: float,
    export: Path | None,
    output: Path | None,
    codes: Path | None,
    volumetric_sr: bool,
    keep_ids: bool,
    shared: bool,
    as_json: bool,
    **others: Any,
) -> None:
    """Classify and segment one or more nodules of a CT.

    Warnings are printed where a nodule is outside the range that the model was trained on. DICOM SEG and SR name the
    patient as the series does.
    """
    if (ct is None) == (pacs is None):
        raise click.UsageError("Name either a --ct or a --pacs.")
    if pacs is None and (study or send or points_series or pacs_credentials or pacs_ca or pacs_cert or pacs_key):
        raise click.UsageError("--study, --send, --points-series and the files for an archive need a --pacs.")
    if pacs is not None and (keep_ids or not (study or series)):
        raise click.UsageError("--pacs needs a --series or a --study, and takes no --keep-ids.")
    if sum(map(bool, (mask, center_mm, center_index, fiducials, points_from, points_series))) != 1:
        raise click.UsageError(
            "Give the nodules by one of --mask, --center-mm, --center-index, --fiducials, --points-from and "
            "--points-series."
        )
    if mask is None and (segment is not None or align_masks):
        raise click.UsageError(f"{'--align-masks' if align_masks else '--segment'} needs a --mask.")
    if ras and not center_mm:
        raise click.UsageError("--ras needs --center-mm; voxels and files have their own coordinate system.")
    if line_midpoints and fiducials is None:
        raise click.UsageError("--line-midpoints needs --fiducials.")
    if (server is None) == (export is None):
        raise click.UsageError("Name either a --server or an --export.")
    settings = ("model_name", "proxy", "trust", "tls_ca", "tls_cert", "tls_key")
    network = {name: others.pop(name) for name in settings}
    if network["proxy"] is not None and server is None:
        raise click.UsageError("--proxy needs a --server.")
    if server is None and any(network[name] for name in ("tls_ca", "tls_cert", "tls_key")):
        raise click.UsageError("The files for TLS need a --server.")
    if output is None and not send and (codes or volumetric_sr):
        raise click.UsageError(f"{'--codes' if codes else '--volumetric-sr'} needs an --output or --send.")
    _check_archive(pacs, calling_aet, move_port, pacs_credentials)
    _check_paths(ct, mask, export, output, codes)
    start_ahead()
    locations: list[Location] = [] if mask is None else [ggn_tf.Mask(mask, segment)]
    locations += [ggn_tf.Point(*center, ras=ras or None) for center in center_mm]
    locations += [ggn_tf.Voxel(*index) for index in center_index]
    locations += [] if fiducials is None else ggn_tf.read_points(fiducials, line_midpoints=line_midpoints)
    archived = None
    if ct is None:
        known = read_credentials(pacs_credentials, pacs_ca, pacs_cert, pacs_key)
        archived = _fetch(str(pacs), study, series, timeout, known, points_series, calling_aet, move_port)
        ct, series, points_from = archived.folder, archived.found.series, archived.marks or points_from
    if points_from is not None:
        locations += ggn_tf.read_dicom_points(points_from, ct, series=series, repair=repair)
    if export is not None:
        load_predictor()
    with ggn_tf.load(export or f"grpc://{server}", timeout=timeout, **network) as model:
        if output is not None:
            from ggn_tf.prediction.result_folder import refuse_other_ct

            others["on_start"] = lambda volume: refuse_other_ct(output, volume.stored_grid, volume.series)
        prediction = model.predict(ct, locations, series=series, repair=repair, align_masks=align_masks, **others)
    folder = output
    if send and output is None:
        folder = Path(click.get_current_context().with_resource(TemporaryDirectory())) / "result"
    result = (
        prediction.to_dict(keep_ids)
        if folder is None
        else prediction.write(folder, keep_ids=keep_ids, shared=shared, codes=codes, volumetric_sr=volumetric_sr)
    )
    if send and archived is not None and folder is not None:
        sent = archived.send(folder, result)
        # Without an --output no file remains that the result could name.
        kept = result if output is not None else {**prediction.to_dict(), "warnings": result["warnings"]}
        result = {**kept, "sent": sent}
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        _print_summary(prediction, result, output)


def _print_summary(prediction: "ggn_tf.CtPrediction", result: dict[str, Any], output: Path | None) -> None:
    from ggn_tf.prediction.nodules import RESEARCH_ONLY

    for label, nodule in enumerate(prediction.nodules, start=1):
        if len(prediction.nodules) > 1:
            click.echo(f"{label}: {nodule.name}")
        click.echo("\n".join(_lines(nodule)) + "\n")
    for warning in result["warnings"]:
        click.echo(f"warning    {warning['text']}")
    click.echo(f"model      version {prediction.model_version}")
    if output is not None:
        click.echo(f"written    {output}")
    if "sent" in result:
        click.echo(f"sent       {result['sent']} objects to the archive")
    click.echo(RESEARCH_ONLY)


def _fetch(
    url: str,
    study: str | None,
    series: str | None,
    timeout: float,
    credentials: PacsCredentials,
    points_series: str | None,
    calling_aet: str | None,
    move_port: int | None,
) -> "ArchivedSeries":
    """Fetch the CT before the model is loaded; the command's end deletes it."""
    from ggn_tf.api.archive import fetch_series

    aet = calling_aet or CALLING_AET
    archived = fetch_series(
        url, study, series, credentials, timeout, points_series=points_series, calling_aet=aet, move_port=move_port
    )
    return click.get_current_context().with_resource(archived)


def _check_archive(
    pacs: str | None, calling_aet: str | None, move_port: int | None, pacs_credentials: Path | None
) -> None:
    """Refuse options of the other kind of archive."""
    is_dicom = pacs is not None and is_dicom_url(pacs)
    if not is_dicom and (calling_aet is not None or move_port is not None):
        raise click.UsageError("--calling-aet and --move-port need a --pacs dicom://.")
    if is_dicom and pacs_credentials is not None:
        raise click.UsageError("--pacs-credentials needs a --pacs https://.")


def _check_paths(
    ct: Path | None, mask: Path | None, export: Path | None, output: Path | None, codes: Path | None
) -> None:
    """Report a wrong path before the model is loaded."""
    from ggn_tf.cases.masks import refuse_missing_mask
    from ggn_tf.cases.volumes import refuse_missing_ct
    from ggn_tf.prediction.class_codes import read_class_codes
    from ggn_tf.prediction.result_folder import refuse_foreign_folder
    from ggn_tf.serving.contract.export_contract import read_contract
    from ggn_tf.serving.contract.version_folders import find_version

    if ct is not None:
        refuse_missing_ct(ct)
    if mask is not None:
        refuse_missing_mask(mask)
    contract = None if export is None else read_contract(find_version(export)[1])
    if codes is not None:
        read_class_codes(codes, None if contract is None else contract.task.class_names)
    if output is not None:
        refuse_foreign_folder(output)


def _lines(nodule: "ggn_tf.NodulePrediction") -> list[str]:
    from ggn_tf.prediction.patch_warnings import NO_DECISION

    width = max(9, *(len(name) for name in nodule.probabilities))
    point = ", ".join(f"{value:.1f}" for value in nodule.center_mm_lps)
    moved = f", moved by {nodule.moved_mm:.1f} mm from the given centre" if nodule.moves else ""
    measured = nodule.measurements
    warnings = [f"warning    {with_options(warning.text, warning.arguments)}" for warning in nodule.warnings]
    is_empty = nodule.mask is None
    return [
        # Before the probabilities, which are those of a patch without a nodule.
        *(warnings if is_empty else []),
        *(
            f"{name:<{width}}  {probability:5.3f}  {'#' * round(probability * _BAR)}".rstrip()
            for name, probability in nodule.probabilities.items()
        ),
        *(
            f"spread     {value:.3f} for {name} (standard deviation over the members)"
            for name, value in (nodule.spread or {}).items()
        ),
        f"decision   {nodule.decision or NO_DECISION}",
        *([] if nodule.prediction_set is None else [f"set        {', '.join(nodule.prediction_set) or 'no class'}"]),
        *([] if nodule.typicality is None else [f"typicality {nodule.typicality:.3f}"]),
        f"centre     {point} mm (LPS){moved}",
        *(
            ["volume     0 mm3"]
            if measured is None
            else [
                f"volume     {measured.volume_mm3:.0f} mm3, diameter {measured.diameter_mm:.1f} mm",
                f"axes       {measured.longest_diameter_mm:.1f} x {measured.perpendicular_diameter_mm:.1f} mm, "
                f"mean {measured.mean_diameter_mm:.1f} mm; longest in 3D {measured.diameter_3d_mm:.1f} mm",
                f"density    {measured.mean_hu:.0f} HU on average, mass {measured.mass_mg:.0f} mg",
                f"solid      {measured.solid_fraction:.0%} above {measured.solid_hu:g} HU, "
                f"{measured.solid_volume_mm3:.0f} mm3, long axis {measured.solid_longest_diameter_mm:.1f} mm",
            ]
        ),
        *([] if is_empty else warnings),
    ]
