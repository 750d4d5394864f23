"""`radiomics.csv`, the radiomic features of a dataset's nodules: written with it, verified at every read."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from ggn_tf.dataset.dataset_json import COPY_AGAIN, damaged, read_description
from ggn_tf.dataset.records import Dataset
from ggn_tf.errors import DatasetError
from ggn_tf.files import sha256
from ggn_tf.shown_text import from_spreadsheet, in_spreadsheet

RADIOMICS = "radiomics.csv"


@dataclass(frozen=True)
class RadiomicsTable:
    """The features of every nodule of a dataset.

    Attributes:
        features: float64, one row per nodule, indexed by case id, in the dataset's order; NaN where a mask is too small
            for a feature.
        settings: How they were measured: the result of `radiomics_settings`.
    """

    features: pd.DataFrame
    settings: dict[str, Any]

    def rows(self, case_ids: Sequence[str]) -> np.ndarray:
        """The features of these nodules, float64 [N, F], in the order of the ids."""
        values: np.ndarray = self.features.loc[list(case_ids)].to_numpy(dtype=np.float64)
        return values


class RadiomicsWriter:
    """Writes the nodules' features, measured with some settings, into a new dataset's folder; no file without them."""

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None) -> None:
        self._path = folder / RADIOMICS
        self._settings = settings
        self._names: list[str] = []

    def __enter__(self) -> Self:
        self._file = None if self._settings is None else self._path.open("w", encoding="utf-8", newline="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, case_id: str, features: Mapping[str, float] | None) -> None:
        """Write a nodule's features; every float is read back exactly.

        Raises:
            ValueError: Features are expected and missing, or have other names than the previous nodule's.
        """
        if self._file is None:
            return
        names = list(features or ())
        if not names or names != (self._names or names):
            raise ValueError(f"Expected features {self._names or 'of every nodule'}. Received: {names} of {case_id}")
        rows = csv.writer(self._file, lineterminator="\n")
        if not self._names:
            self._names = names
            rows.writerow(["case", *names])
        rows.writerow(
            [in_spreadsheet(case_id), *("" if np.isnan(value) else repr(value) for value in (features or {}).values())]
        )

    def description(self) -> dict[str, Any]:
        """The entry of `dataset.json` about the closed file; empty where there is none."""
        if self._settings is None:
            return {}
        return {"radiomics": {"file": RADIOMICS, "sha256": sha256(self._path), "settings": dict(self._settings)}}


def read_radiomics(dataset: Dataset) -> RadiomicsTable:
    """Read a dataset's radiomic features.

    Raises:
        DatasetError: The dataset was prepared without them, or the file is missing, changed, or about other cases.
    """
    stored = read_description(dataset.folder).get("radiomics")
    if stored is None:
        raise DatasetError(
            "The dataset has no radiomic features.",
            case=dataset.folder,
            found="a dataset that was prepared without them",
            expected=f"{RADIOMICS}: they are measured on the CT's own voxels, which patches do not contain",
            remedy="Prepare the dataset again with radiomic features, in another folder.",
            arguments=("radiomics", "output"),
        )
    path = dataset.folder / RADIOMICS
    try:
        expected, settings = str(stored["sha256"]), dict(stored["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(dataset.folder, f"radiomics: {type(error).__name__}: {error}") from error
    found = sha256(path) if path.is_file() else None
    if found != expected:
        raise DatasetError(
            "The dataset's radiomic features are not those that were written.",
            case=path,
            found="no file" if found is None else f"SHA-256 {found}",
            expected=f"SHA-256 {expected}",
            remedy=COPY_AGAIN,
        )
    features = pd.read_csv(path, dtype={"case": str}, float_precision="round_trip").set_index("case")
    if list(map(from_spreadsheet, features.index)) != [case.case_id for case in dataset.cases]:
        raise damaged(dataset.folder, f"{RADIOMICS} of other cases than the dataset's")
    features = features.rename(index=from_spreadsheet)
    return RadiomicsTable(features.astype(np.float64), settings)
