"""The predictions of a run's models for every case of its split."""

from collections.abc import Callable

import pandas as pd
import tensorflow as tf

from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import Split
from ggn_tf.errors import RunError
from ggn_tf.evaluation.network_predictions import CasePredictor
from ggn_tf.evaluation.statistics.paper_systems import TRANSFER
from ggn_tf.evaluation.statistics.predictions_table import check_predictions, columns
from ggn_tf.evaluation.statistics.run_scores import TrainedRun, TrainedStage
from ggn_tf.json_records import to_json
from ggn_tf.protocol import SETS
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import CLASSIFY, SEGMENT, STAGES
from ggn_tf.tasks import Task


def predict_run(
    run: RunFolder,
    dataset: Dataset,
    split: Split,
    *,
    repeat: int = 1,
    announce: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Predict every case of the split with every finished stage's model.

    Nodules whose label is in no class of the task are left out, as in training.

    Args:
        run: The run.
        dataset: Its dataset.
        split: Its split.
        repeat: Number of this training among those with the same settings.
        announce: Called with a line of text before every stage and set.

    Returns:
        A checked predictions table: stages in the order of training, in each the sets train, validation, test, in each
        the cases in the split's order. The stage `segment` has no probabilities.

    Raises:
        RunError: No stage is finished, or a model cannot be read.
        DatasetError: The dataset lacks a case, or its patch is damaged.
    """
    description = run.description
    finished = [stage for stage in STAGES[description.model] if stage.name in run.finished_stages()]
    if not finished:
        raise RunError(
            "The run has nothing to evaluate.",
            case=run.folder,
            found="no finished stage",
            expected="at least one finished stage",
            remedy="Repeat the training of the run; it resumes where it stopped.",
        )
    sets, parts = _sets(description.task, dataset, split), []
    for stage in finished:
        network = stage.network(run.load_model(stage.name))
        for name, cases in sets.items():
            announce(f"predicting: stage {stage.name}, {name} set, {len(cases)} nodules")
            row = {"split": split.number, "set": name, "model": description.model, "stage": stage.name}
            parts.append(cases.predict(network, description.protocol.training.batch_size, **row, repeat=repeat))
    return _checked(parts, description.task)


def predict_transfer(
    classifier: RunFolder, segmenter: RunFolder, dataset: Dataset, split: Split, *, repeat: int = 1
) -> pd.DataFrame:
    """Predict with a classifier that was trained on reference masks and the soft masks of a U-Net (paper's Table 4).

    Args:
        classifier: A finished run of the model `reference`.
        segmenter: A run of the cascade with its first stage finished, on the same split.
        dataset: Their dataset.
        split: Their split.
        repeat: Number of this training.

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

    row = {"split": split.number, "model": TRANSFER.model, "stage": CLASSIFY.name, "repeat": repeat}
    sets = _sets(task, dataset, split).items()
    return _checked([cases.predict(network, batch_size, set=name, **row) for name, cases in sets], task)


def describe_run(run: RunFolder, dataset: Dataset) -> TrainedRun:
    """What was trained: the run's description, its versions and its finished stages.

    Args:
        run: The run.
        dataset: Its dataset; only the folder's name is used, so that a shared report names no home directory.
    """
    description = to_json(run.description)
    names = ("task", "model", "split", "seed", "precision", "select_on", "dataset_fingerprint")
    stages = (
        TrainedStage(entry["stage"], *(entry.get(key) for key in ("epochs", "best_epoch", "ended")))
        for entry in run.ledger.entries()
    )
    return TrainedRun(
        **{name: description[name] for name in names},
        dataset=dataset.folder.resolve().name,
        versions=run.versions,
        stages=tuple(stages),
    )


def _sets(task: Task, dataset: Dataset, split: Split) -> dict[str, CasePredictor]:
    """The sets of the split in which the task has nodules."""
    sets = {name: CasePredictor(dataset, getattr(split, name), task) for name in SETS}
    return {name: cases for name, cases in sets.items() if len(cases)}


def _checked(parts: list[pd.DataFrame], task: Task) -> pd.DataFrame:
    return check_predictions(pd.concat(parts, ignore_index=True)[columns(task.class_names)])
