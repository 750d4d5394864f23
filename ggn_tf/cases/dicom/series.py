"""The choice of a CT series in a folder that contains several."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ggn_tf.cases.dicom.slices import Slice
from ggn_tf.cases.dicom.stack import Problem, Stack, stack_slices
from ggn_tf.cases.geometry.axes import AxisOrder
from ggn_tf.cases.geometry.grid import Grid, Vector, point_text
from ggn_tf.errors import VolumeError

_MOST_LISTED = 12


@dataclass(frozen=True)
class MaskReference:
    """What a mask's header states about its CT: the series that it references, or its grid."""

    series: str | None = None
    grid: Grid | None = None


@dataclass(frozen=True)
class SeriesQuery:
    """What is known about the CT series to choose.

    Attributes:
        series: Its SeriesInstanceUID; decides alone.
        center_mm_lps: A point that the series must cover.
        mask_reference: Reads the mask's header; called only if it is needed.
    """

    series: str | None = None
    center_mm_lps: Vector | None = None
    mask_reference: Callable[[], MaskReference] | None = None


ANY = SeriesQuery()

_Candidate = tuple[Stack, Grid]


def choose_series(
    folder: Path, slices: Sequence[Slice], query: SeriesQuery = ANY, *, repair: bool = False
) -> tuple[Stack, Grid]:
    """Choose a CT series among the slices of a folder.

    In this order: the series with the given UID; the only one; the only one that is a volume; the only volume that the
    mask references, that has the mask's grid, or that covers the given centre.

    Args:
        folder: Named in errors.
        slices: Of any number of series and modalities; localizers and images without a position are ignored.
        query: What is known about the series.
        repair: Whether slices that can be repaired count as a volume.

    Returns:
        Its slices, and their grid.

    Raises:
        VolumeError: There is no CT series, none is a volume, or several match; all of them are listed.
    """
    series = _by_series(_ct_slices(folder, slices))
    if query.series:
        series = {uid: series[uid] for uid in _only_named(folder, series, query.series)}
    stacks = [stack_slices(group) for group in series.values()]
    volumes = [(stack, stack.grid) for stack in stacks if stack.grid is not None and not unrepaired(stack, repair)]
    if not volumes:
        if len(stacks) == 1:
            raise _no_volume(folder, unrepaired(stacks[0], repair))
        raise VolumeError(
            f"None of the folder's {len(stacks)} CT series is a volume.",
            case=folder,
            found="; ".join(_listed(stacks)),
            expected="a series of parallel, aligned slices with uniform spacing",
            remedy="Export the series that the nodule was seen on again, with all of its slices.",
        )
    fitting = volumes if len(volumes) == 1 else _fitting(volumes, query)
    if len(fitting) != 1:
        raise _several(folder, [stack for stack, _ in fitting or volumes])
    return fitting[0]


def unrepaired(stack: Stack, repair: bool) -> list[Problem]:
    """The problems of slices that prevent a volume."""
    return [problem for problem in stack.problems if not (repair and problem.repairable)]


def _no_volume(folder: Path, problems: Sequence[Problem]) -> VolumeError:
    # If something cannot be repaired, repairing the rest does not help.
    shown = [problem for problem in problems if not problem.repairable] or problems
    return VolumeError(
        "The DICOM slices do not make a volume.",
        case=folder,
        found="; ".join(problem.found for problem in problems),
        expected="; ".join(problem.expected for problem in problems),
        remedy=" ".join(dict.fromkeys(problem.remedy for problem in shown)),
        arguments=tuple(dict.fromkeys(name for problem in shown for name in problem.arguments)),
    )


def _ct_slices(folder: Path, slices: Sequence[Slice]) -> list[Slice]:
    # Dose sheets and screen shots have modality CT, too, but no position.
    positioned = {item.series for item in slices if item.positioned}
    kept = [item for item in slices if item.modality == "CT" and not item.localizer and item.series in positioned]
    if not kept:
        counts = Counter(
            "localizer" if item.localizer else item.modality + ("" if item.positioned else ", without a position")
            for item in slices
        )
        raise VolumeError(
            "The folder contains no CT series.",
            case=folder,
            found=", ".join(f"{count} of modality {kind}" for kind, count in sorted(counts.items())),
            expected="modality CT: the values are read as Hounsfield units",
            remedy="Name the folder of a CT series.",
        )
    return kept


def _by_series(slices: Sequence[Slice]) -> dict[str, list[Slice]]:
    series: defaultdict[str, list[Slice]] = defaultdict(list)
    for item in slices:
        series[item.series].append(item)
    return dict(sorted(series.items()))


def _only_named(folder: Path, series: dict[str, list[Slice]], uid: str) -> Iterator[str]:
    if uid not in series:
        raise VolumeError(
            "The folder does not contain the requested CT series.",
            case=folder,
            found="; ".join(_listed(map(stack_slices, series.values()))),
            expected=f"series {uid}",
            remedy="Give the SeriesInstanceUID of one of these, in a case table in the column series.",
            arguments=("series",),
        )
    yield uid


def _fitting(volumes: list[_Candidate], query: SeriesQuery) -> list[_Candidate]:
    reference = query.mask_reference() if query.mask_reference else MaskReference()
    if reference.series:
        volumes = [(stack, grid) for stack, grid in volumes if stack.slices[0].series == reference.series] or volumes
    elif reference.grid is not None:
        wanted = reference.grid
        matching = [
            (stack, grid) for stack, grid in volumes if grid.block_of(AxisOrder.of(wanted, grid.direction).grid)
        ]
        volumes = matching or volumes
    if len(volumes) > 1 and query.center_mm_lps is not None:
        return [(stack, grid) for stack, grid in volumes if grid.covers(query.center_mm_lps)]
    return volumes


def _several(folder: Path, stacks: list[Stack]) -> VolumeError:
    return VolumeError(
        f"The folder contains {len(stacks)} CT series that match.",
        case=folder,
        found="; ".join(_listed(stacks)),
        expected="one series, or a mask or centre that is in only one of them",
        remedy="Give the SeriesInstanceUID of the one that shows the nodule, in a case table in the column series.",
        arguments=("series",),
    )


def _listed(stacks: Iterable[Stack]) -> Iterator[str]:
    stacks = list(stacks)
    for stack in stacks[:_MOST_LISTED]:
        first = stack.slices[0]
        text = f"{len(stack.slices)} slices of {first.series} ({first.description or 'no description'})"
        if stack.grid is not None:
            spacing = " x ".join(f"{step:.4g}" for step in stack.grid.spacing_mm_xyz)
            text += f", {spacing} mm from {point_text(stack.grid.origin_mm_lps)}"
        yield text + "".join(f", {problem.found}" for problem in stack.problems[:1])
    if len(stacks) > _MOST_LISTED:
        yield f"and {len(stacks) - _MOST_LISTED} more"
