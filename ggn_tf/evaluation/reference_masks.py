"""Predictions of a cascade's classifier on the reference masks, for the error budget."""

import keras
import numpy as np
import pandas as pd

from ggn_tf.dataset.pipeline import CaseStream
from ggn_tf.dataset.records import Dataset
from ggn_tf.evaluation.statistics.predictions_table import probability_columns
from ggn_tf.evaluation.statistics.scores import gives_dice, gives_probabilities
from ggn_tf.models.names import CLASSIFICATION, SEGMENTATION
from ggn_tf.runs.run_folder import RunFolder


def predict_with_reference(run: RunFolder, dataset: Dataset, rows: pd.DataFrame) -> pd.DataFrame | None:
    """Multiply the patch by the reference mask instead of the predicted one (eq. 3), batch by batch.

    Args:
        run: The run.
        dataset: The dataset that the rows are of.
        rows: The run's predictions on one set.

    Returns:
        The rows of the last stage that segments and classifies, with the probabilities for the reference masks; None
        where there is no such stage, or the model has no mask in front of its classifier.

    Raises:
        RunError: The stage's model cannot be read.
        DatasetError: A case's patch is damaged.
    """
    stages = [part for _, part in rows.groupby("stage", sort=False) if gives_probabilities(part) and gives_dice(part)]
    if not stages:
        return None
    last = stages[-1]
    classifier = _masked_classifier(run.load_model(str(last["stage"].iloc[0])))
    if classifier is None:
        return None
    description = run.description
    stream = CaseStream(dataset, list(last["case"]), description.task)
    batches = stream.in_order(description.protocol.training.batch_size)
    outputs = [classifier.predict_on_batch(batch.patch * batch.mask) for batch in batches]
    probability = np.concatenate(outputs).astype(np.float64)
    return last.assign(**probability_columns(probability, description.task.class_names), dice=1.0)


def _masked_classifier(model: keras.Model) -> keras.Model | None:
    """The classifier behind the product of patch and mask; only a cascade has one."""
    names = {layer.name for layer in model.layers}
    return model.get_layer(CLASSIFICATION) if {SEGMENTATION, CLASSIFICATION} <= names else None
