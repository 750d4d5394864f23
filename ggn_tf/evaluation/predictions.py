"""What a run's models answer on every case of its split: the only part of evaluation that needs the networks."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch, CaseStream
from ggn_tf.dataset.records import CaseRecord, Dataset, open_dataset
from ggn_tf.dataset.splits import Split
from ggn_tf.errors import RunError
from ggn_tf.evaluation.table import PROBABILITY_PREFIX, check_predictions, columns
from ggn_tf.tasks import Task
from ggn_tf.training.metrics import dice_score
from ggn_tf.training.run_folder import RunFolder
from ggn_tf.training.stages import STAGES, Stage


def open_run_dataset(run: RunFolder, moved: Path | None = None) -> Dataset:
    """Open the dataset that a run was trained on.

    Args:
        run: The run.
        moved: Where the dataset lies now; None for the path in `run.json`.

    Raises:
        RunError: There is no dataset, or it is another one.
        DatasetError: The dataset is damaged.
    """
    folder = moved or run.dataset
    if not folder.is_dir():
        raise RunError(
            "The run's dataset is not there.",
            case=run.folder,
            found=f"no folder {folder}",
            expected="the dataset that the run was trained on",
            remedy="Name the folder it lies in now with --dataset.",
        )
    dataset = open_dataset(folder, run.description.protocol.patch)
    if dataset.fingerprint != run.description.dataset_fingerprint:
        raise RunError(
            "The dataset is not the one that the run was trained on.",
            case=folder,
            found=f"fingerprint {dataset.fingerprint}",
            expected=f"fingerprint {run.description.dataset_fingerprint}",
            remedy="Name the run's own dataset with --dataset, or train a run on this one.",
        )
    return dataset


def predict_run(
    run: RunFolder,
    dataset: Dataset,
    split: Split,
    *,
    repeat: int = 1,
    announce: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Ask every finished stage's model about every case of the split.

    Nodules whose label the task leaves out are left out here too, as they were in training.

    Args:
        run: The run.
        dataset: Its dataset.
        split: Its split.
        repeat: Which of several trainings with the same settings this is.
        announce: Told of every stage and set before it is predicted.

    Returns:
        A checked predictions table: stages in the order of training, in each the sets train, validation, test, in each
        the cases in the split's order. The stage `segment` has no probabilities.

    Raises:
        RunError: No stage is finished, or a model cannot be read.
        DatasetError: The dataset does not hold a case, or its patch is damaged.
    """
    asked = run.description
    finished = [stage for stage in STAGES[asked.model] if stage.name in run.finished_stages()]
    if not finished:
        raise RunError(
            "The run has nothing to evaluate.",
            case=run.folder,
            found="no finished stage",
            expected="at least one finished stage",
            remedy="Repeat the run's ggn-tf fit command; it goes on where it stopped.",
        )
    cases = {name: records for name, records in _cases(asked.task, dataset, split).items() if records}
    streams = {
        name: CaseStream(dataset, [case.case_id for case in records], asked.task) for name, records in cases.items()
    }
    parts = []
    for stage in finished:
        answer = _answerer(stage, run.load_model(stage.name))
        for name, records in cases.items():
            announce(f"predicting: stage {stage.name}, {name} set, {len(records)} nodules")
            answers = _gather(answer, streams[name].in_order(asked.protocol.training.batch_size), asked.task)
            whole: dict[str, Any] = {
                "split": split.number,
                "set": name,
                "model": asked.model,
                "stage": stage.name,
                "repeat": repeat,
            }
            parts.append(_identity(records, asked.task).assign(**whole, **answers))
    return check_predictions(pd.concat(parts, ignore_index=True)[columns(asked.task.class_names)])


def describe_run(run: RunFolder, dataset: Dataset) -> dict[str, Any]:
    """What was trained, for `scores.json`: the run's description, its versions and its finished stages.

    Args:
        run: The run.
        dataset: Its dataset; only the folder's name is told, so that a shared report names no home directory.
    """
    asked = run.description.to_dict()
    names = ("task", "model", "split", "seed", "precision", "select_on", "dataset_fingerprint")
    stages = [{key: entry.get(key) for key in ("stage", "epochs", "best_epoch", "ended")} for entry in run.ledger()]
    return {
        **{name: asked[name] for name in names},
        "dataset": dataset.folder.resolve().name,
        "versions": run.versions,
        "stages": stages,
    }


def _cases(task: Task, dataset: Dataset, split: Split) -> dict[str, list[CaseRecord]]:
    sets = {"train": split.train, "validation": split.validation, "test": split.test}
    return {
        name: [case for case in dataset.select(ids) if task.class_of(case.label) is not None]
        for name, ids in sets.items()
    }


def _answerer(stage: Stage, model: keras.Model) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
    """What the stage trained: without the classifier after the stage `segment`."""
    network = stage.network(model)
    volume = tf.TensorSpec(model.inputs[0].shape, tf.float32)

    # One trace for whole and short batches.
    @tf.function(input_signature=[volume, volume])
    def answer(patch: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        return network(patch, mask, training=False)

    return answer


def _gather(
    answer: Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]], batches: Iterable[Batch], task: Task
) -> dict[str, np.ndarray]:
    """Dice [N] and a column [N] a class, batch by batch, so that no set of masks is ever held.

    NaN where the network does not segment, or does not classify.
    """
    dice, chances = [], []
    for batch in batches:
        outputs = answer(batch.patch, batch.mask)
        missing = np.full((len(batch.label), len(task.classes)), np.nan)
        reference = batch.mask.numpy()
        dice.append(dice_score(reference, outputs["mask"].numpy()) if "mask" in outputs else missing[:, 0])
        chances.append(outputs["probabilities"].numpy() if "probabilities" in outputs else missing)
    chance = np.concatenate(chances).astype(np.float64)
    names = [PROBABILITY_PREFIX + name for name in task.class_names]
    return {**{name: chance[:, index] for index, name in enumerate(names)}, "dice": np.concatenate(dice)}


def _identity(records: list[CaseRecord], task: Task) -> pd.DataFrame:
    class_name = {label: name for name, group in zip(task.class_names, task.classes, strict=True) for label in group}
    rows = [(case.case_id, case.patient_id, class_name[case.label]) for case in records]
    return pd.DataFrame(rows, columns=["case", "patient", "label"])
