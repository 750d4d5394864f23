"""Datasets whose radiomic features are drawn: from the label, or from nothing."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ggn_tf.dataset.case_outcome import AcceptedCase
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.writer import write_dataset
from ggn_tf.protocol import PatchProtocol, SplitProtocol
from tests.support.synthetic import synthetic_nodules

PROTOCOL = PatchProtocol(size=8)
SETTINGS = {"software": "drawn", "bin_width_hu": 25.0}
LABELS = ("AAH", "IAC")


def write_features(
    folder: Path, values: np.ndarray, labels: list[str], *, nodules_per_patient: int = 2, seed: int = 0
) -> Dataset:
    """Write a dataset with one split.

    Args:
        folder: Must not exist.
        values: Features [N, F].
        labels: Of each nodule [N].
        nodules_per_patient: Consecutive nodules that share a patient.
        seed: Of the split.
    """

    def nodules() -> Iterator[AcceptedCase]:
        some = synthetic_nodules(len(labels), ("AAH",), nodules_per_patient, PROTOCOL)
        for nodule, label, row in zip(some, labels, values, strict=True):
            record = dataclasses.replace(nodule.record, label=label)
            features = {f"drawn_{number:03d}": float(value) for number, value in enumerate(row)}
            yield dataclasses.replace(nodule, record=record, radiomics=features)

    return write_dataset(
        folder,
        PROTOCOL,
        nodules(),
        split_protocol=SplitProtocol(),
        splits=1,
        seed=seed,
        previews=False,
        radiomics=SETTINGS,
    )


def drawn_labels(cases: int, seed: int = 0, names: tuple[str, ...] = LABELS) -> list[str]:
    return [names[index] for index in np.random.default_rng(seed).integers(0, len(names), cases)]


def telling(labels: list[str], features: int = 40, seed: int = 1) -> np.ndarray:
    """Noise [N, F], four features of which follow the label."""
    values = np.random.default_rng(seed).normal(size=(len(labels), features))
    names = sorted(set(labels))
    values[:, :4] += 1.5 * np.array([names.index(label) for label in labels])[:, np.newaxis]
    return values
