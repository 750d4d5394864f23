"""No system sees a test label: trained and tested on shuffled labels, its AUC interval contains 0.5.

The same systems on the true labels show that the test has the power to detect a leak.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ggn_tf.dataset.case_outcome import AcceptedCase
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.dataset.writer import write_dataset
from ggn_tf.evaluation.baselines import MEASURES, predict_by_measure
from ggn_tf.evaluation.run_predictions import predict_run
from ggn_tf.evaluation.statistics.paired_tests import AucDifference
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.scores import class_indices, gives_probabilities
from ggn_tf.protocol import PatchProtocol, SplitProtocol
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.tasks import Task
from tests.support.single_auc import auc_interval
from tests.support.synthetic import synthetic_nodules
from tests.support.tiny_fit import fit, tiny_description

TASK = Task.parse("AAH,IAC")
CASES = 160


def write(folder: Path, shuffled: bool) -> Dataset:
    """Two kinds of balls, half of each; a shuffled label is independent of its ball."""
    nodules = list(synthetic_nodules(CASES, TASK.class_names, 2, PatchProtocol(size=16)))
    if shuffled:
        order = np.random.default_rng(1).permutation(CASES)
        nodules = [
            _relabelled(nodule, nodules[other].record.label) for nodule, other in zip(nodules, order, strict=True)
        ]
    parts = SplitProtocol(test_fraction=0.5)
    return write_dataset(
        folder, PatchProtocol(size=16), nodules, split_protocol=parts, splits=1, seed=0, previews=False
    )


def _relabelled(nodule: AcceptedCase, label: str) -> AcceptedCase:
    return dataclasses.replace(nodule, record=dataclasses.replace(nodule.record, label=label))


@pytest.fixture(scope="module", params=["shuffled", "true"])
def aucs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, AucDifference]]:
    """The AUC of every system on the test set, and the kind of labels."""
    folder = tmp_path_factory.mktemp(request.param)
    dataset = write(folder / "dataset", request.param == "shuffled")
    asked = _longer(dataclasses.replace(tiny_description(dataset), task=TASK))
    split = read_split(dataset, 1)
    frames = [predict_by_measure(dataset.case_by_id, split, TASK, measure) for measure in MEASURES]
    for model in ("raw", "reference", "cascade", "multitask"):
        run = fit(folder / model, dataclasses.replace(asked, model=model), dataset, stage=None)
        frames.append(predict_run(run, dataset, split))
    found = pd.concat(frames)
    systems = found[found["set"] == "test"].groupby(["model", "stage"])
    return request.param, {" ".join(key): _auc(rows) for key, rows in systems if gives_probabilities(rows)}


def _longer(asked: RunDescription) -> RunDescription:
    training = asked.protocol.training
    for name in ("segment", "classify", "joint"):
        stage = dataclasses.replace(getattr(training, name), max_epochs=4, learning_rate=3e-3)
        training = dataclasses.replace(training, **{name: stage})
    return dataclasses.replace(asked, protocol=dataclasses.replace(asked.protocol, training=training))


def _auc(rows: pd.DataFrame) -> AucDifference:
    label, _ = class_indices(rows)
    return auc_interval(label == 1, probabilities(rows)[:, 1], rows["patient"].to_numpy(dtype=str))


@pytest.mark.nightly
def test_shuffled_labels_cannot_be_predicted(aucs: tuple[str, dict[str, AucDifference]]):
    labels, found = aucs
    assert len(found) == 5 + len(MEASURES)
    predicted = {system: _differs_from_chance(auc) for system, auc in found.items()}
    assert predicted == dict.fromkeys(found, labels == "true"), found


def _differs_from_chance(auc: AucDifference) -> bool:
    """Whether the interval excludes 0.5; without spread, as at AUC 1, there is no interval."""
    return auc.value != 0.5 if auc.low is None or auc.high is None else not auc.low <= 0.5 <= auc.high
