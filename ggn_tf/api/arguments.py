"""What arguments share: defaults and names that the command line shows too, and callbacks for progress."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, get_args

from ggn_tf.errors import GgnError
from ggn_tf.models.names import RADIOMICS, TRANSFER
from ggn_tf.protocol import SOLID_RANGE_HU
from ggn_tf.runs.stages import STAGES

PrecisionChoice = Literal["auto", "float32", "bfloat16"]
SelectionSet = Literal["validation", "test"]
SegmentationSet = Literal["all", "task"]
DEFAULT_SYSTEMS = (*STAGES, TRANSFER)
SYSTEMS = (*DEFAULT_SYSTEMS, RADIOMICS)
REPLICATES = 2000
MARGIN_MM = 8.0
COVERAGE = 0.9
"""Share of prediction sets that must contain the true class."""
# Nodules in the gallery of a run, and per task of a study: a page of four tasks has some two megabytes of slices.
RUN_GALLERY, STUDY_GALLERY = 24, 12


def check_choices(argument: str, values: Collection[str], allowed: Collection[str]) -> None:
    """Raise GgnError for a value that an argument does not have."""
    unknown = [value for value in values if value not in allowed]
    if unknown:
        raise GgnError(
            f"There is no {argument.replace('_', ' ')} of this name.",
            found=", ".join(map(repr, unknown)),
            expected=" or ".join(allowed),
            remedy="Choose one of these.",
            arguments=(argument,),
        )


def check_training(segment_on: str, select_on: str, precision: str) -> None:
    """Refuse sets and precisions that do not exist; raises GgnError."""
    check_choices("segment_on", [segment_on], get_args(SegmentationSet))
    check_choices("select_on", [select_on], get_args(SelectionSet))
    check_choices("precision", [precision], get_args(PrecisionChoice))


def check_fraction(argument: str, value: float | None) -> None:
    """Raise GgnError for a number that is not above 0 and at most 1; None is none."""
    if value is not None and not 0 < value <= 1:
        raise GgnError(
            f"The {argument.replace('_', ' ')} is not a fraction.",
            found=str(value),
            expected="a number above 0 and at most 1",
            remedy="Write 95 % as 0.95.",
            arguments=(argument,),
        )


def check_coverage(coverage: float) -> None:
    """Raise GgnError for a coverage that is not between 0 and 1."""
    if not 0 < coverage < 1:
        raise GgnError(
            "No prediction set has this coverage.",
            found=str(coverage),
            expected="a number above 0 and below 1",
            remedy="Write 90 % as 0.9.",
            arguments=("coverage",),
        )


def check_solid_hu(solid_hu: float) -> None:
    """Refuse a threshold that divides no nodule; raises GgnError."""
    low, high = SOLID_RANGE_HU
    if not low <= solid_hu <= high:
        raise GgnError(
            "The solid threshold cannot be used.",
            found=f"{solid_hu} HU",
            expected=f"{low:g} to {high:g} HU",
            remedy="Give the threshold in Hounsfield units; published ones are -300 and -160.",
            arguments=("solid_hu",),
        )


@dataclass(frozen=True)
class Progress:
    """How far a step is.

    Attributes:
        step: What is being done, for example `cutting patches`.
        done: Number of finished units, for example cases.
        total: Number of all units; None where a step is not counted.
    """

    step: str
    done: int = 0
    total: int | None = None


OnProgress = Callable[[Progress], None]


def ignore(progress: object) -> None:
    """Show nothing."""
