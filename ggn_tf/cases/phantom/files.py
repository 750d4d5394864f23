"""Synthetic chest CT with nodules of the four pathologies, as files and a case table."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.series_writer import write_series
from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.phantom.anatomy import Scanner, draw_chest
from ggn_tf.cases.phantom.rendering import render_chest
from ggn_tf.errors import GgnError
from ggn_tf.files import atomic_folder

# Table 1 of the paper.
PAPER_COUNTS = {"AAH": 32, "AIS": 193, "MIA": 335, "IAC": 180}
SCANNERS = (
    Scanner("Phantom A", (0.625, 0.55, 0.55), (80, 128, 128), blur_mm=0.40, noise_hu=32.0),
    Scanner("Phantom B", (1.0, 0.65, 0.65), (64, 112, 112), blur_mm=0.50, noise_hu=26.0),
    Scanner("Phantom C", (1.25, 0.70, 0.70), (56, 112, 112), blur_mm=0.55, noise_hu=22.0),
    Scanner("Phantom D", (1.25, 0.78, 0.78), (56, 104, 104), blur_mm=0.60, noise_hu=20.0, turned=True),
    Scanner("Phantom E", (2.0, 0.90, 0.90), (48, 96, 96), blur_mm=0.70, noise_hu=16.0),
)
_TURNED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
_STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def write_phantom(
    folder: Path,
    nodules: int = 120,
    seed: int = 0,
    container: Literal["dicom", "nifti"] = "dicom",
    on_patient: Callable[[int, int], None] | None = None,
) -> Path:
    """Write synthetic patients with nodules in the paper's proportions (Table 1), completely or not at all.

    Sizes and solid parts of neighbouring types overlap, and vessels and the chest wall are as dense as a nodule's core:
    the types can be distinguished by the nodule, not by its surroundings.

    Args:
        folder: A folder that does not exist or is empty.
        nodules: Number of nodules, at least one of each type.
        seed: The same seed gives the same voxels.
        container: CT as DICOM series or as .nii.gz. Masks are always .nii.gz.
        on_patient: Called after each patient with the number of patients done, and of all.

    Returns:
        The case table `cases.csv`: case_id, patient_id, image, mask, label, diameter_mm (of the ball of equal volume).

    Raises:
        GgnError: The folder is not empty, or there are fewer nodules than types.
    """
    folder = Path(folder)
    patients = _draw_patients(nodules, seed)
    try:
        with atomic_folder(folder) as temporary:
            rows = []
            for done, (patient, labels, sequence) in enumerate(patients, start=1):
                rows += _write_patient(temporary, patient, labels, np.random.default_rng(sequence), container)
                if on_patient is not None:
                    on_patient(done, len(patients))
            pd.DataFrame(rows).to_csv(temporary / "cases.csv", index=False)
    except FileExistsError as error:
        raise GgnError(
            "The phantom's folder is not empty.",
            case=folder,
            expected="a folder that does not exist or is empty",
            remedy="Name another folder, or remove this one.",
        ) from error
    return folder / "cases.csv"


def count_types(nodules: int) -> dict[str, int]:
    """The number of nodules of each type: the paper's proportions by largest remainder, at least one of each.

    >>> count_types(740)
    {'AAH': 32, 'AIS': 193, 'MIA': 335, 'IAC': 180}
    """
    if nodules < len(PAPER_COUNTS):
        raise GgnError(
            "The phantom has too few nodules.",
            found=nodules,
            expected=f"at least {len(PAPER_COUNTS)}, one of each type",
            remedy="Request more nodules.",
        )
    total = sum(PAPER_COUNTS.values())
    quotas = {label: nodules * count / total for label, count in PAPER_COUNTS.items()}
    counts = {label: max(1, int(quota)) for label, quota in quotas.items()}
    while sum(counts.values()) != nodules:
        step = 1 if sum(counts.values()) < nodules else -1
        label = max(counts, key=lambda key: step * (quotas[key] - counts[key]) if counts[key] + step > 0 else -np.inf)
        counts[label] += step
    return counts


def _draw_patients(nodules: int, seed: int) -> list[tuple[str, list[str], np.random.SeedSequence]]:
    """Patients with one to three nodules, each with its own seed: a patient does not depend on the previous ones."""
    labels = [label for label, count in count_types(nodules).items() for _ in range(count)]
    root = np.random.SeedSequence(seed)
    generator = np.random.default_rng(root.spawn(1)[0])
    generator.shuffle(labels)
    groups = []
    while labels:
        size = int(generator.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
        groups.append(labels[:size])
        labels = labels[size:]
    seeds = root.spawn(len(groups))
    return [
        (f"PHANTOM-{number:04d}", group, sequence)
        for number, (group, sequence) in enumerate(zip(groups, seeds, strict=True), start=1)
    ]


def _write_patient(
    folder: Path, patient: str, labels: Sequence[str], generator: np.random.Generator, container: str
) -> list[dict[str, str]]:
    scanner = SCANNERS[generator.integers(len(SCANNERS))]
    ct, masks = render_chest(draw_chest(labels, scanner, generator), generator)
    grid = _grid(scanner, generator)
    image = _write_ct(folder, patient, grid.image_of(ct), scanner, container)
    (folder / "masks").mkdir(exist_ok=True)
    rows = []
    for number, (label, mask) in enumerate(zip(labels, masks, strict=True), start=1):
        path = Path("masks", f"{patient}-{number}.nii.gz")
        sitk.WriteImage(grid.image_of(mask), str(folder / path))
        volume_mm3 = float(mask.sum() * np.prod(grid.spacing_mm_xyz))
        rows.append(
            {
                "case_id": f"{patient}-{number}",
                "patient_id": patient,
                "image": image.as_posix(),
                "mask": path.as_posix(),
                "label": label,
                "diameter_mm": f"{(6 * volume_mm3 / np.pi) ** (1 / 3):.1f}",
            }
        )
    return rows


def _grid(scanner: Scanner, generator: np.random.Generator) -> Grid:
    depth, height, width = scanner.size_zyx
    depth_mm, height_mm, width_mm = scanner.spacing_mm_zyx
    x, y, z = np.round(generator.uniform((-130, -60, -300), (-70, 60, -100)), 1).tolist()
    direction = _TURNED if scanner.turned else _STRAIGHT
    return Grid((width, height, depth), (width_mm, height_mm, depth_mm), (x, y, z), direction)


def _write_ct(folder: Path, patient: str, image: sitk.Image, scanner: Scanner, container: str) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    if container == "nifti":
        path = Path("images", f"{patient}.nii.gz")
        sitk.WriteImage(image, str(folder / path))
        return path
    path = Path("images", patient)
    (folder / path).mkdir()
    identity = {
        "0008|0050": f"ACC-{patient}",
        "0008|0070": "ggn-tf phantom",
        "0008|0080": "Phantom Hospital",
        "0008|1090": scanner.name,
        "0010|0010": f"Fake^{patient.title()}",
        "0010|0030": "19010101",
        "0018|1210": f"{scanner.blur_mm:g} mm",
    }
    write_series(image, folder / path, patient, identity)
    return path
