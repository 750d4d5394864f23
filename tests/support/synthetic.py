"""Datasets made without a CT: balls in noise, whose density and size depend on the label."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ggn_tf.dataset.case_outcome import AcceptedCase
from ggn_tf.dataset.records import Dataset, digest_patch
from ggn_tf.dataset.writer import write_dataset
from ggn_tf.protocol import PatchProtocol, SplitProtocol
from tests.support.measured import case_record

LABELS = ("AAH", "AIS", "MIA", "IAC")


def write_synthetic_dataset(
    folder: Path,
    cases: int = 24,
    *,
    labels: Sequence[str] = LABELS,
    nodules_per_patient: int = 1,
    size: int = 32,
    splits: int = 2,
    seed: int = 0,
    previews: bool = False,
    cases_per_shard: int = 16,
    site: str = "",
    margin_mm: float = 0.0,
) -> Dataset:
    """Write a dataset of balls in noise; case k has label k modulo their number.

    Args:
        folder: A folder that does not exist.
        cases: Number of nodules, of at least three patients.
        labels: The labels; the later one is, the larger and denser the ball.
        nodules_per_patient: Consecutive cases that share a patient.
        size: Voxels along each axis.
        splits: Number of splits.
        seed: Seed of noise, sizes and splits.
        previews: Whether to draw contact sheets (slow for a test).
        cases_per_shard: Cases in a TFRecord file.
        site: Prefix of every id, so that another site has other patients.
        margin_mm: What is stored around each patch.
    """
    protocol = PatchProtocol(size=size, margin_mm=margin_mm)
    nodules = synthetic_nodules(cases, labels, nodules_per_patient, protocol, seed, site)
    return write_dataset(
        folder,
        protocol,
        nodules,
        split_protocol=SplitProtocol(),
        splits=splits,
        seed=seed,
        previews=previews,
        cases_per_shard=cases_per_shard,
    )


def synthetic_nodules(
    cases: int,
    labels: Sequence[str] = LABELS,
    nodules_per_patient: int = 1,
    protocol: PatchProtocol | None = None,
    seed: int = 0,
    site: str = "",
) -> Iterator[AcceptedCase]:
    """The nodules themselves, in the order of their ids."""
    protocol = protocol or PatchProtocol()
    generator = np.random.default_rng(seed)
    for number in range(cases):
        kind = number % len(labels)
        case_id, patient_id = f"{site}case-{number:04d}", f"{site}patient-{number // nodules_per_patient:04d}"
        yield synthetic_nodule(case_id, patient_id, labels[kind], kind / max(1, len(labels) - 1), protocol, generator)


def synthetic_nodule(
    case_id: str,
    patient_id: str,
    label: str,
    severity: float,
    protocol: PatchProtocol,
    generator: np.random.Generator,
) -> AcceptedCase:
    """One ball in noise; `severity`, from 0 to 1, sets its density and size."""
    size, spacing_mm_zyx = protocol.size, protocol.spacing_mm_zyx
    extent_mm = size * min(spacing_mm_zyx)
    radius_mm = extent_mm * (0.18 + 0.14 * severity + generator.uniform(0, 0.04))
    axes = [
        (np.arange(count) - (count - 1) / 2) * spacing
        for count, spacing in zip(protocol.stored_zyx, spacing_mm_zyx, strict=True)
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    mask = (z**2 + y**2 + x**2 <= radius_mm**2).astype(np.uint8)
    inside_hu = -650.0 + 600.0 * severity
    hu = np.where(mask == 1, inside_hu, -850.0) + generator.normal(0, 60, mask.shape)
    volume_mm3 = float(mask.sum() * np.prod(spacing_mm_zyx))
    record = case_record(
        case_id=case_id,
        patient_id=patient_id,
        label=label,
        columns={"sex": "F" if generator.uniform() < 0.5 else "M"},
        spacing_mm_zyx=spacing_mm_zyx,
        volume_mm3=volume_mm3,
        diameter_mm=float((6 * volume_mm3 / np.pi) ** (1 / 3)),
        longest_diameter_mm=2 * float(radius_mm),
        mean_hu=float(hu[mask == 1].mean()),
        solid_fraction=float((hu[mask == 1] > -300).mean()),
        covered_layers=size,
        digest=digest_patch(hu, mask),
    )
    return AcceptedCase(record, hu.astype(np.float32), mask)
