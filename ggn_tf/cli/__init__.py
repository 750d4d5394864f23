"""The command line, one module per command: options, one call of the API, text.

TensorFlow and SimpleITK are imported inside a command's body.
"""

import importlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import click

from ggn_tf import __version__
from ggn_tf.cli.options import option_of
from ggn_tf.cli.streams import work_streams
from ggn_tf.errors import GgnError, GgnWarning
from ggn_tf.shown_text import printable

COMMANDS = (
    "phantom",
    "table",
    "check",
    "prepare",
    "fit",
    "crossval",
    "evaluate",
    "study",
    "export",
    "serve",
    "serve-check",
    "predict",
    "follow",
    "listen",
    "runs",
    "profile",
    "doctor",
)


# The commands whose result is what they print, unless files were requested.
_PRINTED = ("check", "serve-check", "predict", "follow", "runs", "doctor", "profile")


class _CommandGroup(click.Group):
    """Imports a command's module when the command is called, and prints the product's errors as one block."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"ggn_tf.cli.{cmd_name.replace('-', '_')}").command
        return command

    def main(self, args: Sequence[str] | None = None, *others: Any, **settings: Any) -> Any:
        # Jupyter's terminals name a backend that other installations lack; nothing is shown on a screen here.
        os.environ["MPLBACKEND"] = "agg"
        with work_streams() as output:
            try:
                return super().main(args, *others, **settings)
            except SystemExit as end:
                output.flush()
                if output.lost is None:
                    raise
                click.echo(f"note: Standard output could not be written: {output.lost.strerror}.", err=True)
                sys.exit(end.code or int(_prints_its_result(sys.argv[1:] if args is None else args)))

    def invoke(self, ctx: click.Context) -> Any:
        former = signal.signal(signal.SIGTERM, _interrupt)
        try:
            with _notes():
                return super().invoke(ctx)
        except (GgnError, OSError, UnicodeEncodeError, MemoryError) as error:
            block = error if isinstance(error, GgnError) else _system_error(error)
            command = None if ctx.invoked_subcommand is None else self.get_command(ctx, ctx.invoked_subcommand)
            click.echo(f"error: {block.block(partial(option_of, command))}", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)
        finally:
            signal.signal(signal.SIGTERM, former)


def _prints_its_result(arguments: Sequence[str]) -> bool:
    """Whether a call has failed if its output is lost; the others have written files."""
    if {"--json", "--help", "-h", "--version"} & set(arguments):
        return True
    files = any(argument.startswith(("-o", "--output")) for argument in arguments)
    return not files and any(argument in _PRINTED for argument in arguments[:1])


@contextmanager
def _notes() -> Iterator[None]:
    """Print the product's own warnings as notes within the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", GgnWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **further: Any) -> None:
            if issubclass(category, GgnWarning):
                click.echo(f"note: {printable(str(message))}", err=True)
            else:
                others(message, category, *place, **further)

        warnings.showwarning = show
        yield


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does: what was begun under a temporary name is deleted."""
    raise KeyboardInterrupt


def _system_error(error: OSError | UnicodeEncodeError | MemoryError) -> GgnError:
    if isinstance(error, MemoryError):
        return GgnError(
            "There is too little memory.",
            found=str(error) or None,
            expected="enough for what the files announce",
            remedy="Close other programs, or use a machine with more memory. Do not use files of unknown origin.",
        )
    if isinstance(error, UnicodeEncodeError):
        return GgnError(
            "The name of a file or folder cannot be used.",
            case=error.object[max(0, error.start - 40) : error.end + 40],
            found="a character that is not text in UTF-8",
            expected="names in UTF-8, which TensorFlow requires",
            remedy="Rename the file or folder, or choose another one.",
        )
    if error.filename is None:
        return GgnError("The operating system reported an error.", found=f"{type(error).__name__}: {error}")
    return GgnError(
        "A file or folder could not be read or written.",
        case=error.filename,
        found=error.strerror or type(error).__name__,
        remedy="Check the path, its permissions and the free space on the disk, then repeat the command.",
    )


@click.group(cls=_CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="ggn-tf")
def main() -> None:
    """Classify pulmonary ground-glass nodules on chest CT, helped by their own 3D segmentation."""
