"""What a run's models answer on every case of its split: the only part of evaluation that needs the networks."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch, CaseStream
from ggn_tf.dataset.records import CaseRecord, Dataset, open_dataset
from ggn_tf.dataset.splits import Split
from ggn_tf.errors import RunError
from ggn_tf.evaluation.systems import TRANSFER
from ggn_tf.evaluation.table import PROBABILITY_PREFIX, check_predictions, columns
from ggn_tf.tasks import Task
from ggn_tf.training.metrics import dice_score
from ggn_tf.training.run_folder import RunFolder
from ggn_tf.training.stages import CLASSIFY, SEGMENT, STAGES

Answer = Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]
"""From patches and reference masks [N, S, S, S, 1] to `mask` and `probabilities`, or one of them."""


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
    batch_size, sets = asked.protocol.training.batch_size, _Sets(asked.task, dataset, split)
    parts = []
    for stage in finished:
        answer = _answerer(stage.network(run.load_model(stage.name)))
        for name in sets.names:
            announce(f"predicting: stage {stage.name}, {name} set, {sets.count(name)} nodules")
            told: dict[str, Any] = {"split": split.number, "model": asked.model, "stage": stage.name, "repeat": repeat}
            parts.append(sets.answer(name, answer, batch_size).assign(**told))
    return check_predictions(pd.concat(parts, ignore_index=True)[columns(asked.task.class_names)])


def predict_transfer(
    classifier: RunFolder, segmenter: RunFolder, dataset: Dataset, split: Split, *, repeat: int = 1
) -> pd.DataFrame:
    """Ask a classifier that was trained on reference masks about the soft masks of a U-Net (paper's Table 4).

    Args:
        classifier: A finished run of the model `reference`.
        segmenter: A run of the cascade with its first stage finished, on the same split.
        dataset: Their dataset.
        split: Their split.
        repeat: Which of several trainings this is.

    Returns:
        A checked predictions table of the model `transfer`, stage `classify`.

    Raises:
        RunError: A stage is not finished, or a model cannot be read.
    """
    task, batch_size = classifier.description.task, classifier.description.protocol.training.batch_size
    segment, classify = SEGMENT.network(segmenter.load_model(SEGMENT.name)), CLASSIFY.network(classifier.load_model())

    def network(patch: tf.Tensor, mask: tf.Tensor, *, training: bool) -> dict[str, tf.Tensor]:
        found = segment(patch, mask, training=training)["mask"]
        return {"mask": found, **classify(patch, found, training=training)}

    answer, sets = _answerer(network), _Sets(task, dataset, split)
    told: dict[str, Any] = {"split": split.number, "model": TRANSFER, "stage": CLASSIFY.name, "repeat": repeat}
    parts = [sets.answer(name, answer, batch_size).assign(**told) for name in sets.names]
    return check_predictions(pd.concat(parts, ignore_index=True)[columns(task.class_names)])


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


class _Sets:
    """The task's nodules of every set of a split that has any, read once."""

    def __init__(self, task: Task, dataset: Dataset, split: Split) -> None:
        self._task = task
        sets = {"train": split.train, "validation": split.validation, "test": split.test}
        chosen = {
            name: [case for case in dataset.select(ids) if task.class_of(case.label) is not None]
            for name, ids in sets.items()
        }
        self._cases = {name: records for name, records in chosen.items() if records}
        self._streams = {
            name: CaseStream(dataset, [case.case_id for case in records], task) for name, records in self._cases.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._cases)

    def count(self, name: str) -> int:
        return len(self._cases[name])

    def answer(self, name: str, answer: Answer, batch_size: int) -> pd.DataFrame:
        """Rows of a set: who the nodules are, and what the network answers."""
        rows = _identity(self._cases[name], self._task).assign(set=name)
        return rows.assign(**_gather(answer, self._streams[name].in_order(batch_size), self._task))


def _answerer(network: Callable[..., dict[str, tf.Tensor]]) -> Answer:
    """The network as a graph: one trace for all batches of a size."""
    return tf.function(lambda patch, mask: network(patch, mask, training=False), reduce_retracing=True)


def _gather(answer: Answer, batches: Iterable[Batch], task: Task) -> dict[str, np.ndarray]:
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
