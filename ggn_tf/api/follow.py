"""Compare a nodule in two scans of a patient."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ggn_tf.api.load import Model
from ggn_tf.cases.dicom.repair import RepairPolicy
from ggn_tf.cases.dicom.series import SeriesQuery
from ggn_tf.cases.geometry.grid import Vector
from ggn_tf.cases.growth import DIAMETER_LIMIT_MM, VOLUME_LIMIT_PERCENT, Limits
from ggn_tf.cases.recentring import MOST_MOVES
from ggn_tf.cases.registration import register
from ggn_tf.cases.scan_facts import ScanFacts, read_scan_facts
from ggn_tf.cases.volumes import Volume, naming_case, open_volume
from ggn_tf.errors import GgnError
from ggn_tf.prediction.ct_patches import in_reader
from ggn_tf.prediction.follow_up import FollowedNodule, FollowUp, masked_nodule, predicted_nodule, refuse_failed
from ggn_tf.prediction.locations import Point
from ggn_tf.prediction.scan_comparison import acquisition_warnings, interval_of, patient_warnings


def follow(
    earlier: str | Path,
    later: str | Path,
    center: Point,
    *,
    model: Model | None = None,
    later_center: Point | None = None,
    earlier_mask: str | Path | None = None,
    later_mask: str | Path | None = None,
    earlier_series: str | None = None,
    later_series: str | None = None,
    days: int | None = None,
    volume_limit: float = VOLUME_LIMIT_PERCENT,
    diameter_limit: float = DIAMETER_LIMIT_MM,
    same_patient: bool = False,
    repair: bool = False,
    align_masks: bool = False,
) -> FollowUp:
    """Measure a nodule in two scans of a patient, and compare its changes with the error of measurement.

    The later scan is registered to the earlier one around the nodule; the nodule's centre is carried to it.

    Example:
        >>> with ggn_tf.load("models/ggn") as model:  # doctest: +SKIP
        ...     growth = ggn_tf.follow("2023/ct", "2024/ct", ggn_tf.Point(10, -20, 105), model=model)
        >>> growth.changes[0].relative_percent, growth.changes[0].compared.value  # doctest: +SKIP
        (12.5, 'within')

    Args:
        earlier: A volume file or a DICOM folder.
        later: The same of a later day.
        center: The nodule's centre in the earlier scan. The model's recentring moves it, as in `Model.predict`.
        model: What segments the nodule; None with both masks.
        later_center: The nodule's centre in the later scan, where the registration does not find it.
        earlier_mask: A mask of the nodule in the earlier scan, used in place of the model's.
        later_mask: The same for the later scan.
        earlier_series: SeriesInstanceUID of the earlier scan, where its folder contains several.
        later_series: The same for the later scan.
        days: Days between the scans; None: from their headers.
        volume_limit: Percent up to which changes of volume and mass are within the error of measurement.
        diameter_limit: The same for diameters, in mm.
        same_patient: Whether the scans are of one patient although their headers name different ones.
        repair: Whether slices with a gantry tilt or non-uniform spacing are resampled instead of being rejected.
        align_masks: Whether masks on another grid of the same scan are resampled onto the CT's grid.

    Raises:
        FollowUpError: The scans are of different patients or in the wrong order, or their registration failed.
        GgnError: An argument has no meaning.
        VolumeError, MaskError, ServingError: As in `Model.predict`.
    """
    _check_arguments(model, earlier_mask, later_mask, days, volume_limit, diameter_limit)
    policy = RepairPolicy(repair, align_masks)
    start, there = _lps(center), None if later_center is None else _lps(later_center)
    with _about("earlier"):
        before, facts = in_reader(Path(earlier), _opened, Path(earlier), earlier_series, start, repair)
    with _about("later"):
        after, later_facts = in_reader(Path(later), _opened, Path(later), later_series, there, repair)
    patient = patient_warnings(facts, later_facts, same_patient=same_patient)
    interval, notes = interval_of(facts, later_facts, days)
    with _about("earlier"):
        nodule = _nodule(before, model, earlier_mask, center, policy)
    registration, further = refuse_failed(
        in_reader(Path(later), register, before, after, nodule.center_mm_lps, there), after, there
    )
    with _about("later"):
        place = later_center or Point(*registration.carried(nodule.center_mm_lps), ras=False)
        later_nodule = _nodule(after, model, later_mask, place, policy)
    if later_center is None and later_mask is None:
        with _about("earlier"):
            nodule = _settled(before, model, nodule, policy)
    return FollowUp(
        earlier=nodule,
        later=later_nodule,
        registration=registration,
        interval=interval,
        limits=Limits(volume_limit, diameter_limit),
        source={} if model is None else model.source,
        scan_warnings=(*patient, *notes, *acquisition_warnings(facts, later_facts), *further),
    )


def _opened(ct: Path, series: str | None, center_mm_lps: Vector | None, repair: bool) -> tuple[Volume, ScanFacts]:
    volume = open_volume(ct, SeriesQuery(series, center_mm_lps), repair=repair)
    return volume, read_scan_facts(volume)


def _nodule(
    volume: Volume, model: Model | None, mask: str | Path | None, place: Point, policy: RepairPolicy
) -> FollowedNodule:
    if mask is not None:
        return in_reader(volume.path, masked_nodule, volume, Path(mask), _lps(place), policy)
    if model is None:
        raise ValueError("no model")
    return predicted_nodule(model.predict(volume.path, [place], series=volume.series, repair=policy.repair))


def _settled(volume: Volume, model: Model | None, nodule: FollowedNodule, policy: RepairPolicy) -> FollowedNodule:
    """The nodule predicted again from its own centre where recentring ended before the centre came to rest.

    The prediction in the later scan begins there, too: a scan against itself has one mask.
    """
    if nodule.moves < MOST_MOVES:
        return nodule
    again = _nodule(volume, model, None, Point(*nodule.center_mm_lps, ras=False), policy)
    known = {warning.code: warning for warning in (*nodule.warnings, *again.warnings)}
    return replace(again, start_mm_lps=nodule.start_mm_lps, warnings=tuple(known.values()))


def _lps(point: Point) -> Vector:
    center = point.target().center_mm_lps
    if center is None or not all(map(math.isfinite, center)):
        raise GgnError(
            "The nodule's centre is not a point.",
            found=center,
            expected="three finite coordinates in mm",
            remedy="Give x, y and z in mm.",
        )
    return center


@contextmanager
def _about(scan: str) -> Iterator[None]:
    """Say of which scan an error is, and name the argument of that scan."""
    try:
        with naming_case(f"the {scan} scan"):
            yield
    except GgnError as error:
        own = {"series": f"{scan}_series"}
        error.arguments = tuple(own.get(name, name) for name in error.arguments)
        raise


def _check_arguments(
    model: Model | None,
    earlier_mask: str | Path | None,
    later_mask: str | Path | None,
    days: int | None,
    volume_limit: float,
    diameter_limit: float,
) -> None:
    if model is None and (earlier_mask is None or later_mask is None):
        raise GgnError(
            "There is no model for a scan without a mask.",
            expected="a model, or masks of both scans",
            remedy="Load a model, or give both masks.",
            arguments=("model", "earlier_mask", "later_mask"),
        )
    if days is not None and days < 1:
        raise GgnError(
            "The days between the scans are not positive.",
            found=days,
            expected="1 or more",
            remedy="Give the days from the earlier to the later scan.",
            arguments=("days",),
        )
    for name, limit in (("volume_limit", volume_limit), ("diameter_limit", diameter_limit)):
        if not 0 <= limit < math.inf:
            raise GgnError(
                "A limit of repeatability is not a positive number.",
                found=limit,
                expected="0 or more, finite",
                remedy="Give another limit.",
                arguments=(name,),
            )
