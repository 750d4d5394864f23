"""One training for several runs: a stage of another run, where it is what the run itself would have trained."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence

from ggn_tf.errors import RunError
from ggn_tf.json_records import to_json
from ggn_tf.models.names import MULTITASK
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import JOINT, SEGMENT, STAGES, parts_of
from ggn_tf.training.initial_model import initial_model


def stage_key(asked: RunDescription, cases: Mapping[str, Sequence[str]], stage: str) -> str:
    """A hash of everything that decides a stage's weights: equal keys, equal bits.

    The U-Net of `segment` never sees a label: tasks with the same nodules share it. What only a later stage uses
    (lambda of eq. 4, its learning rate and length) does not count.

    Args:
        asked: The run.
        cases: Case ids by set, from `plan_run`.
        stage: One of the model's stages.
    """
    numbers = to_json(asked.protocol)
    training = numbers["training"]
    stages = [str(other.name) for other in STAGES[asked.model]]
    done = stages[: stages.index(stage) + 1]
    decisive = {
        "model": asked.model,
        "seed": asked.seed,
        "precision": asked.precision,
        "select_on": asked.select_on,
        "dataset": asked.dataset_fingerprint,
        "cases": {name: list(cases[name]) for name in ("train", asked.select_on)},
        "numbers": {name: numbers[name] for name in ("patch", "unet", "augmentation")},
        "training": {name: training[name] for name in ("batch_size", "l2", "batch_norm_momentum", *done)},
    }
    if done != [SEGMENT.name]:
        decisive |= {"task": str(asked.task), "cnn": numbers["cnn"]}
    if JOINT.name in done or asked.model == MULTITASK:
        decisive["joint_weight"] = training["joint_weight"]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def reuse_stage(run: RunFolder, donor: RunFolder, stage: str) -> None:
    """Take a finished stage over instead of training it; the run goes on as if it had trained it itself.

    Args:
        run: Has finished every stage before this one, and the caller holds its lock.
        donor: A run whose `stage_key` is the same.
        stage: Finished in the donor.

    Raises:
        RunError: The donor has not finished the stage, or its task is another where the classifier is trained already.
    """
    model = donor.load_model(stage)
    if donor.description.task != run.description.task:
        if stage != SEGMENT.name:
            raise RunError(
                "A run cannot take over a classifier of another task.",
                case=run.folder,
                found=f"{donor.folder}: task {donor.description.task}",
                expected=f"task {run.description.task}",
                remedy="Train the stage in this run.",
            )
        trained, model = model, initial_model(run.description)
        for name in SEGMENT.trains:
            parts_of(model)[name].set_weights(parts_of(trained)[name].get_weights())
    entry = next(entry for entry in donor.ledger() if entry["stage"] == stage)
    run.write_history(donor.history(stage))
    run.finish_stage(model, {**entry, "taken_from": os.path.relpath(donor.folder.resolve(), run.folder.resolve())})
