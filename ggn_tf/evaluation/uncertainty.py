"""What an export needs to say how sure its predictions are: thresholds of prediction sets, distributions of features.

Both come from nodules on which a model was not trained. The thresholds are from the validation set alone, so that the
test set can show their coverage; typicality needs no label, and its held-out nodules are those of both sets. The
validation set has also selected the weights, which makes the thresholds slightly optimistic.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from ggn_tf.dataset.pipeline import CaseStream, read_batches
from ggn_tf.dataset.records import Dataset
from ggn_tf.errors import RunError
from ggn_tf.evaluation.statistics.prediction_sets import fit_thresholds
from ggn_tf.evaluation.statistics.predictions_table import identify, nodules_of, probability_columns
from ggn_tf.evaluation.statistics.set_thresholds import SetThresholds
from ggn_tf.evaluation.statistics.typicality import FeatureDistribution, fit_distribution
from ggn_tf.models.features import FEATURES, with_features
from ggn_tf.runs.run_folder import RunFolder, open_run_dataset, read_run_split
from ggn_tf.training.monitor import traced_inference

MIRRORS: list[tuple[int, ...]] = [axes for count in range(4) for axes in itertools.combinations((1, 2, 3), count)]
"""The axes z, y, x of a batch along which it is reversed."""


@dataclass(frozen=True)
class Uncertainty:
    """What was measured on held-out nodules.

    Attributes:
        thresholds: Those of the mean probabilities of all members, on their common validation set.
        distributions: One per member.
    """

    thresholds: SetThresholds
    distributions: tuple[FeatureDistribution, ...]


@dataclass(frozen=True)
class _Measured:
    """Predictions of the validation set, as a table, and features of the nodules for training and of held-out ones."""

    rows: pd.DataFrame
    trained: np.ndarray
    held_out: np.ndarray


def measure_uncertainty(
    runs: Sequence[RunFolder],
    models: Sequence[keras.Model],
    coverage: float,
    *,
    mirrored: bool = False,
    own_dataset: Path | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> Uncertainty:
    """Measure what the export of one or several runs needs.

    The thresholds are fitted on the mean probabilities of all members, as the export compares them. Members of
    different splits have no common validation set: of its nodules some members would have learned.

    Args:
        runs: The members.
        models: The model of each, with a sub-model `classification`.
        coverage: Share of prediction sets that must contain the true class.
        mirrored: Whether probabilities are means over the eight mirrors of the patch.
        own_dataset: Where the runs' dataset is now; None where it was not moved.
        announce: Called with a line for each member.

    Raises:
        RunError: The runs are of different datasets or splits, a run's dataset is not there, or it has no validation
            nodule.
        GgnError: The features of a model have no distribution.
    """
    _refuse_different_splits(runs)
    tables, distributions = [], []
    for run, model in zip(runs, models, strict=True):
        announce(f"prediction sets and typicality: nodules of {run.folder.name}")
        measured = _measure(run, model, mirrored, own_dataset)
        tables.append(measured.rows)
        distributions.append(fit_distribution(measured.trained, measured.held_out))
    rows = pd.concat(tables)
    mean = rows.groupby(["case", "patient", "label"], as_index=False).mean()
    return Uncertainty(fit_thresholds(mean, coverage), tuple(distributions))


def _refuse_different_splits(runs: Sequence[RunFolder]) -> None:
    first, expected = runs[0], _split_of(runs[0])
    other = next((run for run in runs if _split_of(run) != expected), None)
    if other is not None:
        raise RunError(
            "Runs of different splits cannot have common prediction sets: some have learned of the nodules in the "
            "validation set of others, so that their mean probabilities have no thresholds with this coverage.",
            case=other.folder,
            found=_shown_split(other),
            expected=f"dataset and split of {first.folder}: {_shown_split(first)}",
            remedy="Export without a coverage, or export the runs of one split.",
            arguments=("coverage",),
        )


def _split_of(run: RunFolder) -> tuple[str, str | int]:
    description = run.description
    return description.dataset_fingerprint, description.split_digest or description.split


def _shown_split(run: RunFolder) -> str:
    fingerprint, split = _split_of(run)
    return f"dataset {fingerprint[:12]}, split {run.description.split} ({str(split)[:12]})"


def _measure(run: RunFolder, model: keras.Model, mirrored: bool, own_dataset: Path | None) -> _Measured:
    dataset, task = open_run_dataset(run, own_dataset), run.description.task
    split = read_run_split(run, dataset)
    validation = nodules_of(dataset.select(split.validation), task)
    if not validation:
        raise RunError(
            "The run has no nodules for the thresholds of prediction sets.",
            case=run.folder,
            found="no validation nodule of the task",
            expected="validation nodules of each class",
            remedy="Export without prediction sets, or train on a split with a larger validation set.",
            arguments=("coverage",),
        )
    infer = _inference(model, dataset)
    probability, features = _predict(run, dataset, split.validation, infer, MIRRORS if mirrored else MIRRORS[:1])
    trained, tested = (_predict(run, dataset, ids, infer, MIRRORS[:1])[1] for ids in (split.train, split.test))
    rows = identify(validation, task).assign(**probability_columns(probability, task.class_names))
    return _Measured(rows, trained, np.concatenate([features, tested]) if len(tested) else features)


_Inference = Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]


def _inference(model: keras.Model, dataset: Dataset) -> _Inference:
    network = with_features(model)
    return traced_inference(
        lambda patch, mask, training: network(patch, training=training), (None, *[dataset.protocol.size] * 3, 1)
    )


def _predict(
    run: RunFolder, dataset: Dataset, case_ids: Sequence[str], infer: _Inference, mirrors: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean probabilities [N, C] over mirrors, and features [N, F] without any, of the task's nodules."""
    task, batch_size = run.description.task, run.description.protocol.training.batch_size
    if not nodules_of(dataset.select(case_ids), task):
        return np.empty((0, len(task.classes))), np.empty((0, 0))
    stream, probabilities, features = CaseStream(dataset, case_ids, task), [], []
    for batch in read_batches(stream.in_order(batch_size), stream):
        outputs = [infer(tf.reverse(batch.patch, axes), batch.mask) for axes in mirrors]
        probabilities.append(np.mean([output["probabilities"].numpy() for output in outputs], axis=0, dtype=np.float64))
        features.append(tf.cast(outputs[0][FEATURES], tf.float32).numpy())
    return np.concatenate(probabilities), np.concatenate(features)
