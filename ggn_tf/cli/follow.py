"""`ggn-tf follow`: the change of a nodule between two scans of a patient."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import ggn_tf
from ggn_tf.cases.growth import DIAMETER_LIMIT_MM, VOLUME_LIMIT_PERCENT
from ggn_tf.cases.reader_process import start_ahead
from ggn_tf.cli.options import (
    AT_LEAST_1,
    PATH,
    FiniteRange,
    export_options,
    json_option,
    proxy_option,
    repair_options,
    shared_option,
    tls_options,
    with_options,
)
from ggn_tf.server_names import MODEL_NAME
from ggn_tf.tensorflow_import import load_predictor

if TYPE_CHECKING:
    from ggn_tf.prediction.follow_up import FollowUp
    from ggn_tf.prediction.scan_comparison import Interval

_Point = tuple[float, float, float]
_POINT: dict[str, Any] = {"type": float, "nargs": 3, "metavar": "X Y Z"}


@click.command()
@click.option("--earlier", type=PATH, required=True, help="Volume file or DICOM folder of the earlier scan.")
@click.option("--later", type=PATH, required=True, help="Volume file or DICOM folder of the later scan.")
@click.option("--center-mm", required=True, **_POINT, help="Centre of the nodule in the earlier scan, in LPS mm.")
@click.option(
    "--later-center-mm",
    "later_center_mm",
    **_POINT,
    help="Centre of the nodule in the later scan, in LPS mm, where the registration does not find it.",
)
@click.option("--ras", is_flag=True, help="Read the centres as RAS, which 3D Slicer shows.")
@click.option("--earlier-series", help="SeriesInstanceUID of the earlier scan, where its folder contains several.")
@click.option("--later-series", help="SeriesInstanceUID of the later scan, where its folder contains several.")
@click.option("--earlier-mask", type=PATH, help="Mask of the nodule in the earlier scan, in place of the model's.")
@click.option("--later-mask", type=PATH, help="Mask of the nodule in the later scan, in place of the model's.")
@click.option("--days", type=AT_LEAST_1, help="Days between the scans.  [default: from the dates in their headers]")
@click.option(
    "--volume-limit",
    type=FiniteRange(min=0),
    default=VOLUME_LIMIT_PERCENT,
    help="Percent up to which a change of volume or mass is within measurement error.",
)
@click.option(
    "--diameter-limit",
    type=FiniteRange(min=0),
    default=DIAMETER_LIMIT_MM,
    help="Millimetres up to which a change of a diameter is within measurement error.",
)
@click.option(
    "--same-patient", is_flag=True, help="State that the scans are of one patient although their headers name others."
)
@repair_options
@click.option("--server", metavar="HOST:PORT", help="Address of the model server; an IPv6 address in brackets.")
@proxy_option
@tls_options
@click.option("--model-name", "--model_name", default=MODEL_NAME, help="Name of the model on the server.")
@click.option(
    "--timeout",
    type=FiniteRange(min=0.1),
    default=60.0,
    help="Seconds for one request to the server, retries included.",
)
@export_options
@click.option("-o", "--output", type=PATH, help="Folder for growth.json, growth.html, masks and overlays.")
@click.option(
    "--keep-ids", is_flag=True, help="Include the paths of the CTs in the result, which often name the patient."
)
@shared_option
@json_option
def command(
    earlier: Path,
    later: Path,
    center_mm: _Point,
    later_center_mm: _Point | None,
    ras: bool,
    earlier_mask: Path | None,
    later_mask: Path | None,
    server: str | None,
    export: Path | None,
    output: Path | None,
    keep_ids: bool,
    shared: bool,
    as_json: bool,
    **others: Any,
) -> None:
    """Measure a nodule in two scans of a patient and compare its change with the error of measurement.

    The later scan is registered to the earlier one around the nodule. A change is reported as more than its limit of
    repeatability or within it; no result is a category or advice.
    """
    both_masks = earlier_mask is not None and later_mask is not None
    if (server is not None and export is not None) or (server is None and export is None and not both_masks):
        raise click.UsageError("Name either a --server or an --export, or give both masks.")
    if server is None and any(others[name] for name in ("proxy", "tls_ca", "tls_cert", "tls_key")):
        raise click.UsageError("--proxy and the files for TLS need a --server.")
    if others["align_masks"] and earlier_mask is None and later_mask is None:
        raise click.UsageError("--align-masks needs a mask.")
    _check_paths((earlier, later), (earlier_mask, later_mask), export, output)
    start_ahead()
    if export is not None:
        load_predictor()
    network = ("model_name", "timeout", "proxy", "trust", "tls_ca", "tls_cert", "tls_key")
    settings = {name: others.pop(name) for name in network}
    source = export or (None if server is None else f"grpc://{server}")
    model = None if source is None else ggn_tf.load(source, **settings)
    try:
        follow_up = ggn_tf.follow(
            earlier,
            later,
            ggn_tf.Point(*center_mm, ras=ras or None),
            model=model,
            later_center=None if later_center_mm is None else ggn_tf.Point(*later_center_mm, ras=ras or None),
            earlier_mask=earlier_mask,
            later_mask=later_mask,
            **others,
        )
    finally:
        if model is not None:
            model.close()
    result = (
        follow_up.to_dict(keep_ids) if output is None else follow_up.write(output, keep_ids=keep_ids, shared=shared)
    )
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    for line in _lines(follow_up, result):
        click.echo(line)
    if output is not None:
        click.echo(f"written    {output}")
    click.echo(result["caution"])


def _check_paths(scans: Sequence[Path], masks: Sequence[Path | None], export: Path | None, output: Path | None) -> None:
    """Report a wrong path before the model is loaded."""
    from ggn_tf.cases.masks import refuse_missing_mask
    from ggn_tf.cases.volumes import refuse_missing_ct
    from ggn_tf.prediction.follow_up_folder import refuse_foreign_folder
    from ggn_tf.serving.contract.export_contract import read_contract
    from ggn_tf.serving.contract.version_folders import find_version

    for scan in scans:
        refuse_missing_ct(scan)
    for mask in masks:
        if mask is not None:
            refuse_missing_mask(mask)
    if export is not None:
        read_contract(find_version(export)[1])
    if output is not None:
        refuse_foreign_folder(output)


def _lines(follow_up: "FollowUp", result: dict[str, Any]) -> Iterator[str]:
    from ggn_tf.cases.measure_texts import MEASURE_TEXTS
    from ggn_tf.prediction.follow_up_page import change_texts, doubling_text

    registration = follow_up.registration
    overlaps = registration.overlap > 0
    difference = f"difference {registration.rms_difference_hu:.0f} HU (RMS)" if overlaps else "the scans do not overlap"
    yield f"days       {_days_text(follow_up.interval)}"
    yield (
        f"moved      {registration.displacement_mm:.1f} mm, rotated by {registration.rotation_degrees:.1f} degrees; "
        f"correlation {registration.correlation:.3f}, {difference}"
    )
    for change in follow_up.changes:
        earlier, later, absolute, relative, limit, compared = change_texts(change)
        yield f"{MEASURE_TEXTS[change.measurement].title}: {earlier} to {later}, {absolute} ({relative})"
        yield f"           {compared} ({limit})"
        if time := doubling_text(change):
            yield f"           {time}"
    for warning in follow_up.warnings:
        yield f"warning    {with_options(warning.text, warning.arguments)}"
    for scan, nodule in (("earlier", follow_up.earlier), ("later", follow_up.later)):
        for warning in nodule.warnings:
            yield f"warning    {scan} scan: {with_options(warning.text, warning.arguments)}"
    if result["model_version"] is not None:
        yield f"model      version {result['model_version']}"


def _days_text(interval: "Interval") -> str:
    days, source = interval.days, interval.source
    if days is None:
        return f"unknown: {f'both scans have the same {source}' if source else 'no date that both headers have'}"
    return f"{days} from the earlier to the later scan, {'as given' if source == 'given' else f'by their {source}'}"
