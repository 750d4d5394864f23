"""Small CTs with a nodule each, as files, and their case table."""

import csv
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.tables.table import Case, open_table, refuse
from tests.support.chest import tilt, write_dicom

LABELS = ("AAH", "MIA", "IAC")
# Contains the patch around the nodule, whose middle is voxel (12, 20, 20).
SIZE_ZYX = (28, 40, 40)
SPACING_MM_XYZ = (0.8, 0.8, 1.25)


def write_case_files(folder: Path, cases: int = 9, *, bad: tuple[int, ...] = ()) -> Path:
    """Write `cases` NIfTI volumes with masks and their table; the masks of the `bad` ones are empty.

    Patient k has the nodules 2k and 2k + 1. Case ids are SMITH-0000 and so on, patient ids MRN-0000.

    Returns:
        The table's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(cases):
        row = {
            "case_id": f"SMITH-{number:04d}",
            "patient_id": f"MRN-{number // 2:04d}",
            "image": f"SMITH-{number:04d}.nii",
            "mask": f"SMITH-{number:04d}-mask.nii",
            "label": LABELS[number % len(LABELS)],
            "sex": "FM"[number % 2],
        }
        hu, mask = _volume(number)
        _write(folder / row["image"], hu)
        _write(folder / row["mask"], mask * 0 if number in bad else mask)
        rows.append(row)
    table = folder / "cases.csv"
    write_table(table, rows)
    return table


def read_table(path: Path, label_column: str = "label") -> list[Case]:
    """The cases of a table of which every row is usable, or the error about the others."""
    table = open_table(path, label_column)
    refuse(table.all_errors(), table.path)
    return list(table.rows.values())


def read_rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_table(table: Path, rows: list[dict[str, str]]) -> None:
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def tilt_case(table: Path, number: int) -> None:
    """Exchange a case's CT for a series of a tilted gantry; its mask stays, as a program draws it on the slices."""
    rows = read_rows(table)
    image = sitk.ReadImage(str(table.parent / rows[number]["image"]))
    rows[number]["image"] = f"{rows[number]['case_id']}-tilted"
    tilt(write_dicom(image, table.parent / rows[number]["image"]))
    write_table(table, rows)


def shift_mask(table: Path, number: int) -> None:
    """Put a case's mask on another grid, half a voxel beside that of its CT."""
    path = table.parent / read_rows(table)[number]["mask"]
    image = sitk.ReadImage(str(path))
    image.SetOrigin(np.add(image.GetOrigin(), (0.4, 0.0, 0.0)).tolist())
    sitk.WriteImage(image, str(path))


def _volume(number: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(number)
    z, y, x = np.meshgrid(*(np.arange(size) for size in SIZE_ZYX), indexing="ij")
    far_mm = np.sqrt(((z - 12) * 1.25) ** 2 + ((y - 20) * 0.8) ** 2 + ((x - 20) * 0.8) ** 2)
    mask = (far_mm <= 4 + number % 3).astype(np.uint8)
    hu = np.where(mask == 1, -500, -850) + generator.integers(-50, 50, SIZE_ZYX)
    return hu.astype(np.int16), mask


def _write(path: Path, array: np.ndarray) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING_MM_XYZ)
    image.SetOrigin((-50.0, 20.0, -100.0))
    sitk.WriteImage(image, str(path))
