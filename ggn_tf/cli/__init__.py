"""The command line. A module a command; TensorFlow and SimpleITK are imported inside the command's body."""

import importlib
import sys
from typing import Any

import click

from ggn_tf import __version__
from ggn_tf.errors import GgnError

COMMANDS = ("phantom", "check", "prepare", "fit", "evaluate", "export", "serve", "predict")


class _CommandGroup(click.Group):
    """Imports a command's module when it is asked for, and prints our errors as one block."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"ggn_tf.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GgnError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)


@click.group(cls=_CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ggn-tf")
def main() -> None:
    """Classify pulmonary ground-glass nodules on chest CT, helped by their own 3D segmentation."""
