"""Option types, and options that several commands share."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, get_args

import click

from ggn_tf.api.arguments import COVERAGE, PrecisionChoice, SegmentationSet, SelectionSet
from ggn_tf.errors import GgnError, with_arguments
from ggn_tf.models.names import base_model
from ggn_tf.pacs.archive import CALLING_AET
from ggn_tf.protocol import PROTOCOLS, SOLID_HU, SOLID_RANGE_HU

PATH = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
AT_LEAST_0, AT_LEAST_1 = click.IntRange(min=0), click.IntRange(min=1)


class FiniteRange(click.FloatRange):
    """A float in a range; click's own accepts NaN, which compares false with every bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse, and reject what is not finite."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number", param, ctx)
        return number


class CommaList(click.ParamType):
    """Positive numbers, or known names, with commas between them.

    Args:
        known: The names that exist, of `str`.
        example: A valid value, which has as many numbers as there must be; None for any number.
        zero: Whether 0 is allowed.
    """

    name = "a,b,..."

    def __init__(
        self,
        kind: type[int] | type[float] | type[str],
        known: tuple[str, ...] = (),
        example: str | None = None,
        *,
        zero: bool = False,
    ) -> None:
        self._kind, self._known, self._example, self._zero = kind, known, example, zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Parse the parts."""
        if isinstance(value, tuple):
            return value
        try:
            parts = tuple(self._kind(part.strip()) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not {self._kind.__name__} values with commas between them", param, ctx)
        for part in parts:
            if isinstance(part, str) and base_model(part) not in self._known:
                self.fail(f"{part!r} is not one of {', '.join(self._known)}", param, ctx)
            if not isinstance(part, str) and not (0 < part < math.inf or (self._zero and part == 0)):
                self.fail(f"{part} is not a positive number{' or 0' if self._zero else ''}", param, ctx)
        if self._example is not None and len(parts) != (count := self._example.count(",") + 1):
            self.fail(f"{value!r} is not {count} numbers with commas between them, as {self._example} is", param, ctx)
        return parts


class NumbersOrFile(click.ParamType):
    """Positive whole numbers with commas between them, or the path of a file with a suffix."""

    name = "a,b,...|FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...] | Path:
        """Parse numbers, or take the path."""
        if isinstance(value, tuple | Path):
            return value
        if re.search(r"\.[A-Za-z]\w*$", value):
            return Path(FILE.convert(value, param, ctx))
        return CommaList(int).convert(value, param, ctx)


class Amounts(click.ParamType):
    """Names with a positive number each, with commas or, as for `dask worker --resources`, spaces between them."""

    name = "name=amount,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        """Parse the parts."""
        if isinstance(value, dict):
            return value
        amounts = {}
        for part in value.replace(",", " ").split():
            name, _, amount = part.partition("=")
            if not name:
                self.fail(f"{part!r} has no name", param, ctx)
            amounts[name] = FiniteRange(0, min_open=True).convert(amount, param, ctx)
        return amounts


def text_of(values: Iterable[object]) -> str:
    """Values as they are given on the command line, for help and defaults."""
    return ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def option_of(command: click.Command | None, argument: str) -> str | None:
    """How an argument of the API is given to a command: as an option; None if the command does not have it."""
    options = (param for param in (command.params if command else ()) if isinstance(param, click.Option))
    return next((f"option {option.opts[-1]}" for option in options if option.name == argument), None)


def error_text(error: GgnError) -> str:
    """An error's block with the options of the command that runs."""
    return error.block(_option_here)


def error_parts(error: GgnError) -> dict[str, str | None]:
    """An error's texts by name, with the options of the command that runs."""
    return error.parts(_option_here)


def with_options(text: str, arguments: Sequence[str]) -> str:
    """A warning's text with the options of the command that runs."""
    return with_arguments(text, arguments, _option_here) or ""


def _option_here(argument: str) -> str | None:
    return option_of(click.get_current_context().command, argument)


def together(*options: Decorator) -> Decorator:
    """One decorator for several options, in this order."""
    return lambda command: reduce(lambda inner, option: option(inner), reversed(options), command)


label_column_option = click.option(
    "--label-column", default="label", help="Column of the table that contains the labels."
)
jobs_option = click.option("--jobs", type=AT_LEAST_1, help="Number of processes.  [default: one per processor]")
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else there."
)
shared_option = click.option(
    "--shared",
    is_flag=True,
    help="Let the umask decide who may enter the new folder; by default only its owner may, because it contains "
    "patient data.",
)
proxy_option = click.option(
    "--proxy",
    metavar="HOST:PORT",
    help="HTTP proxy to the model server. Proxies that the environment names are not used.",
)


workers_options = together(
    click.option("--jobs", type=AT_LEAST_1, help="Number of trainings that run at a time.  [default: 1]"),
    click.option(
        "--cluster",
        metavar="ADDRESS|local:N",
        help="Dask cluster that does the trainings, by the address of its scheduler, for example tcp://HOST:8786; or a "
        "cluster with N workers on this machine.  [default: processes of this machine]",
    ),
    click.option(
        "--resources",
        type=Amounts(),
        help="What each training takes of its worker in the cluster, for example GPU=1, by the names given to dask "
        "worker --resources.",
    ),
)

