"""A nodule in two scans of a patient: registration, measurements, and their changes."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.repair import RepairPolicy
from ggn_tf.cases.geometry.grid import Grid, Vector, point_text
from ggn_tf.cases.growth import Change, Limits, changes
from ggn_tf.cases.masks import centroid_mm_lps
from ggn_tf.cases.measurements import Measurements, measure
from ggn_tf.cases.patch_location import Masks, NoduleTarget, locate_patch
from ggn_tf.cases.recentring import WARNING_MM
from ggn_tf.cases.registration import Registration
from ggn_tf.cases.volumes import Volume
from ggn_tf.errors import FollowUpError
from ggn_tf.prediction.ct_patches import block_around
from ggn_tf.prediction.nodules import RESEARCH_ONLY, CtPrediction
from ggn_tf.prediction.patch_warnings import PredictionWarning
from ggn_tf.prediction.scan_comparison import Interval
from ggn_tf.protocol import PatchProtocol

SCHEMA_VERSION = 1
"""Of growth.json."""


@dataclass(frozen=True)
class FollowedNodule:
    """The nodule in one of the scans.

    Attributes:
        center_mm_lps: The nodule's centre: of the patch, or of the given mask.
        start_mm_lps: Where it was looked for: the given centre, or where the registration carried it.
        mask: uint8, 0 or 1, on the block of the CT's voxels that contains the nodule; None where the model finds none.
        mask_source: Where the mask is from.
        measurements: Of the mask on the CT's own voxels; None without a mask.
        block: Hounsfield units around the nodule.
        probabilities: By class name; None with a given mask.
        warnings: Reasons why the measurements may be wrong.
        model_version: The model's version; None with a given mask.
        moves: How often recentring has moved the centre.
    """

    volume: Volume = field(repr=False)
    center_mm_lps: Vector
    start_mm_lps: Vector
    mask: sitk.Image | None
    mask_source: Literal["model", "given"]
    measurements: Measurements | None
    block: sitk.Image = field(repr=False)
    probabilities: dict[str, float] | None = None
    warnings: tuple[PredictionWarning, ...] = ()
    model_version: int | None = None
    moves: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without voxels."""
        return {
            "start_mm_lps": list(self.start_mm_lps),
            "center_mm_lps": list(self.center_mm_lps),
            "mask_source": self.mask_source,
            "measurements": None if self.measurements is None else self.measurements._asdict(),
            "probabilities": self.probabilities,
            "warnings": [warning.to_dict() for warning in self.warnings],
        }


@dataclass(frozen=True)
class FollowUp:
    """The changes of a nodule from an earlier to a later scan.

    Attributes:
        earlier: The nodule in the earlier scan.
        later: The nodule in the later scan.
        registration: Where points of the earlier scan are in the later one; a failed one is the shift between the given
            centres.
        interval: The days between them.
        limits: Up to which changes are within the error of measurement.
        source: Where the model is: `export`, or `server` and `model_name`; empty with given masks.
        scan_warnings: Reasons why the scans may not be comparable.
    """

    earlier: FollowedNodule
    later: FollowedNodule
    registration: Registration
    interval: Interval
    limits: Limits
    source: Mapping[str, str] = field(default_factory=dict)
    scan_warnings: tuple[PredictionWarning, ...] = ()

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """Of volume, mass and diameters; empty unless both scans have a mask."""
        before, after = self.earlier.measurements, self.later.measurements
        return () if before is None or after is None else changes(before, after, self.limits, self.interval.days)

    @cached_property
    def warnings(self) -> tuple[PredictionWarning, ...]:
        """Reasons why the changes may be wrong; those about one scan are in `earlier` and `later`."""
        return (*self.scan_warnings, *self._own_warnings())

    def _own_warnings(self) -> Iterator[PredictionWarning]:
        if self.registration.rms_difference_hu == 0:
            text = "The scans do not differ around the nodule: one scan seems to be given twice."
            yield PredictionWarning("same_scan", text, ("earlier", "later"))
        missing = [name for name, nodule in self._nodules.items() if nodule.mask is None]
        if missing:
            text = f"The model finds no nodule in the {' and the '.join(missing)} scan: there is no change to report."
            yield PredictionWarning("no_change", text)
        if self.earlier.mask_source != self.later.mask_source:
            text = (
                "One mask is the model's and the other was given: a part of the change may be the difference of both."
            )
            yield PredictionWarning("masks_of_two_sources", text)
        elif self.earlier.model_version != self.later.model_version:
            text = "The server changed the version of the model between the scans. Repeat the follow-up."
            yield PredictionWarning("two_model_versions", text)
        apart_mm = math.dist(self.registration.carried_back(self.later.center_mm_lps), self.earlier.center_mm_lps)
        if apart_mm > WARNING_MM:
            text = f"After registration the nodules are {apart_mm:.1f} mm apart: they may be two different nodules."
            yield PredictionWarning("nodules_apart", text)

    @property
    def _nodules(self) -> dict[str, FollowedNodule]:
        return {"earlier": self.earlier, "later": self.later}

    def to_dict(self, keep_ids: bool = False) -> dict[str, Any]:
        """As JSON types, without voxels: the content of growth.json before any file is written.

        Args:
            keep_ids: Whether to include the paths of the CTs, which often name the patient.
        """
        return {
            "schema_version": SCHEMA_VERSION,
            **self.source,
            "model_version": self.later.model_version,
            "days": self.interval.days,
            "days_source": self.interval.source,
            "registration": _registration_dict(self.registration),
            **{
                name: {"ct": str(nodule.volume.path) if keep_ids else None, **nodule.to_dict()}
                for name, nodule in self._nodules.items()
            },
            "changes": [_change_dict(change) for change in self.changes],
            "files": {},
            "warnings": [warning.to_dict() for warning in self.warnings],
            "caution": RESEARCH_ONLY,
        }

    def write(self, output: str | Path, *, keep_ids: bool = False, shared: bool = False) -> dict[str, Any]:
        """Write growth.json, both masks in NIfTI, overlays, and the page growth.html.

        Args:
            output: A folder that does not exist, is empty, or contains an earlier follow-up, which is replaced.
            keep_ids: Whether to include the paths of the CTs, which often name the patient.
            shared: Whether the umask decides who may enter a new folder, and not its owner alone.

        Returns:
            The content of growth.json.

        Raises:
            GgnError: The folder cannot be written.
        """
        from ggn_tf.prediction.follow_up_folder import write_follow_up

        return write_follow_up(self, Path(output), keep_ids, shared)


