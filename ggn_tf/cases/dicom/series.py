"""Which of a folder's CT series is meant."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ggn_tf.cases.dicom.slices import Slice
from ggn_tf.cases.dicom.stack import Problem, Stack, stack_slices
from ggn_tf.cases.geometry.grid import Grid, Vector, point_text
from ggn_tf.errors import VolumeError

_MOST_LISTED = 12


@dataclass(frozen=True)
class MaskReference:
    """What a mask tells about its CT: the series that it names, or the grid on which it lies."""

    series: str | None = None
    grid: Grid | None = None


@dataclass(frozen=True)
class SeriesQuery:
    """What tells which CT series is meant where a folder holds several.

    Attributes:
        series: Its SeriesInstanceUID; decides alone.
        center_mm_lps: A point that it must hold.
        place_of_mask: Asked only where it matters, as it reads the mask's header.
    """

    series: str | None = None
    center_mm_lps: Vector | None = None
    place_of_mask: Callable[[], MaskReference] | None = None


ANY = SeriesQuery()

_Placed = tuple[Stack, Grid]


def choose_series(
    folder: Path, slices: Sequence[Slice], wanted: SeriesQuery = ANY, *, repair: bool = False
) -> tuple[Stack, Grid]:
    """Find the CT series that is meant among the slices of a folder.

    In this order: the one whose UID is given; the only one; the only one that is a volume; the only one of these that
    the mask names, that shares the mask's grid, or that holds the given centre.

    Args:
        folder: Named in errors.
        slices: Of any number of series and modalities; localizers and images without a position are left aside.
        wanted: What is known about the series.
        repair: Whether slices that can be put in their places count as a volume.

    Returns:
        Its slices, and the grid on which they lie.

    Raises:
        VolumeError: No CT series, none that is a volume, or several that may be meant; all of them are listed.
    """
    series = _by_series(_ct_slices(folder, slices))
    if wanted.series:
        series = {uid: series[uid] for uid in _only_named(folder, series, wanted.series)}
    stacks = [stack_slices(group) for group in series.values()]
    volumes = [(stack, stack.grid) for stack in stacks if stack.grid is not None and not unrepaired(stack, repair)]
    if not volumes:
        if len(stacks) == 1:
            raise _no_volume(folder, unrepaired(stacks[0], repair))
        raise VolumeError(
            f"None of the folder's {len(stacks)} CT series is a volume.",
            case=folder,
            found="; ".join(_listed(stacks)),
            expected="a series of slices that stand straight above one another at even distances",
            remedy="Export the series that the nodule was seen on again, with all of its slices.",
        )
    fitting = volumes if len(volumes) == 1 else _fitting(volumes, wanted)
    if len(fitting) != 1:
        raise _several(folder, [stack for stack, _ in fitting or volumes])
    return fitting[0]


def unrepaired(stack: Stack, repair: bool) -> list[Problem]:
    """The problems of slices that stand in the way."""
    return [problem for problem in stack.problems if not (repair and problem.repairable)]


def _no_volume(folder: Path, problems: Sequence[Problem]) -> VolumeError:
    # Where something cannot be repaired, --repair would not help.
    fatal = [problem.remedy for problem in problems if not problem.repairable]
    return VolumeError(
        "The DICOM slices do not make a volume.",
        case=folder,
        found="; ".join(problem.found for problem in problems),
        expected="; ".join(problem.expected for problem in problems),
        remedy=" ".join(dict.fromkeys(fatal or [problem.remedy for problem in problems])),
    )


def _ct_slices(folder: Path, slices: Sequence[Slice]) -> list[Slice]:
    # Dose sheets and screen shots call themselves CT, too; what tells them apart is that they lie nowhere.
    placed = {item.series for item in slices if item.positioned}
    kept = [item for item in slices if item.modality == "CT" and not item.localizer and item.series in placed]
    if not kept:
        counts = Counter(
            "localizer" if item.localizer else item.modality + ("" if item.positioned else ", without a position")
            for item in slices
        )
        raise VolumeError(
            "The folder holds no CT series.",
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
            "The folder does not hold the CT series that is asked for.",
            case=folder,
            found="; ".join(_listed(map(stack_slices, series.values()))),
            expected=f"series {uid}",
            remedy="Give the SeriesInstanceUID of one of these: in the table's column series, or with --series.",
        )
    yield uid


def _fitting(volumes: list[_Placed], wanted: SeriesQuery) -> list[_Placed]:
    place = wanted.place_of_mask() if wanted.place_of_mask else MaskReference()
    if place.series:
        volumes = [(stack, grid) for stack, grid in volumes if stack.slices[0].series == place.series] or volumes
    elif place.grid is not None:
        volumes = [(stack, grid) for stack, grid in volumes if holds_grid(grid, place.grid)] or volumes
    if len(volumes) > 1 and wanted.center_mm_lps is not None:
        return [(stack, grid) for stack, grid in volumes if grid.covers(wanted.center_mm_lps)]
    return volumes


def holds_grid(ct_grid: Grid, grid: Grid) -> bool:
    """Whether a grid is the CT's own, or a block of its voxels."""
    return ct_grid.block_of(grid) is not None


def _several(folder: Path, stacks: list[Stack]) -> VolumeError:
    return VolumeError(
        f"The folder holds {len(stacks)} CT series that may be meant.",
        case=folder,
        found="; ".join(_listed(stacks)),
        expected="one series, or a mask or centre that lies in one of them alone",
        remedy="Give the SeriesInstanceUID of the one that the nodule was seen on: in the table's column series, or "
        "with --series.",
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
