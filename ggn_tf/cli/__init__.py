"""The command line. A module a command; TensorFlow and SimpleITK are imported inside the command's body."""

import importlib
import signal
import sys
from functools import partial
from types import FrameType
from typing import Any

import click

from ggn_tf import __version__
from ggn_tf.errors import GgnError

COMMANDS = (
    "phantom",
    "check",
    "prepare",
    "fit",
    "evaluate",
    "study",
    "export",
    "serve",
    "serve-check",
    "predict",
    "runs",
    "profile",
    "doctor",
)


class _CommandGroup(click.Group):
    """Imports a command's module when it is asked for, and prints our errors as one block."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"ggn_tf.cli.{cmd_name.replace('-', '_')}").command
        return command

    def _invoked(self, ctx: click.Context) -> click.Command | None:
        return None if ctx.invoked_subcommand is None else self.get_command(ctx, ctx.invoked_subcommand)

    def invoke(self, ctx: click.Context) -> Any:
        former = signal.signal(signal.SIGTERM, _interrupt)
        try:
            return super().invoke(ctx)
        except GgnError as error:
            click.echo(f"error: {error.block(partial(option_of, self._invoked(ctx)))}", err=True)
            sys.exit(1)
        except OSError as error:
            click.echo(f"error: {_as_ours(error).block()}", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)
        finally:
            signal.signal(signal.SIGTERM, former)


def option_of(command: click.Command | None, argument: str) -> str | None:
    """How an argument of the API is given to a command: as an option; None if the command does not have it."""
    options = (param for param in (command.params if command else ()) if isinstance(param, click.Option))
    return next((f"option {option.opts[-1]}" for option in options if option.name == argument), None)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does: what was begun under a temporary name is cleared away."""
    raise KeyboardInterrupt


def _as_ours(error: OSError) -> GgnError:
    return GgnError(
        "The file system refused.",
        case=error.filename,
        found=error.strerror or error,
        expected="a place that can be read or written, with room on the disk",
        remedy="Check the path, its permissions and the free space, and repeat the command.",
    )


@click.group(cls=_CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ggn-tf")
def main() -> None:
    """Classify pulmonary ground-glass nodules on chest CT, helped by their own 3D segmentation."""
