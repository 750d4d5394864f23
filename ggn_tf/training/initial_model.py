"""The model that a run starts from, and the reuse of another run's stage that equals what the run would train."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence

import keras

from ggn_tf.errors import RunError
from ggn_tf.json_records import to_json
from ggn_tf.models.names import MULTITASK
from ggn_tf.models.systems import BUILDERS
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import JOINT, SEGMENT, STAGES, parts_of


def initial_model(description: RunDescription) -> keras.Model:
    """Build the run's model with the initial weights of its seed."""
    build = BUILDERS[description.model]
    return build(
        len(description.task.classes), description.protocol, precision=description.precision, seed=description.seed
    )


def stage_key(
    description: RunDescription,
    cases: Mapping[str, Sequence[str]],
    segment_cases: Mapping[str, Sequence[str]],
    stage: str,
) -> str:
    """A hash of everything that decides a stage's weights: equal keys, equal bits.

    The U-Net of `segment` never uses a label: tasks share it where it has the same nodules. What only a later stage
    uses does not count: lambda of eq. 4, the later stage's learning rate and length.
    """
    numbers = to_json(description.protocol)
    training = numbers["training"]
    stages = [str(other.name) for other in STAGES[description.model]]
    done = stages[: stages.index(stage) + 1]
    decisive = {
        "model": description.model,
        "seed": description.seed,
        "precision": description.precision,
        "select_on": description.select_on,
        "dataset": description.dataset_fingerprint,
        "start_from": description.start_from and to_json(description.start_from),
        "numbers": {name: numbers[name] for name in ("patch", "unet", "augmentation")},
        "training": {name: training[name] for name in ("batch_size", "l2", "batch_norm_momentum", *done)},
    }
    sets = ("train", description.select_on)
    if SEGMENT.name in done:
        decisive["segment_cases"] = {name: list(segment_cases[name]) for name in sets}
    if done != [SEGMENT.name]:
        decisive["cases"] = {name: list(cases[name]) for name in sets}
        decisive |= {"task": str(description.task), "cnn": numbers["cnn"], "masking": numbers["masking"]}
        decisive["select_by"] = training["select_by"]
    if JOINT.name in done or description.model == MULTITASK:
        decisive |= {name: training[name] for name in ("joint_weight", "joint_trains_unet")}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _graph(description: RunDescription) -> tuple[object, ...]:
    return description.task, description.protocol.masking


def reuse_stage(run: RunFolder, donor: RunFolder, stage: str) -> None:
    """Copy a finished stage into a run instead of training it there.

    Raises:
        RunError: The donor has not finished the stage, or has trained a classifier for another task or masking.
    """
    model = donor.load_model(stage)
    # The graph of the whole model is stored, of which a stage may train a part.
    if _graph(donor.description) != _graph(run.description):
        if stage != SEGMENT.name:
            raise RunError(
                "A run cannot reuse a classifier of another task or masking.",
                case=run.folder,
                found=f"{donor.folder}: task {donor.description.task}, {donor.description.protocol.masking}",
                expected=f"task {run.description.task}, {run.description.protocol.masking}",
                remedy="Train the stage in this run.",
            )
        trained, model = model, initial_model(run.description)
        for name in SEGMENT.trains:
            parts_of(model)[name].set_weights(parts_of(trained)[name].get_weights())
    origin = {"taken_from": os.path.relpath(donor.folder.resolve(), run.folder.resolve())}
    run.finish_stage(model, {**(donor.ledger.entry(stage) or {}), **origin}, donor.ledger.history(stage))
