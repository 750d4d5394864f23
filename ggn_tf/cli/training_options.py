"""Options that `fit` and `study` share."""

import click

from ggn_tf.runs.stages import STAGES

MODELS = tuple(STAGES)
"""The systems that `fit` trains (paper Fig. 3)."""

select_on_option = click.option(
    "--select-on",
    type=click.Choice(["validation", "test"]),
    default="validation",
    show_default=True,
    help="The set that selects the weights; test is the paper's way, and optimistic.",
)
precision_option = click.option(
    "--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto", show_default=True
)
