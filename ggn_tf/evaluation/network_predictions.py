"""What a network answers about cases of a dataset."""

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
"""`network(patch, mask, training=False)` answers `mask`, `probabilities` or both (`training.stages.Network`)."""


class CasePredictor:
    """The nodules of a task among some cases, read once and asked about by several networks.

    Args:
        dataset: Holds the cases.
        case_ids: Those whose label the task leaves out are left out here too, as they were in training.
        task: Names the classes.
    """

    def __init__(self, dataset: Dataset, case_ids: Sequence[str], task: Task) -> None:
        """See the class."""
        self._task = task
        self._size = dataset.protocol.size
        self._records = nodules_of(dataset.select(case_ids), task)
        self._stream = CaseStream(dataset, [case.case_id for case in self._records], task) if self._records else None

    def __len__(self) -> int:
        """How many nodules."""
        return len(self._records)

    def answers(self, network: Network, batch_size: int, **told: Any) -> pd.DataFrame:
        """A row a nodule: case, patient, label, a column `p_<class>` a class, Dice.

        Args:
            network: Asked batch by batch.
            batch_size: Nodules at a time.
            told: Columns that are the same in every row, as `model`.

        Returns:
            NaN where the network does not segment, or does not classify. No rows where there are no nodules.
        """
        if self._stream is None:
            return pd.DataFrame()
        answer = traced_inference(network, (None, *[self._size] * 3, 1))
        answers = _gather(answer, self._stream.in_order(batch_size), self._task)
        return identify(self._records, self._task).assign(**told, **answers)


def _gather(answer: Network, batches: Iterable[Batch], task: Task) -> dict[str, np.ndarray]:
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
    return {**probability_columns(chance, task.class_names), "dice": np.concatenate(dice)}