def predicted_nodule(prediction: CtPrediction) -> FollowedNodule:
    """The one nodule of a prediction."""
    (nodule,) = prediction.nodules
    return FollowedNodule(
        volume=prediction.volume,
        center_mm_lps=nodule.center_mm_lps,
        start_mm_lps=nodule.given_center_mm_lps,
        mask=nodule.mask,
        mask_source="model",
        measurements=nodule.measurements,
        block=nodule.block,
        probabilities=nodule.probabilities,
        warnings=(*prediction.warnings, *nodule.warnings),
        model_version=prediction.model_version,
        moves=nodule.moves,
    )


def masked_nodule(volume: Volume, mask: Path, center_mm_lps: Vector, repair_policy: RepairPolicy) -> FollowedNodule:
    """The nodule of a given mask that is nearest to a point.

    Raises:
        MaskError: The mask cannot be used.
        VolumeError: The CT cannot be read, or the point is outside it.
    """
    target = NoduleTarget(mask, center_mm_lps=center_mm_lps)
    located = locate_patch(Masks(volume, repair_policy), target, PatchProtocol())
    inside = located.mask
    if inside is None:
        raise ValueError("no mask was located")
    center = centroid_mm_lps(inside)
    block = volume.read(block_around(volume.grid, center, Grid.from_image(inside)))
    notes = tuple(PredictionWarning("repaired", f"Noted before the measurement: {note}.") for note in located.repaired)
    return FollowedNodule(volume, center, center_mm_lps, inside, "given", measure(block, inside), block, warnings=notes)


def refuse_failed(
    registration: Registration | None, later: Volume, later_center_mm_lps: Vector | None
) -> tuple[Registration, list[PredictionWarning]]:
    """A registration that can be used, with warnings about it; of a failed one, the shift to the given centre.

    With a centre in the later CT that the user gave, a failure is a warning.

    Raises:
        FollowUpError: The registration failed, or carries the nodule out of the later CT.
    """
    what, found = "The registration of the scans failed.", "blocks around the nodule that do not overlap"
    if registration is not None:
        if registration.overlap > 0:
            found = (
                f"a correlation of {registration.correlation:.2f} and an overlap of {registration.overlap:.0%} of the "
                f"blocks around the nodule, {registration.rms_difference_hu:.0f} HU of root mean square difference"
            )
        if registration.failed and later_center_mm_lps is not None:
            registration = registration.shifted_to(later_center_mm_lps)
        if not registration.failed or later_center_mm_lps is not None:
            place = registration.carried(registration.center_mm_lps)
            if later.grid.covers(place):
                return registration, _registration_warnings(registration, found)
            what, found = "The nodule's place is outside the later scan.", f"a place of {point_text(place)} mm (LPS)"
    raise FollowUpError(
        what,
        case=later.path,
        found=found,
        expected="two scans of one patient that show the same part of the lung",
        remedy="Check that both scans contain the nodule of one patient; then give its centre in the later scan.",
        arguments=("later_center_mm",),
    )


def _registration_warnings(registration: Registration, found: str) -> list[PredictionWarning]:
    if registration.failed:
        text = f"The registration failed: it found {found}. The nodule's place in the later scan is the given one."
        return [PredictionWarning("registration_failed", text)]
    if not registration.uncertain:
        return []
    text = f"The registration is uncertain: it found {found}, rotated by {registration.rotation_degrees:.0f} degrees. "
    return [PredictionWarning("registration_uncertain", f"{text}Compare the overlays of both scans.")]


def _registration_dict(registration: Registration) -> dict[str, Any]:
    return {
        "rotation": list(registration.rotation),
        "center_mm_lps": list(registration.center_mm_lps),
        "shift_mm": list(registration.shift_mm),
        "displacement_mm": registration.displacement_mm,
        "rotation_degrees": registration.rotation_degrees,
        "metric": "mean_squares",
        "rms_difference_hu": registration.rms_difference_hu if registration.overlap > 0 else None,
        "correlation": registration.correlation,
        "overlap": registration.overlap,
        "failed": registration.failed,
    }


def _change_dict(change: Change) -> dict[str, Any]:
    return {
        "measurement": change.measurement,
        "earlier": change.earlier,
        "later": change.later,
        "absolute": change.absolute,
        "relative_percent": change.relative_percent,
        "limit": change.limit,
        "limit_unit": change.limit_unit,
        "compared": change.compared.value,
        "doubling_days": change.doubling_days,
    }
