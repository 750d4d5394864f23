"""A network's predictions for cases of a dataset."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch, CaseStream
from ggn_tf.dataset.records import Dataset
from ggn_tf.evaluation.statistics.predictions_table import probability_columns
from ggn_tf.evaluation.task_nodules import identify, nodules_of
from ggn_tf.tasks import Task
from ggn_tf.training.inference import traced_inference
from ggn_tf.training.metrics import dice_score

Network = Callable[..., dict[str, tf.Tensor]]
"""`network(patch, mask, training=False)` returns `mask`, `probabilities` or both (`runs.stages`)."""


class CasePredictor:
    """The nodules of a task among some cases, read once and predicted by several networks.

    Args:
        dataset: The dataset of the cases.
        case_ids: Cases whose label is in no class of the task are left out, as in training.
        task: Names the classes.
    """

    def __init__(self, dataset: Dataset, case_ids: Sequence[str], task: Task) -> None:
        """Open the stream of the task's nodules."""
        self._task = task
        self._size = dataset.protocol.size
        self._records = nodules_of(dataset.select(case_ids), task)
        self._stream = CaseStream(dataset, [case.case_id for case in self._records], task) if self._records else None

    def __len__(self) -> int:
        """Number of nodules."""
        return len(self._records)

    def predict(self, network: Network, batch_size: int, **columns: Any) -> pd.DataFrame:
        """One row per nodule: case, patient, label, a column `p_<class>` for each class, Dice.

        Args:
            network: The network.
            batch_size: Number of nodules per batch.
            columns: Further columns that are the same in every row, for example `model`.

        Returns:
            NaN where the network does not segment, or does not classify. No rows where there are no nodules.
        """
        if self._stream is None:
            return pd.DataFrame()
        inference = traced_inference(network, (None, *[self._size] * 3, 1))
        outputs = _gather(inference, self._stream.in_order(batch_size), self._task)
        return identify(self._records, self._task).assign(**columns, **outputs)


def _gather(inference: Network, batches: Iterable[Batch], task: Task) -> dict[str, np.ndarray]:
    """Dice [N] and probabilities [N] of each class, reduced batch by batch so that masks never fill the memory."""
    dice, probabilities = [], []
    for batch in batches:
        outputs = inference(batch.patch, batch.mask)
        missing = np.full((len(batch.label), len(task.classes)), np.nan)
        reference = batch.mask.numpy()
        dice.append(dice_score(reference, outputs["mask"].numpy()) if "mask" in outputs else missing[:, 0])
        probabilities.append(outputs["probabilities"].numpy() if "probabilities" in outputs else missing)
    probability = np.concatenate(probabilities).astype(np.float64)
    return {**probability_columns(probability, task.class_names), "dice": np.concatenate(dice)}
