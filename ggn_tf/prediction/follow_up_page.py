"""The page of a follow-up, growth.html: both scans side by side, changes with their limits, and warnings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.growth import Change, Compared
from ggn_tf.cases.measure_texts import MEASURE_TEXTS
from ggn_tf.evaluation.report.page import Block, Cell, Page, Prose, Section, Table, write_page
from ggn_tf.evaluation.report.viewer import Region, Viewer, region_of
from ggn_tf.prediction.overlay import field_around
from ggn_tf.protocol import AIR_HU
from ggn_tf.shown_text import one_line

if TYPE_CHECKING:
    from ggn_tf.prediction.follow_up import FollowUp


_PATIENT_IMAGES = "The slices are of a patient's CTs: handle this page as you would handle the CTs."
_LIMITS = (
    "The limits are of repeated scans that were made alike, and are not those of this model: volume, 95 % of 233 solid "
    "nodules (Marchianò et al. 2009, Radiology 251:919), used for mass too; diameters, 95 % of 69 subsolid nodules and "
    "two readers (Kim et al. 2016, PLOS ONE 11:e0148853), unless others were given. No row is a category or advice."
)
_REGISTERED = (
    "The later scan was moved onto the earlier one by the registration; measurements are of the unmoved voxels."
)
_SHIFTED = (
    "The registration failed: the later scan was only shifted, so that the nodule's centre in the earlier scan and the "
    "given centre in the later one are one point. Measurements are of the unmoved voxels; correlation, overlap and "
    "difference are those of the registration that failed."
)


def write_growth_page(follow_up: "FollowUp", result: Mapping[str, Any], path: Path) -> None:
    """Write the page.

    All but the pictures comes from `result`, the content of growth.json. The page needs no other file and no network.
    """
    days = result["days"]
    moved = _SHIFTED if follow_up.registration.failed else _REGISTERED
    page = Page(
        title="Follow-up of a nodule",
        subtitle=f"{'Unknown number of' if days is None else days} days between the scans. {_PATIENT_IMAGES}",
        blocks=_warnings(result["warnings"]),
        sections=[
            Section("changes", "Changes", _changes(follow_up.changes)),
            Section("scans", "Both scans", [Prose(moved), Viewer("both-scans", _regions(follow_up))]),
            *(_scan_section(name, result[name]) for name in ("earlier", "later")),
            Section("registration", "Registration", [_registration(result["registration"])]),
        ],
    )
    write_page(page, path, path.parent)


def _changes(changes: Sequence[Change]) -> list[Block]:
    if not changes:
        return [Prose("There is no change to report: one of the scans has no mask of the nodule.", warning=True)]
    rows: list[list[Cell]] = [[MEASURE_TEXTS[change.measurement].title, *change_texts(change)] for change in changes]
    heading = ["measure", "earlier", "later", "change", "relative", "limit", "compared with the limit"]
    times = [
        Prose(f"{MEASURE_TEXTS[change.measurement].title}: {text}.")
        for change in changes
        if (text := doubling_text(change)) is not None
    ]
    return [Table(heading, rows), *times, Prose(_LIMITS)]


def _regions(follow_up: "FollowUp") -> list[Region]:
    """The earlier scan's own voxels, and the later scan's at the same points."""
    earlier, later = follow_up.earlier, follow_up.later
    grid = Grid.from_image(earlier.block)
    part = grid.part(grid.box_around(field_around(earlier.center_mm_lps)) or grid.whole)
    transform = follow_up.registration.transform()

    def moved(image: sitk.Image, interpolator: int, outside: float) -> sitk.Image:
        place = (part.size_xyz, transform, interpolator, part.origin_mm_lps, part.spacing_mm_xyz, part.direction)
        return sitk.Resample(image, *place, outside)

    mask = None if later.mask is None else moved(later.mask, sitk.sitkNearestNeighbor, 0)
    return [
        region_of("earlier scan", earlier.block, earlier.mask, earlier.center_mm_lps),
        region_of("later scan", moved(later.block, sitk.sitkLinear, AIR_HU), mask, earlier.center_mm_lps),
    ]


def _scan_section(name: str, entry: Mapping[str, Any]) -> Section:
    rows: list[list[Cell]] = [
        ["mask", "given" if entry["mask_source"] == "given" else "by the model"],
        ["nodule's centre", ", ".join(f"{value:.1f}" for value in entry["center_mm_lps"]) + " mm (LPS)"],
    ]
    rows += [[one_line(label), f"{value:.3f}"] for label, value in (entry["probabilities"] or {}).items()]
    measured = entry["measurements"] or {}
    rows += [[text.title, text.printed(measured[field])] for field, text in MEASURE_TEXTS.items() if field in measured]
    return Section(name, f"{name.capitalize()} scan", [*_warnings(entry["warnings"]), Table([], rows)])


def _registration(entry: Mapping[str, Any]) -> Table:
    difference_hu = entry["rms_difference_hu"]
    rows: list[list[Cell]] = [
        ["displacement of the nodule's place", f"{entry['displacement_mm']:.1f} mm"],
        ["rotation", f"{entry['rotation_degrees']:.1f} degrees"],
        ["root mean square difference", "unknown" if difference_hu is None else f"{difference_hu:.0f} HU"],
        ["correlation", f"{entry['correlation']:.3f}"],
        ["overlap of the block", f"{entry['overlap']:.0%}"],
    ]
    return Table([], rows)


def _warnings(warnings: Sequence[Mapping[str, str]]) -> list[Block]:
    return [Prose(one_line(warning["text"]), warning=True) for warning in warnings]


COMPARED_TEXTS = {Compared.WITHIN: "within measurement error", Compared.MORE: "more than measurement error"}


def change_texts(change: Change) -> tuple[str, str, str, str, str, str]:
    """A change for readers: both values, the change, the relative change, its limit, and how they compare."""
    text, relative = MEASURE_TEXTS[change.measurement], change.relative_percent
    return (
        text.printed(change.earlier),
        text.printed(change.later),
        f"{change.absolute:+z.{text.decimals}f} {text.unit}",
        "undefined" if relative is None else f"{relative:+z.1f} %",
        f"{change.limit:g} {change.limit_unit}",
        COMPARED_TEXTS[change.compared],
    )


def doubling_text(change: Change) -> str | None:
    """The doubling time of a volume or mass for readers; None where it is not known."""
    if change.doubling_days is None:
        return None
    kind = "doubling time" if change.doubling_days > 0 else "halving time"
    unsure = "" if change.compared is Compared.MORE else "; the change is within measurement error, so it is uncertain"
    return f"{kind} {abs(change.doubling_days):.0f} days{unsure}"
