"""The model that a run starts from."""

import keras

from ggn_tf.models.baselines import build_raw, build_reference
from ggn_tf.models.builder import Builder
from ggn_tf.models.cascade import build_cascade
from ggn_tf.models.multitask import build_multitask
from ggn_tf.models.names import CASCADE, MULTITASK, RAW, REFERENCE
from ggn_tf.runs.run_description import RunDescription

BUILDERS: dict[str, Builder] = {
    RAW: build_raw,
    REFERENCE: build_reference,
    CASCADE: build_cascade,
    MULTITASK: build_multitask,
}


def initial_model(description: RunDescription) -> keras.Model:
    """Build the run's model with the initial weights of its seed."""
    build = BUILDERS[description.model]
    return build(
        len(description.task.classes), description.protocol, precision=description.precision, seed=description.seed
    )