export_options = together(
    click.option("--export", type=PATH, help="Model folder or version directory that predicts, without a server."),
    click.option(
        "--trust",
        is_flag=True,
        help="Also use an --export without checksums, or whose graph may use files or the network. A model is a "
        "program.",
    ),
)

tls_options = together(
    click.option(
        "--tls-ca", type=FILE, help="PEM file with the authorities whose servers are trusted; encrypts the connection."
    ),
    click.option("--tls-cert", type=FILE, help="PEM file with this client's certificate, if the server asks for one."),
    click.option("--tls-key", type=FILE, help="PEM file with the key of --tls-cert, without a password."),
)

pacs_file_options = together(
    click.option(
        "--pacs-credentials",
        type=FILE,
        help='JSON file instead of the variables, which only its owner may read: {"token": ...} or {"user": ..., '
        '"password": ...}.',
    ),
    click.option(
        "--pacs-ca",
        type=FILE,
        help="PEM file with the authorities whose archives are trusted.  [default: Mozilla's; of dicom-tls:// the "
        "system's]",
    ),
    click.option("--pacs-cert", type=FILE, help="PEM file with this client's certificate for the archive."),
    click.option("--pacs-key", type=FILE, help="PEM file with the key of --pacs-cert, without a password."),
)

pacs_options = together(
    click.option(
        "--pacs",
        metavar="URL",
        help="Archive that has the CT: https://HOST/PATH of DICOMweb, or dicom://AET@HOST:PORT (dicom-tls:// with "
        "TLS). For DICOMweb, a token is read from the variable GGN_TF_PACS_TOKEN, a user from GGN_TF_PACS_USER and "
        "GGN_TF_PACS_PASSWORD.",
    ),
    click.option("--calling-aet", help=f"AE title of this client, for a --pacs dicom://.  [default: {CALLING_AET}]"),
    click.option(
        "--move-port",
        type=click.IntRange(1, 65535),
        help="Port of this machine at which a --pacs dicom:// delivers by C-MOVE; without it, C-GET is used.",
    ),
    click.option("--study", help="StudyInstanceUID of the CT in the --pacs; needed where --series is not given."),
    click.option("--send", is_flag=True, help="Store the DICOM SEG and SR in the --pacs."),
    pacs_file_options,
)

own_dataset_option = click.option(
    "--own-dataset", type=PATH, help="Folder of the run's own dataset, where it was moved since the training."
)
folds_from_option = click.option(
    "--folds-from",
    type=FILE,
    metavar="FILE",
    help="File with your own folds, as nnU-Net's splits_final.json: a list of objects with lists train and val of "
    "nodule or patient ids, where val is the fold's test set.  [default: folds are drawn]",
)
segment_on_option = click.option(
    "--segment-on",
    type=click.Choice(get_args(SegmentationSet)),
    default="all",
    help="Nodules on which the stage segment trains: all of the training set, whatever their label, or the task's.",
)
select_on_option = click.option(
    "--select-on",
    type=click.Choice(get_args(SelectionSet)),
    default="validation",
    help="Set whose score selects the weights; test is the paper's way, and its scores are optimistic.",
)
protocol_option = click.option(
    "--protocol",
    type=click.Choice(tuple(PROTOCOLS)),
    default="paper",
    help="Numbers of the training; options for single numbers replace them. quick is a tenth of the paper's epochs at "
    "three to ten times the learning rate; robust shifts centres, selects by AUC and has up to 70 epochs.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(get_args(PrecisionChoice)),
    default="auto",
    help="Arithmetic of the convolutions; auto takes bfloat16 where the hardware is faster with it.",
)


sensitivity_option = click.option(
    "--sensitivity",
    type=FiniteRange(0, 1, min_open=True),
    help="Least sensitivity, on the validation set, of an operating point at which sensitivity, specificity, PPV and "
    "NPV are reported as well; for two classes.",
)
coverage_option = click.option(
    "--coverage",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="Share of prediction sets that must contain the true class; the validation set determines their thresholds."
    f"  [default: {COVERAGE:g}]",
)
solid_option = click.option(
    "--solid-hu",
    type=FiniteRange(*SOLID_RANGE_HU),
    default=SOLID_HU,
    help="Voxels above it are solid, in the measurements. HU; published thresholds are -300 and -160.",
)
by_option = click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Column of the case table by whose values the nodules are grouped, for example sex; or a measurement, for "
    "example mass_mg, by whose thirds they are. May be repeated.",
)


table_options = together(
    label_column_option,
    click.option(
        "--distinct-ids",
        is_flag=True,
        help="Accept patient ids that differ only in zeros, case, a trailing .0 or Unicode form, and patients who "
        "share a CT, as different patients.",
    ),
    click.option(
        "--merge-labels",
        is_flag=True,
        help="Make labels that differ only in spelling, such as 4 and 4.0 or MIA and mia, one label.",
    ),
)

repair_options = together(
    click.option(
        "--repair",
        is_flag=True,
        help="Resample series with a gantry tilt or non-uniform slice spacing onto a regular grid, instead of "
        "rejecting them.",
    ),
    click.option(
        "--align-masks",
        is_flag=True,
        help="Resample masks on another grid of the same scan onto the CT's grid, instead of rejecting them.",
    ),
)
