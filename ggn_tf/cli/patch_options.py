"""Cutting patches: what may be put right, and a case table's with a progress bar, for every command that reads CTs."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from ggn_tf.machine import processor_count

if TYPE_CHECKING:
    from ggn_tf.cases.dicom.repair import RepairPolicy
    from ggn_tf.cases.patches import Patch
    from ggn_tf.cases.table import Case
    from ggn_tf.errors import GgnError
    from ggn_tf.protocol import PatchProtocol


def repair_options(command: "Callable[..., Any]") -> "Callable[..., Any]":
    """Give a command the arguments `repair` and `align_masks`, of which it makes an `RepairPolicy`."""
    repair = click.option(
        "--repair",
        is_flag=True,
        help="Shift the slices of a tilted gantry to their places, and interpolate between slices at uneven distances, "
        "instead of refusing them.",
    )
    align_masks = click.option(
        "--align-masks",
        is_flag=True,
        help="Put masks that lie on another grid of the same scan onto the CT's, instead of refusing them.",
    )
    return repair(align_masks(command))


def cut_cases(
    cases: "Sequence[Case]",
    protocol: "PatchProtocol",
    jobs: int | None,
    repair_policy: "RepairPolicy | None" = None,
    *,
    radiomics: bool = False,
) -> "Generator[tuple[Case, Patch | GgnError], None, None]":
    """As `prepare_cases`, drawing a bar on stderr; None for `jobs` takes every processor."""
    from rich.console import Console
    from rich.progress import track

    from ggn_tf.cases.dicom.repair import STRICT
    from ggn_tf.dataset.preparation import prepare_cases

    jobs = min(jobs or processor_count(), len(cases))
    with closing(prepare_cases(cases, protocol, jobs, repair_policy or STRICT, radiomics=radiomics)) as prepared:
        yield from track(prepared, "Cutting patches", len(cases), console=Console(stderr=True), transient=True)
