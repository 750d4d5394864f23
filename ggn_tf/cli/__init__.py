"""The command line, one module per command: options, one call of the API, text.

TensorFlow and SimpleITK are imported inside a command's body.
"""

import importlib
import signal
import sys
from functools import partial
from types import FrameType
from typing import Any

import click

from ggn_tf import __version__
from ggn_tf.cli.options import option_of
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
    """Imports a command's module when the command is called, and prints the product's errors as one block."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"ggn_tf.cli.{cmd_name.replace('-', '_')}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        former = signal.signal(signal.SIGTERM, _interrupt)
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of a pipe has left, as `head` does: click ends silently.
            raise
        except (GgnError, OSError) as error:
            block = error if isinstance(error, GgnError) else _system_error(error)
            command = None if ctx.invoked_subcommand is None else self.get_command(ctx, ctx.invoked_subcommand)
            click.echo(f"error: {block.block(partial(option_of, command))}", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)
        finally:
            signal.signal(signal.SIGTERM, former)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does: what was begun under a temporary name is deleted."""
    raise KeyboardInterrupt


def _system_error(error: OSError) -> GgnError:
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
