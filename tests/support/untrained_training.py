"""In place of a training of a study: stages that are not reused are finished with random weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import Split
from ggn_tf.runs.lock import lock_run
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.training.initial_model import initial_model
from ggn_tf.training.trainer import Plan


def finish_untrained(
    folder: Path,
    dataset: Dataset,
    plan: Plan,
    *_: object,
    begin: Callable[[RunFolder], object] = lambda run: None,
    own_split: Split | None = None,
    **__: object,
) -> RunFolder:
    """What `train_run` does, without the training. No two stages and runs have the same weights."""
    with lock_run(folder):
        run = RunFolder.create(folder, plan.description, dataset.folder, {}, "")
        if own_split is not None:
            run.keep_split(own_split)
        begin(run)
        for stage in (stage.name for stage in plan.stages if not run.is_complete(stage.name)):
            model = initial_model(plan.description)
            rng = np.random.default_rng(list(f"{folder.name} {stage}".encode()))
            model.set_weights([weight * rng.uniform(0.8, 1.25, weight.shape) for weight in model.get_weights()])
            run.finish_stage(model, {"stage": stage, "epochs": 1, "best_epoch": 1})
    return run
