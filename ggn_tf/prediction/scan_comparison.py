"""Whether two scans can be compared: their patients, days and acquisitions, from their headers."""

from collections.abc import Iterator
from dataclasses import dataclass

from ggn_tf.cases.scan_facts import DATES, ScanFacts
from ggn_tf.errors import FollowUpError
from ggn_tf.prediction.patch_warnings import PredictionWarning

# Headers round what is equal.
_SAME = 0.05


@dataclass(frozen=True)
class Interval:
    """The time from the earlier scan to the later one.

    Attributes:
        days: At least 1; None where it is not known, or no day passed.
        source: The attribute of both headers that it is from, or `given`; None where it is not known.
    """

    days: int | None
    source: str | None


def interval_of(
    earlier: ScanFacts, later: ScanFacts, days: int | None = None
) -> tuple[Interval, list[PredictionWarning]]:
    """The days between two scans, and warnings about them.

    The dates are of the first attribute that both headers have: AcquisitionDate, SeriesDate, StudyDate.

    `days`, if they are given, have precedence.

    Raises:
        FollowUpError: The later scan is of a day before the earlier one, and no days were given.
    """
    source = next((name for name in DATES if name in earlier.dates and name in later.dates), None)
    found = None if source is None else (later.dates[source] - earlier.dates[source]).days
    if days is not None:
        differ = found is not None and found != days
        text = f"{days} days were given, and the headers' {source} are {found} days apart; the given ones were used."
        return Interval(days, "given"), [PredictionWarning("days_differ", text)] if differ else []
    if found is None:
        return Interval(None, None), [
            PredictionWarning(
                "no_dates",
                "The headers do not contain a date of both scans: without the days between them there are no doubling "
                "times.",
                ("days",),
            )
        ]
    if found < 0:
        raise FollowUpError(
            "The later scan is of a day before the earlier one.",
            found=f"{source} {-found} days before that of the earlier scan",
            expected="a later scan of a later day",
            remedy="Exchange the scans. If the dates in the headers are wrong, give the days between the scans.",
            arguments=("earlier", "later", "days"),
        )
    if found == 0:
        text = f"Both scans have the same {source}: without days between them there are no doubling times."
        return Interval(None, source), [PredictionWarning("same_date", text, ("days",))]
    return Interval(found, source), []


def patient_warnings(earlier: ScanFacts, later: ScanFacts, *, same_patient: bool = False) -> list[PredictionWarning]:
    """Warnings about the patient.

    Raises:
        FollowUpError: The headers name different patients, and the user does not state that it is one.
    """
    attributes = {
        "PatientID": (earlier.patient_id, later.patient_id),
        "PatientSex": (earlier.sex, later.sex),
        "PatientBirthDate": (earlier.birth_date, later.birth_date),
    }
    known = {name: pair for name, pair in attributes.items() if all(pair)}
    # Without the values, which name the patient.
    different = ", ".join(name for name, (one, other) in known.items() if one != other)
    if different and not same_patient:
        raise FollowUpError(
            "The scans are of different patients.",
            found=f"different values of {different}",
            expected="two scans of one patient",
            remedy="Name two scans of one patient. If it is one patient under two ids, say so.",
            arguments=("earlier", "later", "same_patient"),
        )
    if different:
        text = f"The headers name different patients, by {different}; it was stated that it is one patient."
        return [PredictionWarning("different_patients", text)]
    if not {"PatientID", "PatientBirthDate"} & known.keys():
        text = "The headers do not show whether both scans are of one patient."
        return [PredictionWarning("patient_unknown", text)]
    return []


def acquisition_warnings(earlier: ScanFacts, later: ScanFacts) -> Iterator[PredictionWarning]:
    """Warnings about what makes the measurements of two scans less comparable."""
    unknown = []
    thickness = (earlier.slice_thickness_mm, later.slice_thickness_mm)
    spacing = (earlier.slice_spacing_mm, later.slice_spacing_mm)
    for code, name, unit, (one, other) in (
        ("different_slice_thickness", "slice thickness", " mm", thickness),
        ("different_slice_spacing", "distance of the slices", " mm", spacing),
        ("different_tube_voltage", "tube voltage", " kV", (earlier.tube_voltage_kv, later.tube_voltage_kv)),
    ):
        if one is None or other is None:
            unknown.append(name)
        elif abs(one - other) > _SAME * max(one, other):
            yield _different(code, name, f"{one:.3g}{unit}", f"{other:.3g}{unit}")
    if not (earlier.kernel and later.kernel):
        unknown.append("convolution kernel")
    elif earlier.kernel.casefold() != later.kernel.casefold():
        yield _different("different_kernel", "convolution kernel", earlier.kernel, later.kernel)
    if earlier.contrast_agent is None or later.contrast_agent is None:
        unknown.append("contrast agent")
    elif earlier.contrast_agent != later.contrast_agent:
        agents = ("with" if agent else "without" for agent in (earlier.contrast_agent, later.contrast_agent))
        yield _different("different_contrast_agent", "contrast agent", *agents)
    frames = earlier.frame_of_reference, later.frame_of_reference
    if not all(frames):
        unknown.append("frame of reference")
    elif frames[0] != frames[1]:
        text = (
            "The scans have different frames of reference, as those of different examinations do: the nodule's place "
        )
        yield PredictionWarning("different_frame", f"{text}in the later scan is from the registration alone.")
    if unknown:
        text = f"The headers do not show whether these are the same in both scans: {', '.join(unknown)}."
        yield PredictionWarning("acquisition_unknown", text)


def _different(code: str, name: str, earlier: str, later: str) -> PredictionWarning:
    text = f"The scans differ in {name}: {earlier} in the earlier, {later} in the later one. Such a difference changes "
    return PredictionWarning(code, f"{text}measurements; the limits apply to scans that were made alike.")
